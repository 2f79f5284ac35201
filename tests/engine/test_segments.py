"""Renders in segments: plans, workers, joins, errors."""

import json
import os
import signal
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks.process_stats import children, command_line
from kolbo_demo.engine import Cancelled, EngineCrashError, EngineError, render_plan
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.prepare import prepare
from kolbo_demo.engine.render import RenderResult, render
from kolbo_demo.engine.render_plan import RenderPlan
from kolbo_demo.engine.segment import render_segment
from kolbo_demo.engine.sync_eval.lip_motion import extract_lip_motion
from kolbo_demo.engine.unsynced import UnsyncedSpan, merge_spans
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import SegmentWriter, VideoWriter, join_segments
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options
from tests import samples
from tests.engine.lip_measurements import measure_lips
from tests.engine.videos import psnr
from tests.marked import is_marked

ASSETS = samples.SPEECH.parent
SIDE = 256
LEGS = 32
"""Frames of the short clip."""
IDLE_MOTION_KEYS = {"shift", "roll", "lids", "brows"}
"""Of every release."""


# Pieces


def write_segment(
    path: Path, numbers: range, fps: Fraction = Fraction(25), width: int = 160
) -> Path:
    with SegmentWriter(path, width, 120, fps) as writer:
        for number in numbers:
            writer.write(samples.card(number, width, 120))
    return path


