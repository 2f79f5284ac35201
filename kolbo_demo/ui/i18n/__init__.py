"""Texts of the page, and the language of a visitor."""
