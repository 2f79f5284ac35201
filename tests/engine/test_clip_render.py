"""Renders of clips: moving heads, occluded mouths, cuts, crossings, absences, light, rates, sizes.

All clips are derived from the sample clip. Unsynced frames are reported and unchanged."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from kolbo_demo.engine.render import RenderResult, render
from kolbo_demo.engine.speaker_tracking import (
    FACE_NOT_VISIBLE,
    FACE_TOO_SMALL,
    HEAD_TURNED,
    MOUTH_HIDDEN,
    MOUTH_OUT_OF_FRAME,
    OTHER_PERSON,
)
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.voices import speak
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options
from tests import samples
from tests.engine.synthetic_people import (
    HEAD,
    Picture,
    Shot,
    hand,
    microphone,
    mouth_of,
    moved_by,
    put,
    somebody_else,
    talking,
    turned,
    wall,
)

WIDE = 400
FRAMES = 36


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "words.wav"
    speak("Bob. Papa. Bob.", path)
    return path


def render_clip(
    path: Path, pictures: list[Picture], voice: Path, options: Options = Options()
) -> tuple[RenderResult, list]:
    """Render pictures as a clip; returns the result, and pairs of frames before and after."""
    source = samples.video(path / "source.mp4", pictures=pictures, matrix=1)
    short = samples.cut_wav(path / "voice.wav", voice, len(pictures) / 25)
    result = render(source, short, path / "out.mp4", options)
    assert result.frames == len(pictures)
    with Clip(source) as before, Clip(path / "out.mp4") as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    return result, pairs


def mouth_change(pair: tuple[Picture, Picture], mouth: np.ndarray, reach: int = 14) -> float:
    """Mean change around a mouth, grey levels."""
    x, y = np.rint(mouth).astype(int)
    part = np.s_[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]
    before, after = (cv2.GaussianBlur(one[part].astype(float).mean(2), (0, 0), 2) for one in pair)
    return float(np.abs(before - after).mean())


def is_unchanged(pair: tuple[Picture, Picture]) -> bool:
    error = np.mean((pair[0].astype(float) - pair[1]) ** 2)
    return bool(10 * np.log10(255**2 / max(error, 1e-9)) > 38)


def unsynced_frames(result: RenderResult) -> set[int]:
    """Numbers of the unchanged frames."""
    return {frame for first, end, _ in result.unsynced for frame in range(first, end)}


def unsynced_reasons(result: RenderResult) -> set[str]:
    return {span.reason for span in result.unsynced}


@pytest.mark.parametrize("what", [hand, microphone])
def test_occluded_mouth_is_left_unchanged(tmp_path: Path, voice: Path, what):
    """The occluder enters from below, stays and leaves."""
    pictures, covered = [], range(14, 24)
    for index, shot in enumerate(talking(FRAMES)):
        away = max(covered.start - index, index - covered.stop + 1, 0) * 0.3
        pictures.append(what(shot, away) if away < 2 else shot.rgb)
    result, pairs = render_clip(tmp_path, pictures, voice)
    assert unsynced_reasons(result) == {MOUTH_HIDDEN}
    assert unsynced_frames(result) >= set(covered), "every occluded frame"
    assert len(unsynced_frames(result)) < len(covered) + 14, "and few others"
    assert all(is_unchanged(pairs[index]) for index in unsynced_frames(result))
    spoken = [i for i in range(FRAMES) if i not in unsynced_frames(result)]
    assert max(mouth_change(pairs[i], mouth_of(talking(FRAMES)[i])) for i in spoken) > 3
    edge = min(unsynced_frames(result))
    steps = [
        mouth_change(pairs[edge - back], mouth_of(talking(FRAMES)[edge - back])) for back in (1, 5)
    ]
    assert steps[0] < 0.7 * steps[1] + 1, "lips fade in and out"


def two_people(
    a: Shot, b: Shot, x: tuple[float, float], first: str
) -> tuple[Picture, np.ndarray, np.ndarray]:
    """Two people at two places, one in front: the picture and where their mouths are."""
    scene = wall(WIDE, HEAD)
    mouths = {}
    for name in ("b", "a") if first == "a" else ("a", "b"):
        shot, at = (a, x[0]) if name == "a" else (b, x[1])
        mouths[name] = put(scene, shot, at, 96)
    return scene, mouths["a"], mouths["b"]


@pytest.mark.parametrize("first", ["a", "b"])
def test_chosen_person_is_tracked_through_a_crossing(tmp_path: Path, voice: Path, first):
    """In both directions; the chosen person passes in front or behind."""
    scenes = [
        two_people(shot, somebody_else(shot), (x, WIDE - x), first)
        for shot, x in zip(talking(FRAMES), np.linspace(80, WIDE - 80, FRAMES), strict=True)
    ]
    result, pairs = render_clip(
        tmp_path, [one[0] for one in scenes], voice, Options(face=(0.2, 0.5))
    )
    for index, (pair, (_, own, other)) in enumerate(zip(pairs, scenes, strict=True)):
        if abs(own[0] - other[0]) > 90:
            assert mouth_change(pair, other) < 2, f"the other's lips stay, frame {index}"
    after = [mouth_change(pairs[i], scenes[i][1]) for i in range(FRAMES - 10, FRAMES)]
    assert max(after) > 4, "the chosen person is synced afterwards"
    assert unsynced_frames(result) <= set(range(10, 27))
    if first == "b":
        assert unsynced_reasons(result) <= {FACE_NOT_VISIBLE, OTHER_PERSON, MOUTH_HIDDEN}
        assert unsynced_frames(result), "nobody is synced while hidden"


def shots(spans: list[tuple[int, str]]) -> Iterator[tuple[Picture, np.ndarray | None]]:
    """Pictures of consecutive shots, each with the position of the speaker's mouth, if visible."""
    talk = iter(talking(FRAMES))
    for length, kind in spans:
        for shot in (next(talk) for _ in range(length)):
            if kind == "left":
                scene = wall(WIDE, HEAD)
                yield scene, put(scene, shot, 110, 96)
            elif kind == "right":
                scene = wall(WIDE, HEAD, 60)
                mouth = put(scene, shot, 290, 100, 0.8)
                yield (scene * 0.8).astype(np.uint8), mouth
            elif kind == "both":
                scene = wall(WIDE, HEAD, 80)
                put(scene, somebody_else(shot), 110, 96)
                yield scene, put(scene, shot, 290, 96, 0.9)
            elif kind == "other":
                scene = wall(WIDE, HEAD, 170)
                put(scene, somebody_else(shot), 110, 96)
                yield scene, None
            else:
                yield wall(WIDE, HEAD, 30), None


