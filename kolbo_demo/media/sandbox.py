"""Inspect visitors' files in child processes that may crash, hang or run out of memory.

The functions return what those of `probe` return, and raise the same MediaError, but no byte of a
file is decoded in this process. A fork server that has the decoders loaded forks a child for each
file: it is limited in memory, processor time and wall-clock time, opens that file, writes none, and
is killed afterwards with all that it started. A file that takes down its child is reported as
unreadable.
"""

import base64
import contextlib
import ctypes
import logging
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.media.sniff import UNREADABLE, MediaError, MediaInfo, as_recording
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import (
    Child,
    ChildFailedError,
    Message,
    MessageQueue,
    call,
    parent_connection,
)
from kolbo_demo.process.confinement import (
    MAX_STDERR_BYTES,
    AllowedFiles,
    exit_after,
    limit_resources,
    limit_resources_for_picture,
)
from kolbo_demo.process.fork_server import ForkServer

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
"""For one file."""
_MEMORY_BYTES = 1536 * 1024**2
"""For one file: a picture of 50 megapixels with 16 bits takes about half."""
_START_TIMEOUT_SECONDS = 0.0 if fork_server.AVAILABLE else 30.0
"""For a child to load its libraries on a busy machine."""
_MAX_CHILDREN = max(2, os.cpu_count() or 1)
_M_ARENA_MAX = -8
ENTRY_POINT = "inspect"
"""Of `main`, on fork servers of other modules."""

_TOO_LONG = (
    "The file takes too long to be read: it is damaged or unusually packed. "
    "Save it again as MP4, or as JPEG if it is a picture, and choose the new copy."
)
_TOO_MUCH = "The file takes too much memory to be read: scale it down and try again."

_slots = FairSemaphore(_MAX_CHILDREN)
_own_server = ForkServer(__name__)
_shared_server: ForkServer | None = None


def inspect_source(path: Path, decode: bool = True) -> MediaInfo:
    """`probe.inspect_source` in a child."""
    return MediaInfo(**_call("inspect_source", path, decode=decode))


@as_recording()
def inspect_audio(path: Path) -> MediaInfo:
    """`probe.inspect_audio` in a child."""
    return MediaInfo(**_call("inspect_audio", path))


def max_audio_duration(path: Path, cutoff: float) -> float:
    """`duration_bound.max_audio_duration` in a child."""
    return _call("max_audio_duration", path, cutoff=cutoff)["seconds"]


def preview(path: Path, max_side: int, at: float = 0.0) -> "Image.Image":
    """`probe.frame_at` in a child, its longer side at most `max_side` pixels."""
    from PIL import Image

    result = _call("preview", path, max_side=max_side, at=at)
    return Image.frombytes("RGB", tuple(result["size"]), base64.b64decode(result["rgb"]))


@contextlib.contextmanager
def use_fork_server(server: ForkServer) -> Iterator[None]:
    """Until the block ends, fork children from a server of another module, which serves
    `ENTRY_POINT` and has the decoders loaded anyway."""
    global _shared_server  # noqa: PLW0603 - one for all threads
    _shared_server = server if fork_server.AVAILABLE else None
    try:
        yield
    finally:
        _shared_server = None


def _fork(messages: MessageQueue) -> Child:
    if _shared_server:
        return _shared_server.fork(messages, ENTRY_POINT)
    return _own_server.fork(messages)


def _call(operation: str, path: Path, **arguments: object) -> dict[str, Any]:
    absolute = str(Path(path).absolute())
    request = {"operation": operation, "path": absolute, **arguments}
    timeout = _START_TIMEOUT_SECONDS + TIMEOUT_SECONDS
    with _slots.acquire():
        try:
            answer = call(_fork, timeout, AllowedFiles(read=(absolute,)), **request)
        except ChildFailedError as error:
            raise MediaError(_TOO_LONG if error.timed_out else UNREADABLE) from error
        except ChildProcessError as error:
            raise MediaError(UNREADABLE) from error
    if "refused" in answer:
        raise MediaError(answer["refused"])
    if "result" not in answer:
        _log.error("inspecting a file failed: %s", answer.get("fault"))
        raise MediaError(UNREADABLE)
    return answer["result"]


# From here on: the child.


def main() -> None:
    """Inspect one file for the parent."""
    exit_after(TIMEOUT_SECONDS + 2)
    with contextlib.suppress(AttributeError):
        # glibc reserves 64 MB of address space a thread otherwise.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    with parent_connection() as (requests, send):
        request = next(requests)
        limit_resources(TIMEOUT_SECONDS, _MEMORY_BYTES, MAX_STDERR_BYTES)
        send(**_inspect(**request))


def _inspect(operation: str, path: str, **arguments: Any) -> Message:
    from kolbo_demo.media import probe

    file = Path(path)
    try:
        if operation in ("inspect_source", "preview") and (size := probe.picture_size(file)):
            limit_resources_for_picture(size[0] * size[1])
        return {"result": _run(operation, file, **arguments)}
    except MediaError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": _TOO_MUCH}
    except Exception:  # noqa: BLE001 - logged by the parent
        return {"fault": traceback.format_exc()}


def _run(operation: str, path: Path, **arguments: Any) -> dict[str, Any]:
    from kolbo_demo.media import duration_bound, probe

    match operation:
        case "inspect_source":
            return asdict(probe.inspect_source(path, **arguments))
        case "inspect_audio":
            return asdict(probe.inspect_audio(path))
        case "max_audio_duration":
            duration = probe.inspect_audio(path).duration or 0.0
            bound = duration_bound.max_audio_duration(path, **arguments)
            return {"seconds": max(duration, bound)}
        case _:
            side = arguments["max_side"]
            frame = probe.frame_at(path, arguments["at"], min_pixels=side**2)
            frame.thumbnail((side, side))
            return {"size": frame.size, "rgb": base64.b64encode(frame.tobytes()).decode()}


if __name__ == "__main__":
    from kolbo_demo.media import duration_bound, probe  # noqa: F401 - once for all children

    fork_server.serve(main)
