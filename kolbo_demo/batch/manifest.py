"""The rows of a batch, from a CSV or from a folder of pairs, and what is wrong with each."""

import csv
import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kolbo_demo.client import InputError, KolboClient
from kolbo_demo.client.upload import Request
from kolbo_demo.contract import is_web_link
from kolbo_demo.engine.tts import check_speed
from kolbo_demo.media import sandbox, sniff
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.options import Options
from kolbo_demo.service import fetch
from kolbo_demo.service.errors import JobError

COLUMNS = ("source", "audio", "words", "prompt", "model", "face", "speed", "mark", "insist")
_OPTIONAL = ", ".join(COLUMNS[3:])
MAX_ROWS = 1000
MAX_CSV_BYTES = 4 * 1024 * 1024
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")
_LATER = "https://example.com/words.wav"
"""Stands for a voice that is spoken when its row's turn comes; never opened."""

Find = Callable[[str], str | Path]
"""From what a cell names to a file or a link. Raises `InputError`. Whoever reads a CSV of someone
else decides with it which files exist for that CSV."""


@dataclass(frozen=True)
class Row:
    """One generation to make."""

    number: int
    """1 is the first after the heading."""
    name: str
    """For people: what the source is called."""
    source: str | Path = ""
    audio: str | Path | None = None
    words: str | None = None
    options: Options = Options()
    problem: str | None = None
    """One sentence where it cannot work."""

    @property
    def linked(self) -> bool:
        """Whether it names a link, which whoever makes the video fetches."""
        return any(given and isinstance(given, str) for given in (self.source, self.audio))

    @property
    def fingerprint(self) -> str:
        """Changes with the row's fields and with the size or age of its files."""
        chosen = self.options
        parts: list[object] = [self.words, chosen.prompt, chosen.model, chosen.face]
        if (chosen.speed, chosen.mark) != (1.0, False):  # else as it was before there were these
            parts += [chosen.speed, chosen.mark]
        if chosen.insist:
            parts.append("insist")
        for given in (self.source, self.audio):
            stamp = None
            if isinstance(given, Path):
                with suppress(OSError, ValueError):
                    stamp = (given.stat().st_size, given.stat().st_mtime_ns)
            parts.append((str(given), stamp))
        return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()


def from_folder(folder: Path) -> Find:
    """Cells are links, or paths as the user of this machine writes them, relative to `folder`."""
    return lambda cell: cell if "://" in cell else folder / Path(cell).expanduser()


def from_uploads(files: Mapping[str, Path]) -> Find:
    """Cells are links, or names of uploaded files, with or without the folders that they came
    from; nothing else on this machine is reached."""

    def find(cell: str) -> str | Path:
        if is_web_link(cell):
            return cell
        path = PurePosixPath(cell.replace("\\", "/"))
        name = "" if path.is_absolute() or ".." in path.parts else path.name
        if "://" in cell or name not in files:
            raise InputError(f"“{cell[:80]}” is no web link, and not among the uploaded files.")
        return files[name]

    return find


def read_csv(path: Path, find: Find) -> list[Row]:
    """The rows of a CSV with the columns source, audio or words, and perhaps the other `COLUMNS`.

    Comma, semicolon or tab between the cells, UTF-8. A row that cannot be understood has a
    `problem`. Raises `InputError` where the file is no such list.
    """
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise InputError(f"“{path.name}” is too long for a list: give 4 MB at most.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"“{path.name}” cannot be read ({error.strerror}). Check its name."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"“{path.name}” is not text in UTF-8. Save it as CSV UTF-8.") from None
    heading = text.partition("\n")[0]
    comma = max(",;\t", key=heading.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True))
    except csv.Error as error:
        raise InputError(f"“{path.name}” is no CSV ({error}). Export it again.") from None
    names = [name.strip().lower() for name in lines[0]] if lines else []
    if "source" not in names or not {"audio", "words"} & set(names):
        raise InputError(
            "The first line of the list must name its columns: source, audio or words, and "
            f"perhaps {_OPTIONAL}."
        )
    if wrong := [name for name in names if name not in COLUMNS] or (
        [name for name in names if names.count(name) > 1]
    ):
        raise InputError(
            f"The list has a column “{wrong[0][:80]}” that does not belong there or comes twice. "
            f"Columns are {', '.join(COLUMNS)}."
        )
    filled = [cells for cells in lines[1:] if any(cell.strip() for cell in cells)]
    return _some([_row(at, names, cells, find) for at, cells in enumerate(filled, start=1)])


