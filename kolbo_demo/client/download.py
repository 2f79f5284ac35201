"""Result files: fetched whole, without a key, with the retry policy of everything else."""

import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from kolbo_demo.client.errors import DownloadError, InputError
from kolbo_demo.client.responses import Silence
from kolbo_demo.client.retry import Retry, retry_after
from kolbo_demo.client.session import PrivateAddressError, Timeouts, bare_session
from kolbo_demo.ip_policy import is_private_host
from kolbo_demo.media import sniff

MAX_REDIRECTS = 5
_PIECE = 1 << 18


@dataclass(frozen=True)
class _Hitch:
    """Why one attempt to fetch failed."""

    why: str
    again: bool = True
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


class Download:
    """One result file on its way to disk.

    What has come is kept between attempts. The next one asks for the rest, provided that the server
    names the version of the file (`ETag`, `Last-Modified`), so that no two versions are mixed.
    """

    def __init__(
        self,
        url: str,
        asked: str,
        on_progress: Callable[[int, int | None], None] | None = None,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """`asked` is the address of the API that named `url`: a public API may not lead to private
        addresses. `on_progress` gets the bytes so far, which never become fewer, and in all."""
        self._url = url
        self._public = not is_private_host(urlsplit(asked).hostname or "")
        self._on_progress = on_progress
        self._retry = retry
        self._timeouts = timeouts
        self._done = 0
        self._furthest = 0
        self._total: int | None = None
        self._version: str | None = None
        self._framed = False
        """Whether HTTP itself tells where the file ends."""

    def into(self, to: Path) -> None:
        """Fetches it, whole.

        Raises `DownloadError`, or OSError where the disk refuses; what is in `to` then is the
        caller's to remove.
        """
        deadline = time.monotonic() + self._timeouts.download
        fruitless = 0  # attempts in a row that brought nothing new
        with to.open("wb") as file:
            while True:
                before = self._furthest
                hitch = self._attempt(file)
                if hitch is None:
                    file.flush()
                    os.fsync(file.fileno())
                    if self._framed or not sniff.is_truncated(to):
                        return
                    hitch = self._afresh("it stops before its end")
                fruitless = 0 if self._furthest > before else fruitless + 1
                pause = self._retry.pause(max(fruitless - 1, 0), hitch.asked)
                if (
                    not hitch.again
                    or fruitless == self._retry.attempts
                    or time.monotonic() + pause > deadline
                ):
                    break
                time.sleep(pause)
        raise DownloadError(
            f"The video could not be downloaded: {hitch.why}. Try the download again later; the "
            "generation itself is done."
        )

    def _attempt(self, file: BinaryIO) -> _Hitch | None:
        url, public = self._url, self._public
        try:
            for _ in range(MAX_REDIRECTS + 1):
                private = is_private_host(urlsplit(url).hostname or "")
                if private and public:
                    return _Hitch("its link leads to a private address", again=False)
                public = not private
                with (
                    bare_session(url, public_only=public) as session,
                    session.get(
                        url,
                        headers=self._wanted(),
                        timeout=(self._timeouts.connect, self._timeouts.read),
                        allow_redirects=False,
                        stream=True,
                    ) as response,
                ):
                    target = session.get_redirect_target(response)
                    if target is None:
                        return self._receive(response, file)
                    url = urljoin(url, target)
        except PrivateAddressError:
            return _Hitch("its link leads to a private address", again=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, ValueError):  # a link that is none
                return _Hitch("its link cannot be opened", again=False)
            return _Hitch(Silence.of(error).why)
        except ValueError:
            return _Hitch("its link cannot be opened", again=False)
        return _Hitch("its link leads from one redirect to the next", again=False)

    def _wanted(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # so that Content-Length counts
        if self._done and self._version:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._version}
        return headers

    def _receive(self, response: requests.Response, file: BinaryIO) -> _Hitch | None:
        status, headers = response.status_code, response.headers
        if status not in (200, 206):
            if status == 416:
                return self._afresh("its server does not have the rest")
            # 404: a file may reach the servers that hand it out a little after the API names it.
            return _Hitch(
                f"its link answers with HTTP {status}",
                Retry.worth(status) or status == 404,
                retry_after(headers),
            )
        if headers.get("Content-Type", "").startswith(("text/html", "application/xhtml")):
            return _Hitch("its link gives a web page instead")
        length = headers.get("Content-Length", "")
        if status == 206:
            start, total = _range(headers.get("Content-Range", ""))
            other = self._version != headers.get("ETag", self._version)
            if start != self._done or other or self._total not in (None, total):
                return self._afresh("its server sends another part than the one asked for")
            self._total = total
        else:
            self._done = 0
            self._total = int(length) if length.isdecimal() else None
            self._version = _version(headers)
        self._framed = self._total is not None or "Transfer-Encoding" in headers
        file.seek(self._done)
        file.truncate()
        # read1, since what a longer read had gathered would be lost with the connection
        while piece := response.raw.read1(_PIECE):
            file.write(piece)
            self._done += len(piece)
            self._furthest = max(self._furthest, self._done)
            if self._on_progress:
                self._on_progress(self._furthest, self._total)
        if not self._done or (self._total is not None and self._done != self._total):
            return _Hitch(f"only {self._done} of {self._total} bytes came")
        return None

    def _afresh(self, why: str) -> _Hitch:
        """What has come is worth nothing: the next attempt begins at the beginning."""
        self._done, self._total, self._version = 0, None, None
        return _Hitch(why)


def _version(headers: Mapping[str, str]) -> str | None:
    """What `If-Range` may be given: a strong ETag or a date (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _range(text: str) -> tuple[int | None, int | None]:
    """First byte and length of the whole of a `Content-Range`."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
    if not match:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])
