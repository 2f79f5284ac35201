"""The page: what a visitor sees, and the generator behind its button."""

from kolbo_demo.ui import stubs

stubs.leave_out()

from kolbo_demo.ui.access import Local  # noqa: E402 - Gradio is imported here
from kolbo_demo.ui.mount import mount  # noqa: E402
from kolbo_demo.ui.page import build  # noqa: E402
from kolbo_demo.ui.server import serve  # noqa: E402
from kolbo_demo.ui.uploads import clean_uploads  # noqa: E402

__all__ = ["Local", "build", "clean_uploads", "mount", "serve"]
