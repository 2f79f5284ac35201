"""What is known about a source and a voice before anything is sent.

Files are hostile, so they are opened in a child process (`analyst.py` asks, `worker.py` answers).
Nothing here renders: faces and sounds are found with the same parts that the engine uses.
"""

from kolbo_demo.preflight.inspector import Analyst, StoppedError
from kolbo_demo.preflight.types import Face, Picture, Source, Stretch, Voice

__all__ = ["Analyst", "Face", "Picture", "Source", "StoppedError", "Stretch", "Voice"]
