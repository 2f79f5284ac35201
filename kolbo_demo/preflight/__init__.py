"""Inspection of a source and a voice before they are sent, and their trimming.

Files are untrusted, so `inspector.py` has them opened by child processes that run `worker.py`.
Faces and speech are detected with the parts that the engine renders with.
"""

from kolbo_demo.preflight.inspector import CancelledError, Inspector
from kolbo_demo.preflight.types import Face, FacelessSpan, Preview, Source, Voice

__all__ = ["CancelledError", "Face", "FacelessSpan", "Inspector", "Preview", "Source", "Voice"]