def test_person_is_found_again_after_a_cut(tmp_path: Path, voice: Path):
    scenes = list(shots([(10, "left"), (8, "other"), (9, "right"), (9, "both")]))
    result, pairs = render_clip(tmp_path, [one[0] for one in scenes], voice)
    assert [tuple(span) for span in result.unsynced] == [(10, 18, OTHER_PERSON)]
    assert all(is_unchanged(pair) for pair in pairs[10:18])
    for span in (range(10), range(18, 27), range(27, 36)):
        moved = [mouth_change(pairs[i], mouth) for i in span if (mouth := scenes[i][1]) is not None]
        assert max(moved) > 2.5, f"the speaker speaks in {span}"
    assert all(mouth_change(pairs[i], np.array([110.0, 120])) < 2 for i in range(27, 36))


def test_speaker_leaves_and_returns(tmp_path: Path, voice: Path):
    """The speaker leaves on one side and returns on the other."""
    places = [*np.linspace(110, -90, 12), *[-200] * 8, *np.linspace(460, 290, 10), *[290] * 6]
    scenes = []
    for shot, x in zip(talking(FRAMES), places, strict=True):
        scene = wall(WIDE, HEAD)
        scenes.append((scene, put(scene, shot, x, 96)))
    result, pairs = render_clip(tmp_path, [scene for scene, _ in scenes], voice)
    assert unsynced_reasons(result) <= {FACE_NOT_VISIBLE, MOUTH_OUT_OF_FRAME, MOUTH_HIDDEN}
    assert set(range(12, 20)) <= unsynced_frames(result) <= set(range(4, 30))
    assert all(is_unchanged(pairs[i]) for i in range(12, 20))
    assert max(mouth_change(pairs[i], scenes[i][1]) for i in range(31, 36)) > 2.5


def test_turning_and_nodding_head_is_synced(tmp_path: Path, voice: Path):
    angles = [(32 * np.sin(i / 5), 14 * np.sin(i / 3)) for i in range(FRAMES)]
    pictures, mouths = [], []
    for shot, (yaw, pitch) in zip(talking(FRAMES), angles, strict=True):
        picture, points = turned(shot, yaw, pitch)
        pictures.append(picture)
        mouths.append(points[[13, 14]].mean(0))
    result, pairs = render_clip(tmp_path, pictures, voice)
    assert result.unsynced == ()
    moved = [mouth_change(pair, mouth) for pair, mouth in zip(pairs, mouths, strict=True)]
    for span in (range(12), range(12, 24), range(24, 36)):
        assert max(moved[i] for i in span) > 2.5


