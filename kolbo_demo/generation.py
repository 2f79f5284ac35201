"""The flow of one generation, shared by page, command line and batch: speak, trim, submit, save.

>>> flow = GenerationFlow(client, inspector, folder)
>>> generation = flow.submit(flow.prepare(GenerationRequest("portrait.jpg", "speech.mp3")))
>>> *_, status = generation.events()
>>> flow.save(generation, status, Path("talking.mp4"))
"""

import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from uuid import uuid4

from kolbo_demo import subtitles
from kolbo_demo.client import Generation, KolboClient
from kolbo_demo.contract import Status
from kolbo_demo.credentials.manifest import marked
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine.voices import speak
from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.options import Options, Point, Trim
from kolbo_demo.preflight import CancelledError, Inspector

SPEECH_FILE = "words.wav"
"""Name of the synthesized voice in the folder of a flow."""
SAME_FACE_SECONDS = 0.02
"""A face is not tracked over a shorter time."""

SPEECH_SEMAPHORE = FairSemaphore()
"""Text to speech occupies a core, so a process runs one at a time."""


class Step(Enum):
    """Steps that report progress."""

    SPEAKING = "speaking"
    TRIMMING = "trimming"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    MARKING = "marking"


OnStep = Callable[[Step, float, float | None], None]
"""`on_step(step, done, total)`: sentences of speech, bytes of an upload or download, else 0 and
None."""


@dataclass(frozen=True)
class GenerationRequest:
    """The input of a generation. A `str` source or voice is a link or, from a trusted caller, a
    path."""

    source: Path | str
    voice: Path | str | None
    words: str | None = None
    """Text to speak instead of a voice."""
    options: Options = Options()


