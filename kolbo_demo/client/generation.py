"""A generation as a handle: an id is all it takes to reopen one."""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from kolbo_demo.client.download import Download, check_target
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
    DEFAULT_POLL_SECONDS,
    FAILED,
    CancelReply,
    StartReply,
    Status,
)
from kolbo_demo.media import sniff

WAIT_SECONDS = 3600.0
"""How long to wait where nobody says: nothing waits for ever."""
SHORTEST_POLL, LONGEST_POLL = 0.2, 60.0
"""Seconds. 0.2 is the fastest that Kolbo's limit of 300 polls a minute allows."""
EAGER = 0.1
"""Pause between eager polls, as a share of the time since the first."""


class Generation:
    """One generation, running or finished."""

    def __init__(
        self,
        transport: Transport,
        generation_id: str,
        poll_interval: float | None = None,
        started: StartReply | None = None,
    ) -> None:
        """`poll_interval` is in seconds; None means 8, Kolbo's own habit. Raises `InputError` for
        an id that cannot be one."""
        if not re.fullmatch(r"[\w.:~-]{1,200}", generation_id, re.ASCII) or not generation_id.strip(
            "."
        ):
            raise InputError("That is not a generation id. Copy it again, such as lip_abc123.")
        self._transport = transport
        self._path = f"{API_PREFIX}/generate/{generation_id}"
        self.id = generation_id
        wanted = poll_interval if poll_interval and poll_interval > 0 else DEFAULT_POLL_SECONDS
        self.poll_interval = min(max(wanted, SHORTEST_POLL), LONGEST_POLL)
        self.started = started
        """What the API said when it started; None for a generation reopened by its id."""
        self._last: Status | None = None

    def __repr__(self) -> str:
        return f"Generation({self.id!r})"

    def status(self) -> Status:
        """Where it stands now. Raises `ApiError` and its kin, or `UnreachableError`."""
        return self._look(None)

    def events(self, timeout: float | None = None, *, eager: bool = False) -> Iterator[Status]:
        """Its statuses as they come, the first at once, the last a final one.

        Progress never goes backwards, and reads 0 before there is any. Whatever may pass by itself
        (no connection, a busy server) is waited out. `eager` polls more often at first, for a
        service of one's own: what takes little is not waited for much longer.

        Raises `StillRunningError` after `timeout` seconds (None: an hour), `GenerationFailedError`
        where it is called completed but has no video, and `ApiError` where the API refuses to say,
        such as `NotFoundError`.
        """
        begun = time.monotonic()
        deadline = begun + (WAIT_SECONDS if timeout is None else timeout)
        shown = 0.0
        while True:
            try:
                status = self._look(deadline)
            except KolboError as error:
                if time.monotonic() < deadline:
                    raise
                raise self._still_running(error) from None
            shown = 100.0 if status.state == COMPLETED else max(shown, status.progress or 0.0)
            status = status.model_copy(update={"progress": shown})
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
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._still_running()
            pause = self.poll_interval
            if eager:
                pause = min(pause, max(SHORTEST_POLL, EAGER * (time.monotonic() - begun)))
            time.sleep(min(pause, left))

    def wait(self, timeout: float | None = None) -> Status:
        """Its completed status, with `result.urls`.

        Raises `GenerationFailedError`, `GenerationCancelledError`, and what `events` raises.
        """
        *_, last = self.events(timeout)
        self.check(last)
        return last

    def check(self, status: Status) -> None:
        """Raises `GenerationFailedError` or `GenerationCancelledError` where the status says so."""
        if status.state == CANCELLED:
            raise GenerationCancelledError(f"Generation {self.id} was cancelled.", self.id, status)
        if status.state == FAILED:
            said = status.error or (status.failure and status.failure.message) or ""
            said = said.strip()[:500].rstrip(".") or "no reason was given; try again"
            raise GenerationFailedError(f"The generation failed: {said}.", self.id, status)

    def cancel(self) -> Status:
        """Stops it, and gives where it stands then: cancelled, or finished where it was too late.

        Cancelling twice does no harm, so a lost answer is asked for again.
        """
        try:
            reply = self._transport.post_again(f"{self._path}/cancel", CancelReply)
        except ApiError as error:
            if error.status != 409:  # 409: there is nothing left to cancel
                raise
            return self.status()
        self._last = Status.model_validate({**reply.model_dump(), "generation_id": self.id})
        return self._last

    def download(
        self, path: str | Path, on_progress: Callable[[int, int | None], None] | None = None
    ) -> Path:
        """Saves the video under `path`, whole or not at all, and gives the path.

        The link is opened without the key. `on_progress` gets the bytes so far and in all (None
        where the server does not say). Raises `InputError` where nothing can be saved there,
        `DownloadError` where the video cannot be fetched, `StillRunningError` where there is none
        yet, and what `wait` raises for a generation that failed.
        """
        path = Path(path)
        check_target(path)
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
        # In the same folder, so that the last step is a rename; not under the final name plus
        # something, which could be too long for the file system.
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            self._download(status.result.urls[0], on_progress).into(part)
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

    def _download(
        self, url: str, on_progress: Callable[[int, int | None], None] | None
    ) -> Download:
        transport = self._transport
        return Download(url, transport.base_url, on_progress, transport.retry, transport.timeouts)

    def _look(self, deadline: float | None) -> Status:
        known = self.started is not None or self._last is not None
        self._last = self._transport.get(
            f"{self._path}/status", Status, deadline=deadline, known=known
        )
        return self._last

    def _still_running(self, met: KolboError | None = None) -> StillRunningError:
        why = f" The last attempt to ask met this: {met}" if met else ""
        return StillRunningError(
            f"Generation {self.id} has not finished in the time given and may still be running. "
            f"Ask again later with its id.{why}",
            self.id,
            self._last,
        )
