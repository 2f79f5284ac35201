"""Kolbo Lipsync: make a portrait or a clip say what a recording says.

Some libraries report usage to their makers unless these variables say no when they are imported,
hence here, before any of them. Nobody is contacted whom the visitor did not ask for.

numpy's matrix library starts a thread a core when it is imported. They wait by spinning, on the
cores that encode and warp: one thread a library is faster by far.
"""

import os

__version__ = "0.1.0"

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
