"""Files that visitors upload before they generate anything: how long they stay."""

import contextlib
import threading
import time
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from kolbo_demo.safe_file import UnsafeFileError, regular_file

LOOK_SECONDS = 1800
KEEP_SECONDS = 6 * 3600
"""No generation takes so long, so none loses its input."""


def uploaded(path: str) -> Path:
    """An upload of this page. Raises `gr.Error` for any other file, and for a link to one."""
    try:
        return regular_file(path, Path(get_upload_folder()))
    except UnsafeFileError as error:
        raise gr.Error(str(error), print_exception=False) from None


def clean_uploads(folder: Path) -> None:
    """Remove what grew old in a folder of uploads, now and from now on.

    Gradio removes those that it took since it was started. What is left by one that was killed, it
    does not know.
    """
    threading.Thread(target=_run, args=(folder,), daemon=True).start()


def _run(folder: Path) -> None:
    while True:
        with contextlib.suppress(OSError):  # gone meanwhile, or not there yet
            for path in folder.rglob("*"):
                if path.is_file() and time.time() - path.lstat().st_mtime > KEEP_SECONDS:
                    path.unlink(missing_ok=True)
        time.sleep(LOOK_SECONDS)
