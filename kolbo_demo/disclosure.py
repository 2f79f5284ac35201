"""Texts that disclose that a video is AI-generated: in its picture, metadata and manifest."""

MARK_TEXT = "AI-generated"
"""Drawn into the picture."""
COMMENT = "AI-generated: the lips in this video were made by Kolbo Lipsync."
"""Comment in the metadata of each result, and description of the action in its manifest."""
