"""The rows of a batch, from a CSV or a folder of pairs, and their checks."""

import csv
import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from kolbo_demo.client import InputError, KolboClient
from kolbo_demo.client.upload import StartRequest
from kolbo_demo.contract import is_web_link
from kolbo_demo.engine.voices import check_speed, check_words, choose_voice
from kolbo_demo.media import sandbox, sniff
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.options import Options
from kolbo_demo.service import fetch
from kolbo_demo.service.errors import JobError

COLUMNS = (
    *("source", "audio", "words", "prompt", "model", "face", "speed", "language", "voice"),
    *("mark", "insist"),
)
_OPTIONAL = ", ".join(COLUMNS[3:])
MAX_ROWS = 1000
MAX_CSV_BYTES = 4 * 1024 * 1024
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")
_SPOKEN_VOICE_URL = "https://example.com/words.wav"
"""Placeholder for a voice that is synthesized later; never opened."""

ResolveCell = Callable[[str], str | Path]
"""Maps a cell to a file or a link. Raises `InputError`. It limits the files that a CSV of an
untrusted user can name."""


@dataclass(frozen=True)
class Row:
    """One generation of a batch."""

    number: int
    """1 is the first after the header."""
    name: str
    """Name of the source, for people."""
    source: str | Path = ""
    audio: str | Path | None = None
    words: str | None = None
    options: Options = Options()
    problem: str | None = None
    """One sentence if the row is unusable."""

    @property
    def linked(self) -> bool:
        """Whether source or audio is a link."""
        return any(given and isinstance(given, str) for given in (self.source, self.audio))

    @property
    def fingerprint(self) -> str:
        """Hash of the row's fields and of the size and time of its files."""
        options = self.options
        parts: list[object] = [self.words, options.prompt, options.model, options.face]
        if (options.speed, options.mark) != (1.0, False):  # older fingerprints lack them
            parts += [options.speed, options.mark]
        if options.insist:
            parts.append("insist")
        if options.language or options.voice:
            parts.append((options.language, options.voice))
        for given in (self.source, self.audio):
            stamp = None
            if isinstance(given, Path):
                with suppress(OSError, ValueError):
                    stamp = (given.stat().st_size, given.stat().st_mtime_ns)
            parts.append((str(given), stamp))
        return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()


def folder_resolver(folder: Path) -> ResolveCell:
    """Cells are links, or paths relative to `folder`."""
    return lambda cell: cell if "://" in cell else folder / Path(cell).expanduser()


def upload_resolver(files: Mapping[str, Path]) -> ResolveCell:
    """Cells are links, or names of uploaded files, with or without their original folders. No
    other file can be named."""

    def resolve(cell: str) -> str | Path:
        if is_web_link(cell):
            return cell
        path = PurePosixPath(cell.replace("\\", "/"))
        name = "" if path.is_absolute() or ".." in path.parts else path.name
        if "://" in cell or name not in files:
            raise InputError(f"“{cell[:80]}” is no web link, and not among the uploaded files.")
        return files[name]

    return resolve


def read_csv(path: Path, resolve: ResolveCell) -> list[Row]:
    """The rows of a CSV with the columns source, audio or words, and optionally the others of
    `COLUMNS`.

    UTF-8, separated by comma, semicolon or tab. A malformed row has a `problem`. Raises
    `InputError` for a malformed file.
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
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
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
    return _check_count(
        [_parse_row(at, names, cells, resolve) for at, cells in enumerate(filled, start=1)]
    )


def read_pairs(folder: Path) -> list[Row]:
    """The pairs of a folder: a portrait or clip and a recording or text (`.txt`, words to speak)
    with the same stem. Raises `InputError` if there are none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"The folder “{folder}” cannot be read ({error.strerror}).") from None
    pairs: dict[str, list[tuple[str, Path]]] = {}
    for path in files:
        if path.name.startswith("."):
            continue
        kind = "words" if path.suffix.lower() == ".txt" else _file_kind(path)
        if kind:
            pairs.setdefault(path.stem, []).append((kind, path))
    return _check_count([_pair_row(at, *item) for at, item in enumerate(pairs.items(), start=1)])


