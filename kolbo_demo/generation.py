"""The flow of one generation, which page, command line and batch share: speak the words, trim the
files, submit, follow, save.

>>> flow = GenerationFlow(client, inspector, folder)
>>> generation = flow.submit(flow.prepare(Request("portrait.jpg", "speech.mp3")))
>>> *_, status = generation.events()
>>> flow.save(generation, status, Path("talking.mp4"))
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from uuid import uuid4

from kolbo_demo.client import Generation, KolboClient
from kolbo_demo.contract import Status
from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.options import Options, Point, Trim
from kolbo_demo.preflight import Analyst, StoppedError

SPOKEN = "words.wav"
"""Name of the file with spoken words in the folder of a flow."""
SAME_MOMENT = 0.02
"""Seconds within which a face does not move."""

SPEAKING = FairSemaphore()
"""Text to speech keeps a core busy, so a process runs one at a time."""


class Step(Enum):
    """What a flow is doing."""

    SPEAKING = "speaking"
    TRIMMING = "trimming"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    MARKING = "marking"


OnStep = Callable[[Step, float, float | None], None]
"""Called with the step, what is done and what there is in all: bytes of files on their way, else 0
and None."""


@dataclass(frozen=True)
class Request:
    """What to generate. A `str` source or voice is a link or, from a trusted caller, a path."""

    source: Path | str
    voice: Path | str | None
    words: str | None = None
    """English text to speak where there is no voice."""
    options: Options = Options()


class GenerationFlow:
    """The steps of one generation. For one thread; `should_continue` may change in any."""

    def __init__(
        self,
        client: KolboClient,
        inspector: Analyst,
        folder: Path,
        *,
        local: bool = False,
        should_continue: Callable[[], bool] = lambda: True,
        on_step: OnStep = lambda *_: None,
    ) -> None:
        """New files go into `folder`. `local`: the API is this project's own service, which marks
        pictures itself; Kolbo's has no field for it."""
        self._client = client
        self._inspector = inspector
        self._folder = folder
        self._local = local
        self._should_continue = should_continue
        self._on_step = on_step

    def prepare(self, request: Request) -> Request:
        """The request as it is sent: words spoken, files trimmed, and the face where the trimmed
        clip begins.

        Raises MediaError, EngineError where this machine cannot speak, and StoppedError.
        """
        voice, options = request.voice, request.options
        if request.words is not None:
            voice = self._speak(request.words, options.speed)
        assert voice is not None, "a request has a voice or words"
        face = face_at_start(self._inspector.followed, request.source, options)
        if options.trim.needed:
            self._on_step(Step.TRIMMING, 0, None)
        source, voice = self._trimmed(request.source, voice, options.trim)
        options = options.changed(face=face, face_at=0.0, speed=1.0, trim=Trim())
        return Request(source, voice, None, options)

    def submit(
        self, prepared: Request, on_remark: Callable[[str], None] | None = None
    ) -> Generation:
        """Start the generation. Raises what `KolboClient.lipsync` raises, and StoppedError as long
        as files are not sent whole."""
        assert prepared.voice is not None, "prepare() gives every request a voice"
        self._check_stopped()
        options = prepared.options if self._local else prepared.options.changed(mark=False)
        return self._client.lipsync(
            prepared.source, prepared.voice, options, self._uploaded, on_remark=on_remark
        )

    def save(
        self,
        generation: Generation,
        status: Status,
        output: Path,
        *,
        mark: bool = False,
        stamp: bool = False,
    ) -> Path:
        """Save a final generation's video as `output`, whole or not at all; returns the path.

        `mark` has the picture say that it is AI-generated: a result that the API did not mark is
        marked here, so no plain video is left. `stamp` writes that into the metadata where the
        file's format allows.

        Raises what `Generation.check` and `Generation.download` raise, MediaError if the video
        cannot be marked, and StoppedError.
        """
        generation.check(status)
        draw = mark and not (status.result and status.result.visible_mark)
        if not (draw or stamp):
            return generation.download(output, self._downloaded)
        plain = output.with_name(f".{uuid4().hex}.plain")
        try:
            generation.download(plain, self._downloaded)
            if draw:
                self._on_step(Step.MARKING, 0, None)
            self._inspector.make("mark", plain, output, self._should_continue, seen=draw)
        except MediaError:
            if draw:
                raise
            plain.replace(output)  # it plays all the same
        finally:
            plain.unlink(missing_ok=True)
        return output

    def _speak(self, words: str, speed: float) -> Path:
        from kolbo_demo.engine.tts import speak  # slow to import

        self._on_step(Step.SPEAKING, 0, None)
        path = self._folder / SPOKEN
        with SPEAKING.acquire(self._should_continue):
            self._check_stopped()
            speak(words, path, speed)
        return path

    def _trimmed(
        self, source: Path | str, voice: Path | str, trim: Trim
    ) -> tuple[Path | str, Path | str]:
        if not trim.needed:
            return source, voice
        from kolbo_demo.preflight.trim import SAME_SECONDS, result_seconds  # slow to import

        seconds = result_seconds(trim)

        def cut(
            what: str, path: Path | str, part: tuple[float, float] | None, length: float,
            made: Path, **other: float,
        ) -> Path | str:  # fmt: skip
            same = part is None and (not trim.mode or abs(seconds - length) <= SAME_SECONDS)
            if same or not isinstance(path, Path):
                return path
            start, end = part or (0.0, length)
            self._inspector.make(
                what, path, made, self._should_continue, start=start, end=end, mode=trim.mode,
                **other,
            )  # fmt: skip
            return made

        clip, sound = trim.clip_seconds, trim.voice_seconds
        source = cut("cut_source", source, trim.clip, clip, self._folder / "clip.mp4", voice=sound)
        voice = cut("cut_voice", voice, trim.voice, sound, self._folder / "cut.wav", clip=clip)
        return source, voice

    def _uploaded(self, sent: int, total: int) -> None:
        if sent < total:  # a request that is half sent is not accepted
            self._check_stopped()
        self._on_step(Step.UPLOADING, sent, total)

    def _downloaded(self, done: int, total: int | None) -> None:
        self._on_step(Step.DOWNLOADING, done, total)

    def _check_stopped(self) -> None:
        if not self._should_continue():
            raise StoppedError


def face_at_start(
    followed: Callable[[Path, Point, float, float], Point], source: Path | str, options: Options
) -> Point | None:
    """The face point where the used part of the clip begins. `followed` is that of `Analyst`.
    Raises MediaError."""
    start = options.trim.clip[0] if options.trim.clip else 0.0
    face, at = options.face, options.face_at
    if face is None or not isinstance(source, Path) or abs(at - start) <= SAME_MOMENT:
        return face
    return followed(source, face, at, start)