def read_pairs(folder: Path) -> list[Row]:
    """The pairs of a folder: a picture or a clip and a recording or a text (`.txt`, words to
    speak) that share their name. Raises `InputError` where there are none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"The folder “{folder}” cannot be read ({error.strerror}).") from None
    pairs: dict[str, list[tuple[str, Path]]] = {}
    for path in files:
        if path.name.startswith("."):
            continue
        kind = "words" if path.suffix.lower() == ".txt" else _kind(path)
        if kind:
            pairs.setdefault(path.stem, []).append((kind, path))
    return _some([_pair(at, *item) for at, item in enumerate(pairs.items(), start=1)])


def _kind(path: Path) -> str | None:
    """The kind of a file in a folder. Decoders decide where the first bytes do not: a container of
    video may hold sound alone, and a recording may begin with unrelated bytes."""
    kind = sniff.kind_of(path)
    if kind in ("image", "audio") or (kind is None and sniff.other(path)):
        return kind
    try:
        return sandbox.inspect_source(path, decode=False).kind
    except MediaError:
        with suppress(MediaError):
            return sandbox.inspect_audio(path).kind
    return kind


def check(rows: list[Row], client: KolboClient | None) -> list[Row]:
    """The rows with every `problem` that can be found before anything is sent.

    With a client, models are looked up too. Raises what `KolboClient.models` raises.
    """
    models = None
    if client and any(row.options.model for row in rows if not row.problem):
        models = {model.identifier for model in client.models()}
    return [_checked(row, models) for row in rows]


def check_links(rows: list[Row], policy: fetch.Policy) -> list[Row]:
    """The rows with a `problem` where the local service refuses a link. Nobody is asked for it.

    For rows that it makes: Kolbo fetches links itself, by rules of its own.
    """
    return [row if row.problem else _links_checked(row, policy) for row in rows]


def _links_checked(row: Row, policy: fetch.Policy) -> Row:
    try:
        if row.source and isinstance(row.source, str):
            fetch.check(row.source, "source", policy)
        if row.audio and isinstance(row.audio, str):
            fetch.check(row.audio, "audio", policy)
    except JobError as error:
        return replace(row, problem=str(error))
    return row


def _checked(row: Row, models: set[str] | None) -> Row:
    if row.problem:
        return row
    try:
        voice = _LATER if row.words else row.audio
        Request.checked(row.source, voice, row.options)
    except InputError as error:
        return replace(row, problem=str(error))
    if row.words and not any(letter.isalnum() for letter in row.words):
        return replace(row, problem="There are no words to speak: type an English sentence.")
    model = row.options.model
    if models is not None and model and model not in models:
        return replace(
            row, problem=f"There is no model “{model[:80]}”. See `models` for those there are."
        )
    return row


def _row(number: int, names: list[str], cells: list[str], find: Find) -> Row:
    given = {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
    source, audio, words = (given.get(name) or "" for name in ("source", "audio", "words"))
    row = Row(number, Path(source).name[:80] or f"row {number}")
    problem = None
    if len(cells) > len(names):
        problem = "The row has more cells than the list has columns."
    elif bool(audio) == bool(words):
        problem = "Give either audio or words, one of the two."
    elif not source:
        problem = "There is no source: give a picture or a video, or a link to one."
    if problem:
        return replace(row, problem=problem)
    try:
        return replace(
            row,
            source=find(source),
            audio=find(audio) if audio else None,
            words=words or None,
            options=Options(
                prompt=given.get("prompt") or None,
                model=given.get("model") or None,
                face=_face(given.get("face")),
                speed=_speed(given.get("speed"), words),
                mark=_is_yes("mark", given.get("mark")),
                insist=_is_yes("insist", given.get("insist")),
            ),
        )
    except InputError as error:
        return replace(row, problem=str(error))
    except (ValueError, OSError, RuntimeError):  # such as an unknown ~user in a path
        return replace(row, problem="The row names a file that cannot be. Check the name.")


def _pair(number: int, stem: str, found: list[tuple[str, Path]]) -> Row:
    sources = [path for kind, path in found if kind in ("image", "video")]
    voices = [(kind, path) for kind, path in found if kind in ("audio", "words")]
    if len(sources) != 1 or len(voices) != 1:
        return Row(
            number,
            stem[:80],
            problem=f"“{stem[:80]}” needs one picture or clip and one recording or text: it has "
            f"{len(sources)} and {len(voices)}.",
        )
    kind, voice = voices[0]
    if kind == "audio":
        return Row(number, sources[0].name, sources[0], voice)
    try:
        words = voice.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        return Row(number, stem[:80], problem=f"“{voice.name}” is not text in UTF-8.")
    if not words:
        return Row(number, stem[:80], problem=f"“{voice.name}” holds no words.")
    return Row(number, sources[0].name, sources[0], words=words)


def _face(text: str | None) -> tuple[float, float] | None:
    if not text:
        return None
    parts = text.replace(",", " ").replace(";", " ").split()
    try:
        x, y = (float(part) for part in parts)
    except ValueError:
        raise InputError("The face must be two numbers from 0 to 1, such as 0.5 0.4.") from None
    return x, y


def _speed(text: str | None, words: str) -> float:
    if not text:
        return 1.0
    try:
        speed = float(text.replace(",", "."))
        check_speed(speed)
    except MediaError as error:
        raise InputError(str(error)) from None
    except ValueError:
        raise InputError("The speed must be a number, such as 1.25.") from None
    if not words and speed != 1:
        raise InputError("A speed is for words to speak: leave it empty where there is audio.")
    return speed


def _is_yes(column: str, text: str | None) -> bool:
    given = (text or "no").lower()
    if given not in _YES + _NO:
        raise InputError(f"In the column {column} write yes or no.")
    return given in _YES


def _some(rows: list[Row]) -> list[Row]:
    if not rows:
        raise InputError("There is nothing to do: the list or the folder holds no row.")
    if len(rows) > MAX_ROWS:
        raise InputError(f"There are {len(rows)} rows. Give {MAX_ROWS} at most at once.")
    return rows
