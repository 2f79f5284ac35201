"""The sync report of a result, on the page."""

from pathlib import Path

import pytest

from kolbo_demo.engine import EngineError
from kolbo_demo.engine.sync_eval.process import judge_in_process
from kolbo_demo.ui.background import sync_report


def report(told: str, **more: object) -> dict:
    curves = {
        "aperture": [0.01, None, 0.1],
        "width": [0.5, None, 0.6],
        "expected": [0.0, 1.0, 2.0],
        "level": [-60.0, -20.0, -10.0],
        "closure_times": [0.04],
        "closure_met": [True],
    }
    found = {"offset_ms": 120, "confidence": 0.98, "closures": 4, "closures_hit": 0.75}
    measured = {"verdict": told, "fps": 25, "seconds": 0.12, "face": 0.667, "notes": []}
    return found | measured | {"curves": curves} | more


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("in step", "Lips and speech agree; offset \u2066+120\u2069 ms."),
        ("120 ms late", "Lips 120 ms late"),
        ("80 ms early", "Lips 80 ms early"),
        ("no speech found", "No speech found"),
    ],
)
def test_the_verdict_is_plain(told: str, words: str) -> None:
    page = sync_report.view(report(told))
    assert words in page
    assert "98%" not in page  # numbers are among the details
    values = [value for _, value in sync_report.facts(report(told))]
    assert values == ["+120 ms", "98%", "3 of 4", "67%"]


def test_the_axes_of_the_plot_have_names() -> None:
    plot = sync_report.plot(report("in step"))
    for name in ("Mouth opening", "Mouth width", "Loudness", "Time"):
        assert f">{name}</span>" in plot


def test_the_plot_leaves_out_what_was_not_seen() -> None:
    plot = sync_report.plot(report("in step"))
    lips = plot.partition('class="aperture" d="')[2].partition('"')[0]
    assert lips.count("M") == 2  # the frame without a face parts the line
    assert plot.count('class="met"') == 2  # the mark and its legend


def test_what_cannot_be_measured_is_told(tmp_path: Path) -> None:
    path = tmp_path / "fake.mp4"
    path.write_text("no video")
    with pytest.raises(EngineError):
        judge_in_process(path)
    assert "could not be measured" in sync_report.view({"error": "<b>"})
    assert "Measuring" in sync_report.view(None)


def test_people_who_talk_are_in_step() -> None:
    found = judge_in_process(Path(__file__).parents[2] / "assets" / "clip.mp4", (0.44, 0.27))
    assert found["verdict"] == "in step"
    curves = found["curves"]
    assert len(curves["aperture"]) == round(found["seconds"] * found["fps"])
    assert len(curves["closure_times"]) == len(curves["closure_met"]) == found["closures"]
