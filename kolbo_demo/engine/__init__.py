"""The local engine: a portrait or a clip and a voice become a video whose lips say it."""
