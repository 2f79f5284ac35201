"""Fits what the engine learns from people, and prints how well it does."""
