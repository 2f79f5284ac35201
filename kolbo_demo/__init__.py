"""Kolbo Lipsync: make a portrait or a clip say what a recording says."""

import os

# onnxruntime, which speaks the words typed in, reports to its vendor since 1.29 unless told not to
# before it is imported. Nobody is contacted whom the visitor did not ask for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