class GenerationFlow:
    """The steps of one generation. For one thread; another may change what `should_continue`
    returns."""

    def __init__(
        self,
        client: KolboClient,
        inspector: Inspector,
        folder: Path,
        *,
        local: bool = False,
        signer: Signer | None = None,
        should_continue: Callable[[], bool] = lambda: True,
        on_step: OnStep = lambda *_: None,
    ) -> None:
        """New files go into `folder`. `local`: the API is this project's service, which adds the
        watermark and the content credentials itself. `signer` signs what is added here."""
        self._client = client
        self._inspector = inspector
        self._folder = folder
        self._local = local
        self._signer = signer
        self._should_continue = should_continue
        self._on_step = on_step
        self._on_download = partial(on_step, Step.DOWNLOADING)

    def prepare(
        self, request: GenerationRequest, subtitle_files: Sequence[Path] = ()
    ) -> GenerationRequest:
        """Speak the words and trim the files; the request to submit, with the face point of the
        first used frame. Words are written to `subtitle_files` too, as `subtitles.write` does.

        Raises MediaError, EngineError if text to speech is unavailable, OSError, and
        CancelledError.
        """
        voice, options = request.voice, request.options
        if request.words is not None:
            voice = self._speak(request.words, options)
        assert voice is not None, "a request has a voice or words"
        face = face_at_start(self._inspector.track_face, request.source, options)
        if options.trim.needed:
            self._on_step(Step.TRIMMING, 0, None)
        source, voice = self._trim(request.source, voice, options.trim)
        if request.words is not None and subtitle_files:
            self._write_subtitles(request.words, voice, options.trim, subtitle_files)
        options = options.replace(
            face=face, face_at=0.0, speed=1.0, language=None, voice=None, trim=Trim()
        )
        return GenerationRequest(source, voice, None, options)

    def submit(
        self, prepared: GenerationRequest, on_warning: Callable[[str], None] | None = None
    ) -> Generation:
        """Start the generation. Raises the errors of `KolboClient.lipsync`, and CancelledError as
        long as files are being sent."""
        assert prepared.voice is not None, "prepare() gives every request a voice"
        self._check_cancelled()
        options = prepared.options if self._local else prepared.options.replace(mark=False)
        return self._client.lipsync(
            prepared.source, prepared.voice, options, self._on_upload, on_warning=on_warning
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
        """Save the video of a final generation as `output`, whole or not at all; returns the path.

        `mark` adds the watermark if the API did not; without it no video is left. `stamp` writes
        "AI-generated" into the metadata if the format allows. What either changes is signed.

        Raises the errors of `Generation.check` and `Generation.download`, MediaError if the
        watermark cannot be added, and CancelledError.
        """
        generation.check(status)
        draw_watermark = mark and not (status.result and status.result.visible_mark)
        if not (draw_watermark or stamp):
            return generation.download(output, self._on_download)
        plain, edited = (output.with_name(f".{uuid4().hex}.{part}") for part in ("plain", "edited"))
        try:
            generation.download(plain, self._on_download)
            if draw_watermark:
                self._on_step(Step.MARKING, 0, None)
            self._inspector.run_edit(
                "watermark", plain, edited, self._should_continue, visible=draw_watermark
            )
            if self._signer:
                self._signer.sign(edited, marked(plain, visible_mark=mark))
            edited.replace(output)
        except MediaError:
            if draw_watermark:
                raise
            plain.replace(output)  # playable without the metadata
        finally:
            plain.unlink(missing_ok=True)
            edited.unlink(missing_ok=True)
        return output

    def _speak(self, words: str, options: Options) -> Path:
        self._on_step(Step.SPEAKING, 0, None)
        path = self._folder / SPEECH_FILE
        with SPEECH_SEMAPHORE.acquire(self._should_continue):
            self._check_cancelled()
            speak(
                words,
                path,
                voice=options.voice,
                language=options.language,
                speed=options.speed,
                on_spoken=lambda done, of: self._on_step(Step.SPEAKING, done, of),
                should_continue=self._should_continue,
            )
        self._check_cancelled()
        return path

    def _write_subtitles(
        self, words: str, voice: Path | str, trim: Trim, targets: Sequence[Path]
    ) -> None:
        start = trim.voice[0] if trim.voice else 0.0
        with wave.open(str(voice)) as file:
            end = start + file.getnframes() / file.getframerate()
        subtitles.write(words, self._folder / SPEECH_FILE, *targets, part=(start, end))

    def _trim(
        self, source: Path | str, voice: Path | str, trim: Trim
    ) -> tuple[Path | str, Path | str]:
        if not trim.needed:
            return source, voice
        from kolbo_demo.preflight import trim as modes  # slow to import

        seconds = modes.result_seconds(trim)

        def cut(
            operation: str, path: Path | str, part: tuple[float, float] | None, length: float,
            output: Path, **other_length: float,
        ) -> Path | str:  # fmt: skip
            unchanged = part is None and (
                not trim.mode or abs(seconds - length) <= modes.LENGTH_TOLERANCE_SECONDS
            )
            if unchanged or not isinstance(path, Path):
                return path
            start, end = part or (0.0, length)
            self._inspector.run_edit(
                operation, path, output, self._should_continue, start=start, end=end,
                mode=trim.mode, **other_length,
            )  # fmt: skip
            return output

        clip, sound = trim.clip_seconds, trim.voice_seconds
        source = cut("cut_source", source, trim.clip, clip, self._folder / "clip.mp4", voice=sound)
        voice = cut("cut_voice", voice, trim.voice, sound, self._folder / "cut.wav", clip=clip)
        return source, voice

    def _on_upload(self, sent: int, total: int) -> None:
        if sent < total:  # afterwards the request may be accepted
            self._check_cancelled()
        self._on_step(Step.UPLOADING, sent, total)

    def _check_cancelled(self) -> None:
        if not self._should_continue():
            raise CancelledError


def face_at_start(
    track_face: Callable[[Path, Point, float, float], Point], source: Path | str, options: Options
) -> Point | None:
    """The face point in the first used frame of the clip. `track_face` is `Inspector.track_face`.
    Raises MediaError."""
    start = options.trim.clip[0] if options.trim.clip else 0.0
    face, at = options.face, options.face_at
    if face is None or not isinstance(source, Path) or abs(at - start) <= SAME_FACE_SECONDS:
        return face
    return track_face(source, face, at, start)
