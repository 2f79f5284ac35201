"""Kolbo's lipsync API, answered by the engine in this repository."""
