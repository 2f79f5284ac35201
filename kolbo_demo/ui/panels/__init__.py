"""Panels of the page, one file each."""
