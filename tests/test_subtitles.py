"""Subtitles of spoken words: WebVTT and SRT."""

import wave
from pathlib import Path

import numpy as np

from kolbo_demo import subtitles
from kolbo_demo.client import KolboClient
from kolbo_demo.generation import GenerationFlow, GenerationRequest
from kolbo_demo.options import Options, Trim
from kolbo_demo.preflight import Inspector


def test_subtitles_end_at_pauses(tmp_path: Path) -> None:
    rate = 8000
    sound = np.zeros(rate * 4)
    hum = np.sin(np.arange(rate * 4) / 5)
    for start, end in ((0.5, 1.7), (2.1, 3.5)):
        sound[int(start * rate) : int(end * rate)] = hum[: int(end * rate) - int(start * rate)]
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((sound * 9000).astype("<i2").tobytes())
    target, srt = tmp_path / "words.vtt", tmp_path / "words.srt"
    words = "Hello <b>you</b> there. Good --> bye now!"
    subtitles.write(words, tmp_path / "voice.wav", target, srt)
    text = target.read_text()
    assert text.startswith("WEBVTT\n")
    assert "<" not in text
    first, second = (line for line in text.splitlines() if " --> " in line)
    assert first.startswith("00:00:00.5")
    assert first.endswith(("00:00:01.900", "00:00:01.890", "00:00:01.910"))
    assert second.endswith("00:00:03.500")
    blocks = [block.split("\n") for block in srt.read_text().strip().split("\n\n")]
    times = [line.replace(".", ",") for line in (first, second)]
    assert blocks == [
        ["1", times[0], "Hello b you /b there."],
        ["2", times[1], "Good bye now!"],
    ]


def test_lines_from_right_to_left_keep_their_direction_in_srt(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(16000, 9000, "<i2").tobytes())
    srt, vtt = tmp_path / "words.srt", tmp_path / "words.vtt"
    subtitles.write("שלום לכולם! Hello, שלום.", tmp_path / "voice.wav", srt, vtt)
    lines = [block.split("\n")[2] for block in srt.read_text("utf-8").strip().split("\n\n")]
    assert lines == ["\u202bשלום לכולם!\u202c", "Hello, שלום."]
    assert "\u202b" not in vtt.read_text("utf-8")  # browsers find the direction themselves


def test_subtitles_of_a_part_count_from_its_start(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(48000, 9000, "<i2").tobytes())
    srt = tmp_path / "words.srt"
    words = "One two. Six ten. End now."  # two seconds each
    subtitles.write(words, tmp_path / "voice.wav", srt, part=(2.5, 5.0))
    blocks = [block.split("\n") for block in srt.read_text().strip().split("\n\n")]
    assert [block[2] for block in blocks] == ["Six ten.", "End now."]
    assert blocks[0][1].startswith("00:00:00,000 --> 00:00:01,")
    assert blocks[1][1].endswith("--> 00:00:02,500")


def test_trimmed_words_have_subtitles_of_the_trimmed_voice(tmp_path: Path) -> None:
    words = "This first sentence is cut away. The second one stays."
    whole, part = tmp_path / "whole.srt", tmp_path / "part.srt"
    inspector, client = Inspector(), KolboClient("unused", "http://127.0.0.1:1")
    for target, trim in ((whole, Trim()), (part, Trim(voice=(2.4, 3.4), voice_seconds=1.0))):
        flow = GenerationFlow(client, inspector, tmp_path)
        options = Options(trim=trim)
        flow.prepare(GenerationRequest("https://example.com/a.jpg", None, words, options), [target])
    inspector.close()
    assert "first sentence" in whole.read_text()
    assert "first sentence" not in part.read_text()
    assert "The second one stays." in part.read_text()
    assert part.read_text().startswith("1\n00:00:00,")


def test_lines_are_short() -> None:
    lines = subtitles.lines_of("one two three four five six seven eight nine ten eleven. End.")
    assert all(len(line) <= subtitles.LINE for line in lines)
    assert lines[-1] == "End."


def test_subtitles_break_between_phrases_in_every_script() -> None:
    english = "When I was young, there was a very long bridge over the river."
    assert subtitles.lines_of(english)[0] == "When I was young,"
    chinese = "今天天气很好。我们一起去公园散步，然后去吃饭，晚上再回家看电视节目，好不好？"
    lines = subtitles.lines_of(chinese)
    assert "".join(lines) == chinese
    assert all(line[-1] in "，。？" and len(line) <= subtitles.LINE // 2 for line in lines)
    assert len("".join(subtitles.lines_of("好" * 50))) == 50
    assert all(len(line) <= subtitles.LINE // 2 for line in subtitles.lines_of("好" * 50))
    hebrew = subtitles.lines_of("שלום לכולם, היום יום יפה מאוד ואנחנו הולכים לפארק.")
    assert hebrew[0] == "שלום לכולם,"
