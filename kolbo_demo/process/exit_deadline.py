"""A bound on how long a process takes to end."""

import os
import signal
import socket
import threading
import time


def exit_within(seconds: float) -> None:
    """From now on, end this process `seconds` after SIGINT or SIGTERM, with exit code 0, unless it
    ends earlier by itself. To be called in the main thread, for signals that Python handles.

    The main thread may be blocked inside a library, and so may threads that the interpreter joins
    at its end: neither delays this.
    """
    near, far = socket.socketpair()
    far.setblocking(False)
    signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(near, far, seconds), daemon=True).start()


def _watch(near: socket.socket, far: socket.socket, seconds: float) -> None:
    with near, far:
        near.recv(1)
        time.sleep(seconds)
        os._exit(0)
