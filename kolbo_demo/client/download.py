"""Download of a result file: resumable, without the API key."""

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
from kolbo_demo.client.responses import NoResponse
from kolbo_demo.client.retry import Backoff, Retry, parse_retry_after
from kolbo_demo.client.session import PrivateAddressError, Timeouts, stateless_session
from kolbo_demo.contract import is_retryable_status
from kolbo_demo.ip_policy import is_private_host
from kolbo_demo.media import sniff

MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class _FailedAttempt:
    """Why an attempt failed, to complete a sentence."""

    reason: str
    retryable: bool = True
    retry_after: float | None = None


def check_output_path(path: Path) -> None:
    """Raises `InputError` if a file cannot be saved as `path`, as far as is known in advance."""
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
    """The download of one result file.

    Received bytes are retained between attempts. The next attempt requests the rest if the server
    identifies the version of the file (`ETag`, `Last-Modified`), so that no two versions mix.
    """

    def __init__(
        self,
        url: str,
        api_url: str,
        on_progress: Callable[[int, int | None], None] | None = None,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """`api_url` is the API that named `url`: a public API must not lead to private addresses.
        `on_progress` gets the bytes received, which never decrease, and the total."""
        self._url = url
        self._public = not is_private_host(urlsplit(api_url).hostname or "")
        self._on_progress = on_progress
        self._retry = retry
        self._timeouts = timeouts
        self._done = 0
        self._max_done = 0
        self._total: int | None = None
        self._version: str | None = None
        self._framed = False
        """Whether HTTP itself marks the end of the file."""

    def save_to(self, path: Path) -> None:
        """Download the whole file.

        Raises `DownloadError`, or OSError if `path` cannot be written. The caller removes what an
        error leaves in `path`.
        """
        backoff = Backoff(self._retry, time.monotonic() + self._timeouts.download)
        with path.open("wb") as file:
            while True:
                before = self._max_done
                failure = self._attempt(file)
                if failure is None:
                    file.flush()
                    os.fsync(file.fileno())
                    if self._framed or not sniff.is_truncated(path):
                        return
                    failure = self._restart("it stops before its end")
                progress = self._max_done > before
                pause = backoff.next_pause(failure.retry_after, progress=progress)
                if not failure.retryable or pause is None:
                    break
                time.sleep(pause)
        raise DownloadError(
            f"The video could not be downloaded: {failure.reason}. Try the download again "
            "later; the generation itself is done."
        )

    def _attempt(self, file: BinaryIO) -> _FailedAttempt | None:
        url, public = self._url, self._public
        try:
            for _ in range(MAX_REDIRECTS + 1):
                private = is_private_host(urlsplit(url).hostname or "")
                if private and public:
                    return _FailedAttempt("its link leads to a private address", retryable=False)
                public = not private
                with (
                    stateless_session(url, public_only=public) as session,
                    session.get(
                        url,
                        headers=self._request_headers(),
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
            return _FailedAttempt("its link leads to a private address", retryable=False)
        except ValueError:  # a link that is none, also of requests and urllib3
            return _FailedAttempt("its link cannot be opened", retryable=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return _FailedAttempt(NoResponse.of(error).reason)
        return _FailedAttempt("its link leads from one redirect to the next", retryable=False)

    def _request_headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # so that Content-Length counts
        if self._done and self._version:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._version}
        return headers

    def _receive(self, response: requests.Response, file: BinaryIO) -> _FailedAttempt | None:
        status, headers = response.status_code, response.headers
        if status not in (200, 206):
            if status == 416:
                return self._restart("its server does not have the rest")
            # 404: a file may reach the servers that hand it out a little after the API names it.
            return _FailedAttempt(
                f"its link answers with HTTP {status}",
                is_retryable_status(status) or status == 404,
                parse_retry_after(headers),
            )
        if headers.get("Content-Type", "").startswith(("text/html", "application/xhtml")):
            return _FailedAttempt("its link gives a web page instead")
        length = headers.get("Content-Length", "")
        if status == 206:
            start, total = _parse_content_range(headers.get("Content-Range", ""))
            changed = self._version != headers.get("ETag", self._version)
            if start != self._done or changed or self._total not in (None, total):
                return self._restart("its server sends another part than the one asked for")
            self._total = total
        else:
            self._done = 0
            self._total = int(length) if length.isdecimal() else None
            self._version = _validator(headers)
        self._framed = self._total is not None or "Transfer-Encoding" in headers
        file.seek(self._done)
        file.truncate()
        # read1, because a longer read loses its bytes if the connection breaks
        while chunk := response.raw.read1(_CHUNK_BYTES):
            file.write(chunk)
            self._done += len(chunk)
            self._max_done = max(self._max_done, self._done)
            if self._on_progress:
                self._on_progress(self._max_done, self._total)
        if not self._done or (self._total is not None and self._done != self._total):
            return _FailedAttempt(f"only {self._done} of {self._total} bytes came")
        return None

    def _restart(self, reason: str) -> _FailedAttempt:
        """Discard what was received: the next attempt starts at byte 0."""
        self._done, self._total, self._version = 0, None, None
        return _FailedAttempt(reason)


def _validator(headers: Mapping[str, str]) -> str | None:
    """The value for `If-Range`: a strong ETag or a date (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _parse_content_range(text: str) -> tuple[int | None, int | None]:
    """First byte and total length; None where unknown."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
    if not match:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])
