"""Training of the engine's learned models, and their evaluation."""
