"""Batches of a page that strangers reach: what they may name, and how much they may have made."""

import io
import json
import time
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from kolbo_demo.client import InputError, KolboClient, KolboError
from kolbo_demo.media.probe import frame_at
from kolbo_demo.service.fetch import Policy
from kolbo_demo.ui.access.key_allowance import Allowance
from kolbo_demo.ui.background.batches import Batches
from kolbo_demo.ui.panels import batch as batch_panel
from tests.marked import is_marked
from tests.scripted import Reply, Scripted

HEAD = "source,audio,words,prompt,model,face,speed,mark\n"


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    return Batches(tmp_path / "batches", private=False)


def listed(folder: Path, *lines: str) -> tuple[str, Path]:
    path = folder / "rows.csv"
    path.write_text(HEAD + "\n".join(lines), encoding="utf-8")
    return path.name, path


def named(*paths: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in paths]


@dataclass(frozen=True)
class Shown:
    """A batch as the panel shows it."""

    running: bool
    live: str
    rows: list[str]


def look(batches: Batches, ticket: str) -> Shown:
    view = batches.view(ticket)
    assert view
    rows = [" ".join(row) for row in batch_panel.table(view)]
    return Shown(view.running, batch_panel.summary(view), rows)


def ended(batches: Batches, ticket: str) -> Shown:
    deadline = time.monotonic() + 20
    while (shown := look(batches, ticket)).running:
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)
    return shown


def result(batches: Batches, ticket: str, name: str) -> bytes:
    served = batches.served(str(batches.root / ticket / name))
    assert served
    return served.path.read_bytes()


def test_a_batch_to_its_zip(
    batches: Batches, server: Scripted, client: KolboClient,
    tmp_path: Path, portrait: Path, speech: Path,
) -> None:  # fmt: skip
    server.starts()
    server.on_status(server.completed())
    rows = listed(tmp_path, "portrait.png,speech.wav", "gone.png,speech.wav", ",speech.wav")
    ticket = batches.check([rows, *named(portrait, speech)], client)
    card = look(batches, ticket)
    assert card.live == "Rows checked: 3. With problems: 2. Nothing was sent."
    assert "ready" in card.rows[0]
    assert "not among the uploaded files" in card.rows[1]
    assert server.requests == []

    batches.start(ticket, client, "somebody")
    card = ended(batches, ticket)
    assert card.live == "Ended: 1 of 3 made, 2 failed"
    archive = zipfile.ZipFile(io.BytesIO(result(batches, ticket, "batch.zip")))
    assert set(archive.namelist()) == {"report.csv", "report.json", "0001-portrait.mp4"}
    states = [row["state"] for row in json.loads(archive.read("report.json"))]
    assert states == ["completed", "failed", "failed"]
    assert result(batches, ticket, "0001-portrait.mp4")
    for name in ("batch.json", "checked.json", "inputs/portrait.png", "../../etc/passwd"):
        assert batches.served(str(batches.root / ticket / name)) is None
    batches.delete(ticket)
    assert batches.view(ticket) is None
    assert not batches.folder(ticket).exists()


def test_links_are_judged_by_who_fetches_them(
    tmp_path: Path, server: Scripted, client: KolboClient, speech: Path
) -> None:
    """The local service refuses what is not public, unless its owner allows the host. Kolbo has
    rules of its own, so there nothing is said of them and nothing held back."""
    policy = Policy(frozenset({"files.internal"}))
    batches = Batches(tmp_path / "batches", private=True, policy=policy)
    links = ("http://localhost/a.png", "http://files.internal/a.png", "https://a.example:22/a.png")
    rows = listed(tmp_path, *[f"{link},speech.wav" for link in links])
    server.starts()
    server.on_status(server.completed())
    ticket = batches.check([rows, *named(speech)], None, local=True)
    card = look(batches, ticket)
    assert card.live == "Rows checked: 3. With problems: 2. Nothing was sent."
    for row, sentence in zip(card.rows, ("private", "ready", "port 22"), strict=True):
        assert sentence in row
        assert "not checked" not in row

    cloud = batches.check([rows, *named(speech)], None, local=False)
    card = look(batches, cloud)
    assert card.live == "Rows checked: 3. No problems found. Nothing was sent."
    assert all("was not checked: Kolbo fetches it" in row for row in card.rows)

    batches.start(ticket, client, "somebody", local=False)  # looked at for the other side
    assert ended(batches, ticket).live == "Ended: 3 of 3 made, 0 failed"
    batches.start(cloud, client, "somebody", local=True)
    assert ended(batches, cloud).live == "Ended: 1 of 3 made, 2 failed"


@pytest.mark.parametrize("local", [True, False])
def test_a_row_is_marked_there_or_here(
    batches: Batches, server: Scripted, client: KolboClient,
    tmp_path: Path, portrait: Path, speech: Path, talking: Path, local: bool,
) -> None:  # fmt: skip
    """The local service takes the mark as a field; Kolbo's API has none, so it is drawn here."""
    server.starts()
    server.on_status(server.completed(visible_mark=local))
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    rows = listed(tmp_path, "portrait.png,speech.wav,,,,,,yes")
    ticket = batches.check([rows, *named(portrait, speech)], None)
    batches.start(ticket, client, "somebody", local=local)
    assert ended(batches, ticket).live == "Ended: 1 of 1 made, 0 failed"
    assert ("visible_mark" in server.requests[0].parts) == local
    video = tmp_path / "video.mp4"
    video.write_bytes(result(batches, ticket, "0001-portrait.mp4"))
    assert is_marked(frame_at(video)) != local  # what is marked already stays as it came