def _file_kind(path: Path) -> str | None:
    """The kind of a file. If the first bytes do not settle it, decoders do: a video container may
    hold sound alone, and a recording may begin with unrelated bytes."""
    kind = sniff.kind_of(path)
    if kind in ("image", "audio") or (kind is None and sniff.describe_non_media(path)):
        return kind
    try:
        return sandbox.inspect_source(path, decode=False).kind
    except MediaError:
        with suppress(MediaError):
            return sandbox.inspect_audio(path).kind
    return kind


def check_rows(rows: list[Row], client: KolboClient | None) -> list[Row]:
    """The rows with every `problem` that is known before sending.

    With a client, models are checked too. Raises the errors of `KolboClient.models`.
    """
    models = None
    if client and any(row.options.model for row in rows if not row.problem):
        models = {model.identifier for model in client.models()}
    return [_check(row, partial(_check_row, models=models)) for row in rows]


def check_links(rows: list[Row], policy: fetch.Policy) -> list[Row]:
    """The rows with a `problem` if the local service refuses a link, without a request.

    Not for Kolbo's cloud, which fetches links by rules of its own.
    """
    return [_check(row, partial(_check_row_links, policy=policy)) for row in rows]


def _check(row: Row, check: Callable[[Row], None]) -> Row:
    """The row, with the error of `check` as its `problem` unless it has one."""
    if not row.problem:
        try:
            check(row)
        except (InputError, MediaError, JobError) as error:
            return replace(row, problem=str(error))
    return row


def _check_row(row: Row, models: set[str] | None) -> None:
    StartRequest.prepare(row.source, _SPOKEN_VOICE_URL if row.words else row.audio, row.options)
    if row.words:
        check_words(row.words, choose_voice(row.words, row.options.voice, row.options.language))
    model = row.options.model
    if models is not None and model and model not in models:
        raise InputError(f"There is no model “{model[:80]}”. See `models` for those there are.")


def _check_row_links(row: Row, policy: fetch.Policy) -> None:
    if row.source and isinstance(row.source, str):
        fetch.check(row.source, "source", policy)
    if row.audio and isinstance(row.audio, str):
        fetch.check(row.audio, "audio", policy)


def _parse_row(number: int, names: list[str], cells: list[str], resolve: ResolveCell) -> Row:
    values = {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
    source, audio, words = (values.get(name) or "" for name in ("source", "audio", "words"))
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
            source=resolve(source),
            audio=resolve(audio) if audio else None,
            words=words or None,
            options=Options(
                prompt=values.get("prompt") or None,
                model=values.get("model") or None,
                face=_parse_face(values.get("face")),
                speed=_parse_speed(values.get("speed"), words),
                language=_for_words("language", values.get("language"), words),
                voice=_for_words("voice", values.get("voice"), words),
                mark=_parse_yes_no("mark", values.get("mark")),
                insist=_parse_yes_no("insist", values.get("insist")),
            ),
        )
    except InputError as error:
        return replace(row, problem=str(error))
    except (ValueError, OSError, RuntimeError):  # such as an unknown ~user in a path
        return replace(row, problem="The row names an impossible file. Check the name.")


def _pair_row(number: int, stem: str, found: list[tuple[str, Path]]) -> Row:
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


def _parse_face(text: str | None) -> tuple[float, float] | None:
    if not text:
        return None
    parts = text.replace(",", " ").replace(";", " ").split()
    try:
        x, y = (float(part) for part in parts)
    except ValueError:
        raise InputError("The face must be two numbers from 0 to 1, such as 0.5 0.4.") from None
    return x, y


def _parse_speed(text: str | None, words: str) -> float:
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


def _for_words(column: str, text: str | None, words: str) -> str | None:
    if text and not words:
        raise InputError(f"A {column} is for words to speak: leave it empty where there is audio.")
    return text or None


def _parse_yes_no(column: str, text: str | None) -> bool:
    given = (text or "no").lower()
    if given not in _YES + _NO:
        raise InputError(f"In the column {column} write yes or no.")
    return given in _YES


def _check_count(rows: list[Row]) -> list[Row]:
    if not rows:
        raise InputError("There is nothing to do: the list or the folder holds no row.")
    if len(rows) > MAX_ROWS:
        raise InputError(f"There are {len(rows)} rows. Give {MAX_ROWS} at most at once.")
    return rows
