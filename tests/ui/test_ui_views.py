"""What the page says."""

import time

import pytest

from kolbo_demo.contract import Result, Status, UnsyncedSpan
from kolbo_demo.engine import speaker_tracking
from kolbo_demo.ui.background.run import Stage
from kolbo_demo.ui.i18n import texts
from kolbo_demo.ui.panels import views

HOSTILE = "<script>alert('x')</script>&\"{{constructor}}${1}"


def completed(**more: object) -> Status:
    result = Result(
        urls=["https://cdn.example/v.mp4"],
        duration=12,
        model="a<b>",
        prompt_used=HOSTILE,
        created_at="2026-04-12T10:00:00.000Z",
    )
    return Status.model_validate(
        {"state": "completed", "generation_id": "lip_1", "result": result, **more}
    )


def test_what_comes_from_outside_is_escaped() -> None:
    pages = [
        views.failed(HOSTILE, HOSTILE),
        views.running(Stage(HOSTILE, 5, HOSTILE, Status(state=HOSTILE)), 1, HOSTILE),
        views.note(HOSTILE),
        views.details(completed(**{"<b>": HOSTILE}), link=True),
    ]
    for page in pages:
        assert "<script" not in page
        assert "<b>" not in page


def test_details_are_a_table() -> None:
    page = views.details(completed(seed=7), link=True)
    assert "<th scope='row'>Duration</th><td>12 s</td>" in page
    assert "<th scope='row'>Seed</th><td>7</td>" in page
    assert 'href="https://cdn.example/v.mp4"' in page
    assert "href" not in views.details(completed(), link=False)


def test_a_link_that_is_none_is_text() -> None:
    status = completed(result=Result(urls=["javascript:alert(1)"]))
    assert "href" not in views.details(status, link=True)


@pytest.mark.parametrize(("percent", "shown"), [(0, 0), (41.6, 42), (140, 100), (-3, 0)])
def test_progress_is_for_every_reader(percent: float, shown: int) -> None:
    page = views.running(Stage("Making your video", percent), 65)
    assert 'role="progressbar"' in page
    assert f'aria-valuemax="100" aria-valuenow="{shown}"' in page
    assert "1:05" in page
    assert "aria-valuenow" not in views.running(Stage("Sending"), 1)


def test_parts_that_are_not_synced_are_told_in_words() -> None:
    hidden = UnsyncedSpan(start=2.0, end=3.1, reason="the mouth is hidden")
    page = views.done(4, "lip_1", [hidden, UnsyncedSpan(start=5, end=6.04, reason="<b>")])
    assert "<li>Not synced 2.0-3.1 s: the mouth is hidden</li>" in page
    assert "<li>Not synced 5.0-6.0 s: &lt;b&gt;</li>" in page
    assert "and 2 more" in views.done(4, "lip_1", [hidden] * 7)
    assert "Not synced" not in views.done(4, "lip_1")
    with texts.speaking("fr"):
        assert "the mouth" not in views.done(4, "lip_1", [hidden])


def test_every_reason_of_the_engine_has_its_text() -> None:
    names = (
        *("FACE_NOT_VISIBLE", "OTHER_PERSON", "FACE_TOO_SMALL"),
        *("HEAD_TURNED", "MOUTH_OUT_OF_FRAME", "MOUTH_HIDDEN"),
    )
    assert {getattr(speaker_tracking, name) for name in names} == set(views._REASONS)


def test_all_that_is_known_of_a_run_is_shown() -> None:
    status = Status.model_validate(
        {"state": "processing", "queue_position": 2, "frames_done": 30, "frames": 75}
    )
    first = (time.monotonic() - 30, 10)
    page = views.running(
        Stage("Making your video", 40, generation_id="lip_1", status=status, first=first), 65
    )
    for fact in ("1:05", "2 ahead", "frame 30 of 75", "about 1:00 left", "lip_1"):
        assert f">{fact}<" in page


def test_before_there_is_a_pace_the_time_foreseen_is_told() -> None:
    assert "takes about 1:15" in views.running(Stage("Waiting for its turn"), 3, expected=75)
    first = (time.monotonic() - 30, 10)
    moving = views.running(Stage("Making your video", 40, first=first), 33, expected=75)
    assert "about 1:00 left" in moving
    assert "takes about" not in moving
