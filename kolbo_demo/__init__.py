"""Kolbo Lipsync: make a portrait or a clip say what a recording says."""
