"""Cost of content credentials: processor seconds and peak memory of the child that signs a video
and of the one that reads it, for a short and a large one; and installed size of the library."""

import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import c2pa

from benchmarks.media import PORTRAIT
from kolbo_demo.credentials.manifest import rendered
from kolbo_demo.credentials.reading import read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.settings import Settings

CLIP = PORTRAIT.with_name("clip.mp4")
LARGE_MB = 400


def measure() -> dict[str, float]:
    """Seconds, MB of memory and of disk. The memory of a child counts those before it too."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signer = Signer(Settings(data_dir=folder, signing_dir=folder))
        production = rendered(PORTRAIT, CLIP, clip=False, visible_mark=True)
        for label, megabytes in (("short", 0), ("large", LARGE_MB)):
            video = folder / f"{label}.mp4"
            shutil.copy(CLIP, video)
            if megabytes:
                size = megabytes * 2**20
                with video.open("ab") as file:
                    file.write(size.to_bytes(4, "big") + b"mdat" + bytes(size - 8))
            figures |= _measure(f"sign_{label}", lambda v=video: signer.sign(v, production))
            figures |= _measure(f"read_{label}", lambda v=video: read(v, signer.chain()))
    files = [path for path in Path(c2pa.__file__).parent.rglob("*") if path.is_file()]
    return figures | {"installed_mb": round(sum(path.stat().st_size for path in files) / 1e6)}


def _measure(label: str, work: Callable[[], object]) -> dict[str, float]:
    before = _child_seconds()
    work()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {f"{label}_s": round(_child_seconds() - before, 2), f"{label}_mb": round(peak)}


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
