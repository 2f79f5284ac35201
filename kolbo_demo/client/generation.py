"""The handle of one generation: poll, wait, cancel, download."""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from kolbo_demo.client.download import Download, check_output_path
from kolbo_demo.client.errors import (
    ApiError,
    DownloadError,
    GenerationCancelledError,
    GenerationFailedError,
    InputError,
    KolboError,
    StillRunningError,
)
from kolbo_demo.client.transport import Transport
from kolbo_demo.contract import (
    API_PREFIX,
    CANCELLED,
    COMPLETED,
    FAILED,
    CancelReply,
    PreviewReply,
    StartReply,
    Status,
)
from kolbo_demo.media import sniff

WAIT_TIMEOUT_SECONDS = 3600.0
"""Default timeout of `events` and `wait`."""
DEFAULT_POLL_SECONDS = 8.0
"""Poll interval where the API gives no hint, as in Kolbo's documentation."""
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.2, 60.0
"""Bounds of the poll interval. 0.2 s is Kolbo's limit of 300 polls a minute."""
PREVIEW_TIMEOUT_SECONDS = 1.0
EAGER_POLL_SHARE = 0.1
"""Interval of eager polls as a share of the time since the first."""


class Generation:
    """One generation, running or finished. Its id is enough to reopen it."""

    def __init__(
        self,
        transport: Transport,
        generation_id: str,
        poll_interval: float | None = None,
        started: StartReply | None = None,
    ) -> None:
        """`poll_interval` is in seconds; None is `DEFAULT_POLL_SECONDS`. Raises `InputError` for a
        malformed id."""
        if not re.fullmatch(r"[\w.:~-]{1,200}", generation_id, re.ASCII) or not generation_id.strip(
            "."
        ):
            raise InputError("That is not a generation id. Copy it again, such as lip_abc123.")
        self._transport = transport
        self._path = f"{API_PREFIX}/generate/{generation_id}"
        self.id = generation_id
        interval = poll_interval if poll_interval and poll_interval > 0 else DEFAULT_POLL_SECONDS
        self.poll_interval = min(max(interval, MIN_POLL_SECONDS), MAX_POLL_SECONDS)
        self.started = started
        """The API's reply to the start; None for a generation reopened by its id."""
        self._last: Status | None = None

    def __repr__(self) -> str:
        return f"Generation({self.id!r})"

    def status(self) -> Status:
        """The current status, with retries. Raises `ApiError` or `UnreachableError`."""
        return self._poll(None)

    def events(self, timeout: float | None = None, *, eager: bool = False) -> Iterator[Status]:
        """Poll until a final status, which is the last one yielded. The first poll is immediate.

        `progress` starts at 0 and never decreases. Temporary failures (no connection, a busy
        server) are retried until the deadline. `eager` polls more often at first, for a service
        without a rate limit, so that a short generation is reported soon after its end.

        Raises `StillRunningError` after `timeout` seconds (None: an hour), `GenerationFailedError`
        if a completed generation has no video, and `ApiError` if the API refuses, such as
        `NotFoundError`.
        """
        start = time.monotonic()
        deadline = start + (WAIT_TIMEOUT_SECONDS if timeout is None else timeout)
        progress = 0.0
        while True:
            try:
                status = self._poll(deadline)
            except KolboError as error:
                if time.monotonic() < deadline:
                    raise
                raise self._still_running(error) from None
            progress = 100.0 if status.state == COMPLETED else max(progress, status.progress or 0.0)
            status = status.model_copy(update={"progress": progress})
            if status.state == COMPLETED and not (status.result and status.result.urls):
                raise GenerationFailedError(
                    f"Generation {self.id} finished without a video. Try again, or give its id to "
                    "Kolbo's support.",
                    self.id,
                    status,
                )
            yield status
            if status.final:
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._still_running()
            pause = self.poll_interval
            if eager:
                pause = min(
                    pause, max(MIN_POLL_SECONDS, EAGER_POLL_SHARE * (time.monotonic() - start))
                )
            time.sleep(min(pause, remaining))

    def wait(self, timeout: float | None = None) -> Status:
        """Poll until completed; the status, with `result.urls`.

        Raises `GenerationFailedError`, `GenerationCancelledError`, and what `events` raises.
        """
        *_, last = self.events(timeout)
        self.check(last)
        return last

    def check(self, status: Status) -> None:
        """Raises `GenerationFailedError` or `GenerationCancelledError` if the status is one."""
        if status.state == CANCELLED:
            raise GenerationCancelledError(f"Generation {self.id} was cancelled.", self.id, status)
        if status.state == FAILED:
            reason = status.error or (status.failure and status.failure.message) or ""
            reason = reason.strip()[:500].rstrip(".") or "no reason was given; try again"
            raise GenerationFailedError(f"The generation failed: {reason}.", self.id, status)

    def cancel(self) -> Status:
        """Cancel; the status afterwards: cancelled, or completed or failed if it was too late.

        Idempotent, so it is retried. Raises `ApiError` or `UnreachableError`.
        """
        try:
            reply = self._transport.post_idempotent(f"{self._path}/cancel", CancelReply)
        except ApiError as error:
            if error.status != 409:  # 409: there is nothing left to cancel
                raise
            return self.status()
        self._last = Status.model_validate({**reply.model_dump(), "generation_id": self.id})
        return self._last

    def preview(self) -> bytes | None:
        """The latest frame of a render of the local service, as a small JPEG; None while there is
        none. Raises `ApiError`, 404 where the API has no previews, or `UnreachableError`."""
        deadline = time.monotonic() + PREVIEW_TIMEOUT_SECONDS
        return self._transport.get(f"{self._path}/preview", PreviewReply, deadline=deadline).jpeg

    def download(
        self, path: str | Path, on_progress: Callable[[int, int | None], None] | None = None
    ) -> Path:
        """Save the video as `path`, whole or not at all; returns the path.

        The link is opened without the API key. `on_progress(done, total)` counts bytes; the total
        is None if the server does not send it. Raises `InputError` if `path` cannot be written,
        `DownloadError` if the video cannot be fetched, `StillRunningError` before the end, and
        what `check` raises.
        """
        path = Path(path)
        check_output_path(path)
        status = self._last if self._last and self._last.final else self.status()
        self.check(status)
        if not status.final:
            raise StillRunningError(
                f"Generation {self.id} is not finished yet. Wait for it, then download.",
                self.id,
                status,
            )
        if not (status.result and status.result.urls):
            raise DownloadError(f"Generation {self.id} has no video to download.")
        # In the same folder, so that the last step is a rename. Not the final name plus a suffix,
        # which could be too long for the file system.
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            api = self._transport
            url = status.result.urls[0]
            Download(url, api.base_url, on_progress, api.retry, api.timeouts).save_to(part)
            if sniff.kind_of(part) != "video":
                raise DownloadError(
                    "What came from the result's link is not a video. Try again later."
                )
            part.replace(path)
        except OSError as error:
            raise DownloadError(
                f"“{path}” could not be written ({error.strerror or error}). "
                "Check the disk and the folder's permissions."
            ) from None
        finally:
            part.unlink(missing_ok=True)
        return path

    def _poll(self, deadline: float | None) -> Status:
        answered_before = self.started is not None or self._last is not None
        self._last = self._transport.get(
            f"{self._path}/status", Status, deadline=deadline, answered_before=answered_before
        )
        return self._last

    def _still_running(self, error: KolboError | None = None) -> StillRunningError:
        reason = f" The last attempt to ask met this: {error}" if error else ""
        return StillRunningError(
            f"Generation {self.id} has not finished in the time given and may still be running. "
            f"Ask again later with its id.{reason}",
            self.id,
            self._last,
        )
