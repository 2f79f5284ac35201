"""What the panel tells of given reports, models and lengths."""

from pathlib import Path
from typing import Any

import pytest

from kolbo_demo.contract import Model, Result, Status
from kolbo_demo.options import Span, Trim
from kolbo_demo.preflight import Face, FacelessSpan, Source, Voice
from kolbo_demo.ui.background import eta
from kolbo_demo.ui.panels.face_picker import Choice, SourceFacts
from kolbo_demo.ui.panels.model_picker import Offers, limits_in_words
from kolbo_demo.ui.panels.preflight import FacelessSpans, PreflightInputs, outlook
from kolbo_demo.ui.panels.trim import edit_of, is_empty
from kolbo_demo.ui.panels.voice import VoiceFacts
from kolbo_demo.ui.storage.generation_store import GenerationStore

CLIP = Path("clip.mp4")
LEFT, RIGHT = (Face((left, 0.2, 0.2, 0.3), 1.0, 0.0) for left in (0.1, 0.6))


def model(name: str, **more: Any) -> Model:
    return Model(identifier=name, types=["lipsync-video"], **more)


def told(
    models: list[Model],
    voice: Voice | None = None,
    clip: float = 5.0,
    faces: list[Face] | None = None,
    **more: Any,
) -> str:
    source = Source("video", "mp4", 2_000_000, 640, 360, clip, 29.97, True, True)
    parts: dict[str, Any] = {
        "source_facts": SourceFacts(CLIP, "", source, 0.0, [LEFT] if faces is None else faces),
        "faceless": FacelessSpans(CLIP),
        "voice_facts": VoiceFacts(voice=voice or Voice("wav", 1000, 8.0, True, -10.0, 0.0)),
        "choice": None,
        "offers": Offers(models, 30),
        "model": "",
        "backend": "cloud",
    } | more
    voice_facts = parts["voice_facts"].voice
    parts.setdefault(
        "edit", Trim(clip_seconds=clip, voice_seconds=voice_facts.duration if voice_facts else 0)
    )
    return outlook(PreflightInputs(**parts))


def test_price_is_a_range_under_smart_select() -> None:
    models = [model("a", credit=2), model("b", credit=3.5)]
    assert "about 16-28 credits · you have 30" in told(models)
    assert "about 28 credits" in told(models, model="b")


def test_nothing_is_told_of_an_unknown_price() -> None:
    assert "Price" not in told([model("a", credit=2), model("b")])
    assert "Price" not in told([])


def test_credits_that_are_not_enough() -> None:
    assert "may not have enough" in told([model("a", credit=4)])
    assert "may not have enough" not in told([model("a", credit=4), model("b", credit=1)])


def test_what_a_model_does_not_take() -> None:
    limited = model("a", max_audio_duration=6, audio_max_follows_video_duration=True)
    assert "the maximum is 0:06.0" in told([limited])
    assert "longer than the clip" in told([limited])
    assert "at most" not in told([limited, model("b", max_audio_duration=60)])
    stills = Model(identifier="s", types=["lipsync-image"])
    assert "takes pictures, not clips" in told([stills], model="s")


def test_limits_that_all_models_share() -> None:
    one = model("a", min_audio_duration=1, max_audio_duration=60, max_file_size=100 * 2**20)
    other = model("b", min_audio_duration=2, max_audio_duration=60)
    assert limits_in_words([one]) == "Takes a voice of 1 to 60 s; up to 100 MB per file."
    assert limits_in_words([one, other]) == "Takes a voice of at most 60 s."
    assert limits_in_words([other, Model(identifier="c")]) == ""


@pytest.mark.parametrize(
    ("clip", "backend", "words"),
    [
        (5.0, "local", "plays back and forth"),
        (12.0, "local", "the clip is cut there"),
        (5.0, "cloud", "the model decides"),
        (8.05, "cloud", "0:08.0, as long as the voice"),
    ],
)
def test_how_lengths_are_fitted(clip: float, backend: str, words: str) -> None:
    assert words in told([], clip=clip, backend=backend)


def test_what_is_wrong_is_said() -> None:
    silent = Voice("wav", 1000, 8.0, False, -10.0, 0.0)
    assert "No speech found" in told([], silent)
    assert "very quiet" in told([], Voice("wav", 1000, 8.0, True, -50.0, 0.0))
    assert "0:02.0 to 0:06.5" in told([], Voice("wav", 1, 8.0, True, -9.0, 0.0, [(2, 6.5)]))
    small, side = Face((0.1, 0.1, 0.1, 0.1), 0.2, 0.0), Face((0.5, 0.1, 0.2, 0.2), 1.0, 70.0)
    assert "is small" in told([], faces=[small])
    assert "is small" not in told([], faces=[small, LEFT])  # the larger one will speak
    assert "to the side" in told([], faces=[LEFT, side], choice=Choice((0.6, 0.2)))
    assert "variable frame rate, converted to 29.97" in told([])