@pytest.mark.parametrize(
    "cell",
    ["/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "x://../etc/passwd", "~/x.png",
     "inputs/rows.csv", "rows.csv"],
)  # fmt: skip
def test_a_list_reaches_no_file_of_the_machine(
    batches: Batches, tmp_path: Path, portrait: Path, speech: Path, cell: str
) -> None:
    rows = listed(tmp_path, f"{cell},speech.wav", f"portrait.png,{cell}")
    ticket = batches.check([rows, *named(speech, portrait)], None)
    view = batches.view(ticket)
    assert view
    assert "not among the uploaded files" in (view.lines[0].row.problem or "")
    assert "not among the uploaded files" in (view.lines[1].row.problem or "")


def test_pairs_in_a_zip(batches: Batches, tmp_path: Path, portrait: Path, speech: Path) -> None:
    path = tmp_path / "pairs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(portrait, "pairs/one.png")
        archive.write(speech, "pairs/one.wav")
        archive.write(portrait, "../../two.png")
        archive.writestr("pairs/two.txt", "Hello there.")
        archive.writestr("pairs/.DS_Store", "x")
        archive.writestr("__MACOSX/pairs/one.png", "x")
    ticket = batches.check(named(path), None)
    assert look(batches, ticket).live == "Rows checked: 2. No problems found. Nothing was sent."
    names = {found.name for found in (batches.folder(ticket) / "inputs").iterdir()}
    assert names == {"one.png", "one.wav", "two.png", "two.txt"}
    assert not list(tmp_path.glob("two.png"))


def test_archives_that_are_refused(
    batches: Batches, tmp_path: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kolbo_demo.ui.background.batches.MAX_FILE_BYTES", 2**20)
    bomb, twice, broken = (tmp_path / name for name in ("bomb.zip", "twice.zip", "broken.zip"))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(2**20 + 1))
    with zipfile.ZipFile(twice, "w") as archive:
        archive.write(portrait, "a/one.png")
        archive.write(portrait, "b/one.png")
    broken.write_bytes(bomb.read_bytes()[:200])
    for path, sentence in (
        (bomb, "larger than 1 MB"), (twice, "Two files are called one.png"),
        (broken, "could not be unpacked"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            batches.check(named(path), None)
    assert list((tmp_path / "batches").iterdir()) == []


def test_a_visitor_has_one_batch_of_so_many_rows(
    batches: Batches, server: Scripted, client: KolboClient,
    tmp_path: Path, portrait: Path, speech: Path,
) -> None:  # fmt: skip
    many = listed(tmp_path, *["portrait.png,speech.wav"] * 31)
    with pytest.raises(InputError, match="30 at most"):
        batches.check([many, *named(portrait, speech)], None)
    server.starts()
    server.on_status({"state": "processing", "progress": 4})
    rows = listed(tmp_path, "portrait.png,speech.wav", "portrait.png,speech.wav")
    one, two = (batches.check([rows, *named(portrait, speech)], None) for _ in range(2))
    batches.start(one, client, "somebody")
    with pytest.raises(InputError, match="under way"):
        batches.start(two, client, "somebody")
    deadline = time.monotonic() + 30
    while "generating" not in look(batches, one).rows[0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "waiting" in look(batches, one).rows[1]  # one at a time
    batches.stop(one)
    card = ended(batches, one)
    assert card.live.startswith("Stopped: 0 of 2 made")

    # A page that was started anew knows nothing but the folder.
    server.on_status(server.completed())
    anew = Batches(tmp_path / "batches", private=False)
    anew.start(one, client, "somebody")
    deadline = time.monotonic() + 20
    while (view := anew.view(one)) and view.running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert look(batches, one).live == "Ended: 2 of 2 made, 0 failed"
    assert server.count("POST /v1/generate/lipsync") == 2  # the first was watched on


def test_a_shared_key_pays_for_so_many_seconds(
    batches: Batches, server: Scripted, client: KolboClient,
    tmp_path: Path, portrait: Path, speech: Path,
) -> None:  # fmt: skip
    server.starts()
    server.on_status(server.completed())
    rows = listed(
        tmp_path, *["portrait.png,speech.wav"] * 2, "portrait.png,https://a.example/v.mp3"
    )
    ticket = batches.check([rows, *named(portrait, speech)], None)
    allowance = Allowance(1.5)
    batches.start(ticket, client, "somebody", spending=partial(allowance.spend, "somebody"))
    card = ended(batches, ticket)
    assert "done" in card.rows[0]
    assert "of the 2 s are left" in card.rows[1]
    assert "sound of known length only" in card.rows[2]
    assert server.count("POST /v1/generate/lipsync") == 1


def test_models_are_looked_up(
    batches: Batches, server: Scripted, client: KolboClient, tmp_path: Path,
    portrait: Path, speech: Path,
) -> None:  # fmt: skip
    server.on("GET /v1/models", Reply(json={"models": [{"identifier": "a/b"}]}))
    rows = listed(tmp_path, "portrait.png,speech.wav,,,a/b", "portrait.png,speech.wav,,,c/d")
    view = batches.view(batches.check([rows, *named(portrait, speech)], client))
    assert view
    assert [line.row.problem is None for line in view.lines] == [True, False]
    server.on("GET /v1/models", Reply(401, {"success": False, "error": "Bad key", "code": "AUTH"}))
    with pytest.raises(KolboError):
        batches.check([rows, *named(portrait, speech)], client)
