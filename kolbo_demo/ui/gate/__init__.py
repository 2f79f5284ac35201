"""The gate in front of Gradio: routes, events, sessions and uploads."""