def test_head_turned_away_is_left_unchanged(tmp_path: Path, voice: Path):
    angles = [*[0.0] * 10, *np.linspace(0, 72, 8), *[72.0] * 6, *np.linspace(72, 0, 8), *[0.0] * 4]
    pictures = [turned(shot, yaw, 0)[0] for shot, yaw in zip(talking(FRAMES), angles, strict=True)]
    result, pairs = render_clip(tmp_path, pictures, voice)
    assert unsynced_reasons(result) <= {HEAD_TURNED, FACE_NOT_VISIBLE, MOUTH_HIDDEN, OTHER_PERSON}
    assert set(range(18, 24)) <= unsynced_frames(result) <= set(range(12, 30))
    assert all(is_unchanged(pairs[i]) for i in range(18, 24))


def test_mouth_follows_changing_light(tmp_path: Path, voice: Path):
    """Level, tint and direction of the light change."""
    pictures = []
    for index, shot in enumerate(talking(FRAMES)):
        gain = np.array([1 - index / 50, 0.45, 1.0, 1.0][index * 4 // FRAMES])
        if index * 4 // FRAMES == 2:
            gain = np.array([0.7, 0.9, 1.25])
        if index * 4 // FRAMES == 3:
            gain = np.linspace(0.35, 1.15, HEAD)[None, :, None]
        pictures.append(np.clip(shot.rgb * gain, 0, 255).astype(np.uint8))
    result, pairs = render_clip(tmp_path, pictures, voice)
    assert result.unsynced == ()
    for quarter in range(4):
        span = range(quarter * 9, quarter * 9 + 9)
        moved = [mouth_change(pairs[i], mouth_of(talking(FRAMES)[i])) for i in span]
        assert max(moved) > 1.2


def test_mouth_has_the_motion_blur_of_its_face(tmp_path: Path, voice: Path):
    def fineness(rgb: Picture, at: np.ndarray) -> float:
        x, y = np.rint(at).astype(int)
        grey = rgb[y - 14 : y + 14, x - 24 : x + 24].astype(float).mean(2)
        return float(np.abs(np.diff(grey, axis=1)).mean())

    shaken = range(12, 26)
    at = [36 * np.sin((i - 12) / 2.2) if i in shaken else 0.0 for i in range(FRAMES)]
    pictures, mouths = [], []
    for shot, shift, speed in zip(talking(FRAMES), at, np.gradient(at), strict=True):
        to = np.array([[1.0, 0, shift], [0, 1, 0]])
        rgb = cv2.warpAffine(shot.rgb, to, (HEAD, HEAD), borderMode=cv2.BORDER_REPLICATE)
        pictures.append(moved_by(rgb, speed))
        mouths.append(mouth_of(shot) + np.array([shift, 0]))
    fast = np.flatnonzero(np.abs(np.gradient(at)) > 8)
    result, pairs = render_clip(tmp_path, pictures, voice)
    assert result.unsynced == ()
    ratio = [fineness(b, at) / fineness(a, at) for (a, b), at in zip(pairs, mouths, strict=True)]
    still = np.median([ratio[i] for i in range(FRAMES) if i not in shaken])
    assert np.median([ratio[i] for i in fast]) < 1.4 * still


def head_at(rate: Fraction, count: int = 10) -> list[Picture]:
    """The moving head, recorded at a frame rate."""
    shots = talking(FRAMES)
    return [shots[min(round(i / rate * 25), FRAMES - 1)].rgb for i in range(count)]


@pytest.mark.parametrize("rate", ["24", "30000/1001", "50", "60"])
def test_frame_rate_is_preserved(tmp_path: Path, voice: Path, rate: str):
    fps = Fraction(rate)
    source = samples.video(tmp_path / "c.mp4", fps=fps, pictures=head_at(fps), matrix=1)
    result = render(source, samples.cut_wav(tmp_path / "v.wav", voice, 0.3), tmp_path / "out.mp4")
    assert result.unsynced == ()
    with Clip(tmp_path / "out.mp4") as clip:
        assert clip.fps == fps
        assert clip.frame_count == result.frames == np.ceil(0.3 * fps)


def test_variable_rate_becomes_constant(tmp_path: Path, voice: Path):
    steps = np.resize([0.033, 0.05, 0.021, 0.033, 0.09], 11)
    times = [0.0, *np.cumsum(steps)]
    shots = talking(FRAMES)
    pictures = [shots[round(time * 25)].rgb for time in times]
    source = samples.video(tmp_path / "c.mp4", pictures=pictures, times=times, matrix=1)
    result = render(source, samples.cut_wav(tmp_path / "v.wav", voice, 0.4), tmp_path / "out.mp4")
    assert result.unsynced == ()
    assert result.frames == pytest.approx(0.4 * result.fps, abs=1)


def test_interlaced_clip_is_deinterlaced(tmp_path: Path, voice: Path):
    """The head moves sideways between the fields of a frame."""
    shots, woven = talking(FRAMES), []
    for index in range(10):
        one, two = (np.roll(shots[index].rgb, 2 * (2 * index + field), axis=1) for field in (0, 1))
        frame = one.copy()
        frame[1::2] = two[1::2]
        woven.append(frame)
    source = samples.video(tmp_path / "c.mp4", pictures=woven, interlaced=True, matrix=1)
    result = render(source, samples.cut_wav(tmp_path / "v.wav", voice, 0.4), tmp_path / "out.mp4")
    assert result.unsynced == ()
    with Clip(tmp_path / "out.mp4") as clip:
        for before, after in zip(woven, clip.frames(), strict=True):
            face = (picture[40:150, 30:150].astype(float) for picture in (before, after))
            comb = [np.abs(np.diff(part, axis=0)).mean() for part in face]
            assert comb[1] < 0.8 * comb[0]


def test_rotated_clip_is_rendered_upright(tmp_path: Path, voice: Path):
    """Stored on its side, shown upright."""
    pictures = []
    for shot in talking(10):
        scene = wall(144, 256)
        put(scene, shot, 72, 110, 0.8)
        pictures.append(np.ascontiguousarray(np.rot90(scene, -1)))
    source = samples.video(tmp_path / "c.mp4", pictures=pictures, turn=90, matrix=1)
    result = render(source, samples.cut_wav(tmp_path / "v.wav", voice, 0.4), tmp_path / "out.mp4")
    assert (result.width, result.height, result.unsynced) == (144, 256, ())
    with Clip(source) as before, Clip(tmp_path / "out.mp4") as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    assert max(mouth_change(pair, np.array([72.0, 124])) for pair in pairs) > 2


def test_4k_clip(tmp_path: Path, voice: Path):
    pictures = []
    for shot in talking(4):
        whole = np.full((192, 342, 3), 110, np.uint8)
        whole[:, 75 : 75 + HEAD] = shot.rgb
        pictures.append(cv2.resize(whole, (3840, 2160), interpolation=cv2.INTER_CUBIC))
    source = samples.video(tmp_path / "c.mp4", pictures=pictures, matrix=1)
    result = render(source, samples.cut_wav(tmp_path / "v.wav", voice, 0.16), tmp_path / "out.mp4")
    assert (result.width, result.height, result.frames, result.unsynced) == (3840, 2160, 4, ())


def test_clip_without_synced_frames_is_an_error(tmp_path: Path, voice: Path):
    pictures = [cv2.resize(shot.rgb, (44, 44), interpolation=cv2.INTER_AREA) for shot in talking(8)]
    source = samples.video(tmp_path / "c.mp4", pictures=pictures, matrix=1)
    short = samples.cut_wav(tmp_path / "v.wav", voice, 0.32)
    with pytest.raises(MediaError, match=f"No part of the clip could be synced: {FACE_TOO_SMALL}"):
        render(source, short, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("matrix", [1, 6, None])
def test_planes_outside_the_lower_face_are_copied(tmp_path: Path, voice: Path, matrix: int | None):
    """A conversion to RGB and back would lose more at saturated edges than encoding."""
    with Clip(samples.ASSETS / "clip.mp4") as clip:
        pictures = list(clip.frames(8))
    source = samples.video(tmp_path / "source.mp4", pictures=pictures, matrix=matrix)
    render(source, samples.cut_wav(tmp_path / "voice.wav", voice, 0.32), tmp_path / "out.mp4")
    worst = [np.inf] * 3
    for before, after in zip(*map(planes_of, (source, tmp_path / "out.mp4")), strict=True):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            below = np.s_[len(one) // 2 :]
            error = np.mean((one[below].astype(float) - other[below]) ** 2)
            worst[index] = min(worst[index], 10 * np.log10(255**2 / error))
    assert min(worst) > 46, worst
    with av.open(str(tmp_path / "out.mp4")) as result:
        assert result.streams.video[0].codec_context.colorspace == (1 if matrix == 1 else 5)


def planes_of(path: Path) -> list[tuple[np.ndarray, ...]]:
    """Luma and both colours of each frame, as they are stored."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(video=0)]
    size = len(frames[0]) * 2 // 3
    side = int(size**0.5)
    parts = [np.split(frame, [size, size * 5 // 4]) for frame in frames]
    return [
        (luma.reshape(side, side), *(c.reshape(side // 2, -1) for c in colours))
        for luma, *colours in parts
    ]
