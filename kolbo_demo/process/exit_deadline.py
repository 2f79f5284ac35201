"""A limit on how long a process takes to exit."""

import os
import signal
import socket
import threading
import time


def exit_within(seconds: float) -> None:
    """From now on, exit with code 0 `seconds` after SIGINT or SIGTERM, unless the process exits
    earlier. Call it in the main thread, for signals that have a Python handler.

    It works while the main thread, or a thread that the interpreter joins, is blocked in a library.
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
