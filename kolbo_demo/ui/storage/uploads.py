"""Files that visitors upload before they generate anything: where they lie, and how long."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from kolbo_demo import clock, private_folder
from kolbo_demo.safe_file import UnsafeFileError, resolve_regular_file
from kolbo_demo.ui.storage.disk import remove
from kolbo_demo.ui.storage.folders import TICKET, Folders
from kolbo_demo.ui.storage.quota import Quota

POLL_SECONDS = 1800
KEEP_SECONDS = 6 * 3600
"""No generation takes so long, so none loses its input."""


class Uploads(Folders):
    """A folder for each upload, in Gradio's."""

    def __init__(self, root: Path, quota: Quota) -> None:
        self._since = time.time()
        super().__init__(root, quota)
        for folder in self.root.iterdir():
            if TICKET.fullmatch(folder.name) and list(parts(folder)):
                remove(folder)  # its process was killed while it arrived

    def busy(self, ticket: str) -> bool:
        """Whether Gradio keeps it for the page itself: it was there before any visitor."""
        try:
            return not TICKET.fullmatch(ticket) and (
                (self.root / ticket).lstat().st_mtime <= self._since
            )
        except OSError:
            return True

    def expired(self, ticket: str, seconds: float) -> bool:
        """Gradio's own folders are its own to clean."""
        return bool(TICKET.fullmatch(ticket)) and seconds > KEEP_SECONDS


def parts(folder: Path) -> Iterator[Path]:
    """Files that Gradio has not named: of uploads under way, and of fields it does not use."""
    return (path for path in folder.glob(f"{tempfile.gettempprefix()}*") if not path.is_dir())


def uploaded(path: str) -> Path:
    """An upload of this page. Raises `gr.Error` for any other file, and for a link to one."""
    try:
        return resolve_regular_file(path, Path(get_upload_folder()))
    except UnsafeFileError as error:
        raise gr.Error(str(error), print_exception=False) from None


def clean_uploads(folder: Path) -> None:
    """Remove what grew old in a folder of uploads, now and from now on.

    Gradio removes those that it took since it was started. What is left by one that was killed, it
    does not know.
    """
    private_folder.try_create(folder)
    threading.Thread(target=_run, args=(folder,), daemon=True).start()


def _run(folder: Path) -> None:
    while True:
        with contextlib.suppress(OSError):  # gone meanwhile
            for path in folder.rglob("*"):
                _clean(path)
        time.sleep(POLL_SECONDS)


def _clean(path: Path) -> None:
    with contextlib.suppress(OSError):
        if clock.now() - path.lstat().st_mtime <= KEEP_SECONDS:
            return
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # if it is empty
        else:
            path.unlink()
