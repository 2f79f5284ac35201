"""Result files: fetched whole, without a key, with the retry policy of everything else."""

import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from kolbo_demo.client.answers import Silence
from kolbo_demo.client.errors import DownloadError, InputError
from kolbo_demo.client.retry import Retry, retry_after
from kolbo_demo.client.transport import CONNECT_SECONDS, READ_SECONDS, bare_session


@dataclass(frozen=True)
class _Hitch:
    """Why one attempt to fetch failed."""

    why: str
    again: bool
    asked: float | None = None


def check_target(path: Path) -> None:
    """Raises `InputError` where no file can be saved under this name, as far as can be told."""
    try:
        if not path.parent.is_dir():
            raise InputError(f"The folder “{path.parent}” does not exist. Make it first.")
        with tempfile.TemporaryFile(dir=path.parent), suppress(FileNotFoundError):
            if stat.S_ISDIR(mode := path.stat().st_mode):
                raise InputError(f"“{path}” is a folder. Give a file name, such as result.mp4.")
            if not stat.S_ISREG(mode):  # a device, which a result must not replace
                raise InputError(f"“{path}” is no ordinary file. Give another name.")
    except OSError as error:
        raise InputError(
            f"Nothing can be saved as “{str(path)[:200]}” ({error.strerror}). "
            "Give another folder or name."
        ) from None


def fetch(url: str, to: Path, on_progress: Callable[[int, int | None], None] | None) -> None:
    """Fetches a result file into `to`, whole. `on_progress` gets the bytes so far and in all.

    Raises `DownloadError`, or OSError where the disk refuses; what is in `to` then is the caller's
    to remove.
    """
    retry, attempt = Retry(), 0
    while hitch := _fetch_once(url, to, on_progress):
        attempt += 1
        if not hitch.again or attempt == retry.attempts:
            break
        time.sleep(retry.pause(attempt - 1, hitch.asked))
    else:
        return
    raise DownloadError(
        f"The video could not be downloaded: {hitch.why}. Try the download again later; the "
        "generation itself is done."
    )


def _fetch_once(
    url: str, to: Path, on_progress: Callable[[int, int | None], None] | None
) -> _Hitch | None:
    done, total = 0, None
    with to.open("wb") as file:
        try:
            with (
                bare_session(url) as session,
                session.get(
                    url,
                    headers={"Accept-Encoding": "identity"},  # so that Content-Length counts
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                    stream=True,
                ) as response,
            ):
                if response.status_code != 200:
                    return _Hitch(
                        f"its link answers with HTTP {response.status_code}",
                        Retry.worth(response.status_code),
                        retry_after(response.headers.get("Retry-After")),
                    )
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdecimal() else None
                while piece := response.raw.read(1 << 18):
                    file.write(piece)
                    done += len(piece)
                    if on_progress:
                        on_progress(done, total)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            lost = not isinstance(error, ValueError)  # a ValueError is a link that is none
            return _Hitch(Silence.of(error).why if lost else "its link cannot be opened", lost)
        file.flush()
        os.fsync(file.fileno())
    if not done or (total is not None and done != total):
        return _Hitch(f"only {done} of {total} bytes came", again=True)
    return None
