"""How often Gradio's queue looks for events: rarely while nobody uses the page.

Gradio's own thousand looks a second take a twelfth of a core.
"""

import asyncio

from gradio.queueing import Queue

POLL_SECONDS = 0.02
IDLE_POLL_SECONDS = 0.5
QUIET_SECONDS = 10.0
"""Without a request, before the page counts as idle."""


class QueuePolling:
    """Sets how often a queue looks for events."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._last_request = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._poll_every(IDLE_POLL_SECONDS)

    def request(self) -> None:
        """Look often from now on; to be called with each request, in the event loop."""
        self._last_request = asyncio.get_running_loop().time()
        if self._timer is None:
            self._poll_every(POLL_SECONDS)
            self._check_in(QUIET_SECONDS)

    def _check(self) -> None:
        left = self._last_request + QUIET_SECONDS - asyncio.get_running_loop().time()
        if left > 0:
            self._check_in(left)
        elif any(self._queue.active_jobs):  # an event may stream its progress for minutes
            self._check_in(QUIET_SECONDS)
        else:
            self._timer = None
            self._poll_every(IDLE_POLL_SECONDS)

    def _check_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _poll_every(self, seconds: float) -> None:
        self._queue.sleep_when_free = seconds
        self._queue.progress_update_sleep_when_free = seconds
