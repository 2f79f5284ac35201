"""Panels of the page, one a module."""