def packets(path: Path) -> list[tuple[bytes, bool]]:
    """Encoded packets in decoding order, and whether each is a keyframe."""
    with av.open(str(path)) as container:
        return [(bytes(p), p.is_keyframe) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("fps", ["24000/1001", "25", "30000/1001", "50", "60", "22131/1000"])
def test_joined_segments_show_each_frame_once(tmp_path, fps):
    rate, lengths = Fraction(fps), [1, 25, 2, 3, 60, 7]
    edges = np.cumsum([0, *lengths])
    spans = [range(a, b) for a, b in pairwise(edges.tolist())]
    pieces = [write_segment(tmp_path / f"{i}.mp4", span, rate) for i, span in enumerate(spans)]
    voice = samples.recording(tmp_path / "v.wav", float(edges[-1] / rate), 44100)
    out = tmp_path / "out.mp4"
    join_segments(iter(pieces), voice, out, rate, int(edges[-1]))
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == stream.base_rate == rate
        decoded = list(container.decode(stream))
        assert stream.time_base
        assert [(frame.pts or 0) * stream.time_base for frame in decoded] == [
            number / rate for number in range(edges[-1])
        ]
    with av.open(str(out)) as container:
        order = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
    assert len({later - earlier for earlier, later in pairwise(order)}) == 1
    shown = [samples.number_on(frame.to_ndarray(format="rgb24")) for frame in decoded]
    assert shown == list(range(edges[-1]))
    # Nothing was encoded again, and a player may begin at each piece.
    joined = packets(out)
    assert joined == [packet for path in pieces for packet in packets(path)]
    assert all(joined[edge][1] for edge in edges[:-1])
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_joined_sound_is_continuous(tmp_path):
    pieces = [write_segment(tmp_path / f"{i}.mp4", range(7 * i, 7 * i + 7)) for i in range(5)]
    voice = samples.recording(tmp_path / "v.wav", 1.4, 16000)
    join_segments(pieces, voice, tmp_path / "out.mp4", Fraction(25), 35)
    heard, meant = load_voice(tmp_path / "out.mp4"), load_voice(voice)
    assert 0 <= len(heard) - len(meant) < 1024
    heard = heard[: len(meant)]
    assert np.corrcoef(heard, meant)[0, 1] > 0.99
    for start in range(0, len(meant) - 1600, 1600):  # nowhere does it slip or drop out
        part = np.s_[start : start + 1600]
        assert np.corrcoef(heard[part], meant[part])[0, 1] > 0.97


def test_mismatched_segments_are_an_error(tmp_path):
    whole = write_segment(tmp_path / "whole.mp4", range(9))
    for others, count in (
        ([write_segment(tmp_path / "wide.mp4", range(9), width=320)], 18),
        ([samples.cut(tmp_path / "cut.mp4", whole)], 18),
        ([], 10),
        ([whole], 17),
    ):
        with pytest.raises(EngineError, match="do not fit"):
            join_segments(
                [whole, *others], samples.SPEECH, tmp_path / "out.mp4", Fraction(25), count
            )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mp4", "whole.mp4", "wide.mp4"]


# Segments


def numbered(rgb: np.ndarray, number: int) -> np.ndarray:
    """A picture with ten cells along its upper edge that encode a number."""
    out, cell = rgb.copy(), rgb.shape[1] // 10
    for bit in range(10):
        out[:16, bit * cell : (bit + 1) * cell] = 230 if number >> bit & 1 else 20
    return out


def number_of(rgb: np.ndarray) -> int:
    cell = rgb.shape[1] // 10
    return sum(
        1 << i for i in range(10) if rgb[4:12, i * cell + 6 : (i + 1) * cell - 6].mean() > 125
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LEGS numbered frames of the sample clip, small, with several keyframes."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with Clip(ASSETS / "clip.mp4") as source:
        pictures = [
            numbered(np.ascontiguousarray(frame[:SIDE, 96 : 96 + SIDE]), number)
            for number, frame in enumerate(source.frames(LEGS))
        ]
    return samples.video(path, pictures=pictures, matrix=1, options={"g": "12", "bf": "2"})


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3.2 s."""
    said = load_voice(samples.SPEECH)[: int(3.2 * 16000)]
    return samples.wav(tmp_path_factory.mktemp("voice") / "voice.wav", said[None], 16000)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_plan, "SEGMENT_SECONDS", 1)


def bounce(count: int) -> list[int]:
    period = [*range(LEGS), *range(LEGS - 2, 0, -1)]
    return [period[place % len(period)] for place in range(count)]


def frames_of(path: Path) -> list[np.ndarray]:
    with Clip(path) as result:
        return list(result.frames())


def test_segments_match_an_undivided_render(tmp_path, clip, voice, monkeypatch):
    """The voice is longer than the clip: segments begin in both directions of playback."""
    whole = render(clip, voice, tmp_path / "whole.mp4")
    monkeypatch.setattr(render_plan, "SEGMENT_SECONDS", 1)
    parts = render(clip, voice, tmp_path / "parts.mp4", workers=2)
    assert parts == whole
    assert whole.frames == 80
    one, two = frames_of(tmp_path / "whole.mp4"), frames_of(tmp_path / "parts.mp4")
    assert [number_of(frame) for frame in two] == bounce(80)
    # What encoding costs apart, a join cannot be seen: not in the picture, not in the lips.
    assert min(psnr(a, b) for a, b in zip(one, two, strict=True)) > 40
    same = [measure_lips(tmp_path / name).aperture for name in ("whole.mp4", "parts.mp4")]
    assert np.abs(same[0] - same[1]).mean() < 0.01


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("kind", ["still", "clip"])
def test_result_does_not_depend_on_workers(tmp_path, clip, voice, kind):
    source = clip
    if kind == "still":
        source = tmp_path / "still.png"
        Image.open(samples.PORTRAIT).crop((96, 0, 96 + SIDE, SIDE)).save(source)
    results: list[RenderResult] = []
    for workers in (1, 3):
        reports: list[tuple[int, int]] = []
        results.append(
            render(source, voice, tmp_path / f"{workers}.mp4", Options(mark=kind == "still"),
                   workers=workers, on_progress=lambda *at, to=reports: to.append(at))
        )  # fmt: skip
        done, total = zip(*reports, strict=True)
        assert list(done) == list(range(1, total[0] + 1))
        assert set(total) == {len(reports)}
    assert results[0] == results[1]
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "3.mp4").read_bytes()
    marked = [is_marked(Image.fromarray(frame)) for frame in frames_of(tmp_path / "3.mp4")]
    assert marked == [kind == "still"] * 80, "all frames have the watermark, if requested"


@pytest.mark.usefixtures("short_segments")
def test_segments_need_only_the_plan_and_the_source(tmp_path, clip, voice):
    """Rendered out of order from copies of plan and source, as on another machine."""
    plan = prepare(clip, voice, tmp_path / "plan.npz")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copied = elsewhere / "plan.npz", elsewhere / "source"
    copied[0].write_bytes((tmp_path / "plan.npz").read_bytes())
    copied[1].write_bytes(clip.read_bytes())
    copy, segments = RenderPlan.load(copied[0]), {}
    for index in reversed(range(len(plan.segments))):
        segments[index] = elsewhere / f"{index}.mp4"
        unsynced = render_segment(copy, copied[1], index, segments[index], threaded=index % 2 == 0)
        assert unsynced == []
    in_order = [segments[index] for index in sorted(segments)]
    join_segments(in_order, voice, tmp_path / "joined.mp4", plan.fps, plan.frames)
    render(clip, voice, tmp_path / "rendered.mp4", workers=1)
    assert (tmp_path / "joined.mp4").read_bytes() == (tmp_path / "rendered.mp4").read_bytes()


@pytest.mark.usefixtures("short_segments")
def test_unsynced_spans_are_merged_across_joins(tmp_path, voice):
    """The speaker is hidden across two joins, and at the start of the first segment."""
    source, hidden = tmp_path / "hidden.mp4", [*range(5), *range(20, 60)]
    with (
        Clip(ASSETS / "clip.mp4") as whole,
        VideoWriter(source, SIDE, SIDE, 25, voice, 3.2) as writer,
    ):
        for index, picture in enumerate(whole.frames(writer.frame_count)):
            frame = np.ascontiguousarray(picture[:SIDE, 96 : 96 + SIDE])
            writer.write(np.full_like(frame, 90) if index in hidden else frame)
    made = render(source, voice, tmp_path / "out.mp4", workers=2)
    assert [span[:2] for span in made.unsynced] == [(0, 5), (20, 60)]
    assert made.skipped == 45
    assert all(span.reason for span in made.unsynced)
    with Clip(source) as before, Clip(tmp_path / "out.mp4") as after:
        for index, (one, two) in enumerate(zip(before.frames(), after.frames(), strict=True)):
            if 22 <= index < 58:
                assert psnr(one, two) > 40


def test_merge_spans():
    spans = [
        UnsyncedSpan(5, 8, "a"),
        UnsyncedSpan(0, 5, "a"),
        UnsyncedSpan(8, 9, "b"),
        UnsyncedSpan(11, 12, "b"),
    ]
    assert merge_spans(spans) == [(0, 8, "a"), (8, 9, "b"), (11, 12, "b")]


# Ends


def worker_pids() -> list[int]:
    """Process ids of the pool's workers."""
    module = b"kolbo_demo.engine.segment_pool"
    return [pid for pid in children(os.getpid()) if module in command_line(pid)]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.usefixtures("short_segments")
def test_cancelling_ends_all_workers(tmp_path, clip):
    voice = samples.recording(tmp_path / "long.wav", 60)
    asked: list[float] = []

    def cancelled() -> bool:
        if len(worker_pids()) == 2 and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    with pytest.raises(Cancelled):
        render(clip, voice, tmp_path / "out.mp4", should_stop=cancelled, workers=2)
    assert time.monotonic() - asked[0] < 1
    assert worker_pids() == []
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(
    ("blow", "word"), [(signal.SIGSEGV, "crashed"), (signal.SIGKILL, "killed")]
)
def test_worker_crash_is_an_error(tmp_path, clip, blow, word):
    voice = samples.recording(tmp_path / "long.wav", 60)
    struck = threading.Event()

    def strike(_done: int, _total: int) -> None:
        if worker_pids() and not struck.is_set():
            os.kill(worker_pids()[0], blow)
            struck.set()

    with pytest.raises(EngineCrashError, match=word):
        render(clip, voice, tmp_path / "out.mp4", on_progress=strike, workers=2)
    assert struck.is_set()
    assert worker_pids() == []
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.usefixtures("short_segments")
def test_worker_errors_are_raised(tmp_path, clip, voice, monkeypatch):
    """The source vanishes between the plan and the segments."""
    from kolbo_demo.engine import render as module

    moved = tmp_path / "clip.mp4"
    moved.write_bytes(clip.read_bytes())

    def prepared(*arguments, **named):
        plan = prepare(*arguments, **named)
        moved.write_bytes(b"")
        return plan

    monkeypatch.setattr(module, "prepare", prepared)
    with pytest.raises(MediaError, match="cannot be read"):
        render(moved, voice, tmp_path / "out.mp4", workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_plan_file_keys(tmp_path, clip, voice):
    """The next release renders segments of plans that this one wrote."""
    prepare(clip, voice, tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz") as stored:
        plan = json.loads(str(stored["tree"]))
    assert plan.keys() == {
        *("kind", "width", "height", "fps", "frames", "duration", "looks", "speaker", "curves"),
        *("life", "edges", "casts", "faces", "places", "person", "matrix", "notes", "mark"),
    }
    assert plan["casts"].keys() == {"mouths", "shares"}
    assert plan["speaker"].keys() == {"head", "palette", "teeth", "detail", "mouths"}
    exemplars = plan["speaker"]["mouths"]
    assert exemplars.keys() == {"kept", "places", "turns", "lights", "lips"}
    assert exemplars["kept"][0].keys() == {
        *("rgb", "points", "pose", "tone", "inside", "light", "hollow"),
    }
    prepare(samples.PORTRAIT, voice, tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz") as stored:
        assert json.loads(str(stored["tree"]))["life"].keys() >= IDLE_MOTION_KEYS


def test_a_stills_plan_of_an_earlier_release(tmp_path, voice):
    """It has no pitch and yaw: its head only shifts and rolls."""
    prepare(samples.PORTRAIT, voice, tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz") as stored:
        arrays = dict(stored)
    tree = json.loads(str(arrays.pop("tree")))
    tree["life"] = {key: tree["life"][key] for key in IDLE_MOTION_KEYS}
    with (tmp_path / "earlier.npz").open("wb") as file:
        np.savez(file, tree=np.array(json.dumps(tree)), **arrays)
    motion = []
    for name in ("plan", "earlier"):
        plan = RenderPlan.load(tmp_path / f"{name}.npz")
        render_segment(plan, samples.PORTRAIT, 0, tmp_path / f"{name}.mp4")
        head = extract_lip_motion(tmp_path / f"{name}.mp4").head
        assert head is not None
        motion.append(head)
    now, earlier = motion
    assert len(now.angles) == len(earlier.angles)
    assert earlier.spread[1] < 0.6 * now.spread[1]
    assert abs(earlier.spread[2] - now.spread[2]) < 0.5
