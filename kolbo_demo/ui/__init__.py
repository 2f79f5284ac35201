"""The page: what a visitor sees, and the generator behind its button."""

from kolbo_demo.ui.access.backend import Local
from kolbo_demo.ui.mount import mount
from kolbo_demo.ui.page import build
from kolbo_demo.ui.storage.uploads import clean_uploads

__all__ = ["Local", "build", "clean_uploads", "mount"]
