"""The page.

Gradio and the Hugging Face libraries read these variables when they are imported, so they are set
before. Nobody is contacted whom the visitor did not ask for.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from kolbo_demo.ui.access import Local
from kolbo_demo.ui.mount import mount
from kolbo_demo.ui.page import build
from kolbo_demo.ui.server import serve

__all__ = ["Local", "build", "mount", "serve"]