def test_where_no_face_is() -> None:
    faceless = FacelessSpans(CLIP, [FacelessSpan(1.0, 2.5, True, "")], 4.0)
    said = told([], faceless=faceless)
    assert "0:01.0 to 0:02.5: faces look to the side" in said
    assert "Checked up to 0:04.0." in said


def part(
    clip: Span | None, voice: Span | None, clip_seconds: float, voice_seconds: float,
    mode: str | None = None,
) -> Trim:  # fmt: skip
    return Trim(
        clip=clip, voice=voice, clip_seconds=clip_seconds, voice_seconds=voice_seconds, mode=mode
    )


def test_a_part_and_a_way_are_told() -> None:
    edit = part((1.0, 3.0), (2.0, 3.5), 2.0, 1.5, "silence")
    faceless = FacelessSpans(
        CLIP, [FacelessSpan(0.0, 0.8, False, ""), FacelessSpan(2.5, 4.0, False, "")], 5.0
    )
    said = told([model("a", credit=10, min_audio_duration=1.8)], edit=edit, faceless=faceless)
    assert "0:01.0 to 0:03.0 of 0:05.0" in said
    assert "0:02.0 to 0:03.5 of 0:08.0" in said
    assert "0:02.0 · Silence after the voice" in said
    assert "about 20 credits" in said
    assert "the minimum is" not in said  # silence makes it long enough
    assert "0:02.5 to 0:04.0: no face visible" in said
    assert "0:00.8" not in said


def test_only_what_stands_for_these_files_counts() -> None:
    source = Source("video", "mp4", 1, 640, 360, 5.0)
    voice = Voice("wav", 1, 3.0, True, -10.0, 0.0)
    chosen = ("5.000 3.000", 1.0, 4.0, 0.0, 3.0, "remap")
    assert edit_of((source, voice, True), chosen) == part((1.0, 4.0), None, 3.0, 3.0)
    other = ("7.000 3.000", 1.0, 4.0, 0.5, 3.0, "silence")  # the clip is another one now
    assert edit_of((source, voice, True), other) == part(None, (0.5, 3.0), 5.0, 2.5, "silence")
    words = ("5.000 0.000", 0.0, 5.0, 0.0, 0.0, "loop")  # no way for a clip that is the longer one
    assert edit_of((source, voice, False), words) == part(None, None, 5.0, 3.0)
    assert edit_of((None, None, False), words) == Trim()
    assert is_empty(edit_of((source, voice, True), ("5.000 3.000", 4.0, 1.0, 0.0, 3.0, "")))


def test_names_from_outside_are_escaped() -> None:
    voice = Voice("<b>", 1000, 8.0, True, -10.0, 0.0)
    assert "<B>" not in told([], voice)
    assert "<i>" not in told([], voice_facts=VoiceFacts(problem="<i>"))


def test_the_face_that_a_click_means() -> None:
    faces = [LEFT, RIGHT]
    for point, index in [((0.2, 0.4), 0), ((0.7, 0.3), 1), ((0.5, 0.9), None)]:
        assert Choice(point).face(faces) == index
    assert Choice((0.2, 0.4)).face(None) is None


def test_time_is_told_by_what_was_measured(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path)
    assert eta.expected(store, "m", 10) is None
    for duration, seconds in [(8.0, 4.0), (12.0, 9.0), (9.0, 9.0), (100.0, 1.0)]:
        record = store.opened("lip_1", "local")
        record.end, record.seconds = "done", seconds
        record.status = Status(state="completed", result=Result(duration=duration, model="m"))
        store.save(record)
    assert eta.expected(store, "m", 10) == 7.5
    assert eta.expected(store, "other", 10) is None
    assert eta.expected(store, "m", 1) is None  # nothing so short was measured
    here, there = Model(identifier="m"), Model(identifier="c", estimated_duration_seconds=75)
    assert eta.estimate(store, "local", [here], 10) == 7.5
    assert eta.estimate(store, "cloud", [there], 0) == 75  # as its document has it
    assert eta.estimate(store, "cloud", [here, there], 10) is None  # which one takes it?
