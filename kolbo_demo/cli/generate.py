"""`generate`: make one video."""

import json
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kolbo_demo.cli.backend import (
    ApiKey,
    ApiKeyFile,
    BaseUrl,
    Insist,
    Json,
    Local,
    fast_imports,
    open_client,
    read_key,
)
from kolbo_demo.cli.console import message, progress_bar
from kolbo_demo.cli.errors import CommandError

if TYPE_CHECKING:
    from kolbo_demo.client import Generation, KolboClient
    from kolbo_demo.options import Options


def generate(
    source: Annotated[
        str, typer.Option(metavar="PATH_OR_URL", help="A picture or a video with a face.")
    ],
    output: Annotated[Path, typer.Option(metavar="OUT.mp4", help="Where the video goes.")],
    audio: Annotated[
        str | None, typer.Option(metavar="PATH_OR_URL", help="A recording of what is said.")
    ] = None,
    say: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Words to speak, instead of --audio.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How to play it, such as: subtle, smiling.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A model from `models`. Without one: Smart Select."),
    ] = None,
    face: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="A point on the face that speaks, 0-1, such as 0.5,0.4."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="FACTOR", help="How fast --say speaks: 0.5 to 2, 1 if not said."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Language of --say, such as de; guessed if not said."),
    ] = None,
    voice: Annotated[
        str | None, typer.Option(metavar="NAME", help="A voice from `voices` for --say.")
    ] = None,
    subtitles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where subtitles of --say go: a name in .srt or .vtt."),
    ] = None,
    mark: Annotated[
        bool, typer.Option("--mark", help="Write “AI-generated” into the picture.")
    ] = False,
    insist: Insist = False,
    local: Local = False,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Make the face in SOURCE say what AUDIO says."""
    if (audio is None) == (say is None):
        raise CommandError("Give either --audio or --say, one of the two.", 2)
    _check_speech(say, speed, language, voice)
    _check_subtitles(subtitles, say)
    point = _parse_face(face)
    _check_output(output, source, audio)
    from kolbo_demo.options import Options

    options = Options(
        prompt=prompt,
        model=model,
        face=point,
        speed=speed or 1.0,
        language=language,
        voice=voice,
        mark=mark,
        insist=insist,
    )
    with open_client(local, read_key(api_key, api_key_file), base_url) as client:
        _run(client, source, audio, say, options, output, subtitles, as_json=as_json, local=local)
    if not as_json:
        print(output)


def _run(
    client: "KolboClient",
    source: str,
    audio: str | None,
    words: str | None,
    options: "Options",
    output: Path,
    subtitles: Path | None,
    *,
    as_json: bool,
    local: bool,
) -> None:
    """Run the flow and save the video. An interruption cancels the generation."""
    from kolbo_demo.client.upload import sentence
    from kolbo_demo.credentials.signing import Signer
    from kolbo_demo.engine import EngineError
    from kolbo_demo.generation import GenerationFlow, GenerationRequest, Step
    from kolbo_demo.media.sniff import MediaError
    from kolbo_demo.preflight import Inspector
    from kolbo_demo.settings import Settings

    signer = Signer(Settings())
    labels = {Step.UPLOADING: "Sending", Step.DOWNLOADING: "Saving", Step.MARKING: "Marking"}
    generation: Generation | None = None
    finished = False
    with ExitStack() as stack:
        inspector = Inspector()
        stack.callback(inspector.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kolbo-")))
        try:
            show = stack.enter_context(progress_bar())

            def on_step(step: Step, done: float, total: float | None) -> None:
                if step in labels:
                    show(labels[step], done, total)

            warnings: list[str] = []

            def on_warning(text: str) -> None:
                warnings.append(text)
                message(text)

            flow = GenerationFlow(
                client, inspector, folder, local=local, signer=signer, on_step=on_step
            )
            request = GenerationRequest(source, audio, words, options)
            try:
                prepared = flow.prepare(request, [subtitles] if subtitles else [])
            except OSError as error:
                raise CommandError(f"Cannot write to “{subtitles}”: {error.strerror}.", 1) from None
            generation = flow.submit(prepared, on_warning)
            message(f"Generation {generation.id} started.")
            status = None
            for status in generation.events(eager=local):
                show("Making", status.progress or 0.0, 100.0)
            assert status is not None, "events() yields at least once"
            finished = True
            if as_json:
                print(json.dumps(status.model_dump(mode="json", exclude_none=True)))
            flow.save(generation, status, output, mark=options.mark)
            if status.result:
                for note in status.result.notes:
                    if (text := sentence(note)) not in warnings:
                        message(text)
                for span in status.result.unsynced:
                    message(span.description)
        except KeyboardInterrupt:
            if generation is None:
                raise CommandError(
                    "Interrupted. If all was sent already, a generation may have started: check "
                    "your history.",
                    130,
                ) from None
            raise CommandError(_cancel(generation, finished), 130) from None
        except EngineError as error:  # text to speech is unavailable
            raise CommandError(str(error), 1) from None
        except MediaError as error:
            if generation is None:
                raise CommandError(str(error), 2) from None
            raise CommandError(
                f"Generation {generation.id} is done, but not saved: it cannot be marked. {error}",
                1,
            ) from None


def _cancel(generation: "Generation", finished: bool) -> str:
    """Cancel after an interruption; the message."""
    from kolbo_demo.client import KolboError

    if finished:
        return f"Interrupted. Generation {generation.id} is done, but not saved."
    try:
        state = generation.cancel().state
    except KolboError as error:
        return f"Interrupted, but {generation.id} may still be running: {error}"
    return f"Interrupted. Generation {generation.id} is {state}."


def _check_speech(
    say: str | None, speed: float | None, language: str | None, voice: str | None
) -> None:
    """Check the words and their options before anything is sent."""
    if say is None:
        for name, given in (("speed", speed), ("language", language), ("voice", voice)):
            if given is not None:
                raise CommandError(f"--{name} goes with --say: a recording has its own.", 2)
        return
    from kolbo_demo.engine.voices import check_speed, check_words, choose_voice
    from kolbo_demo.media.sniff import MediaError

    try:
        check_speed(1.0 if speed is None else speed)
        check_words(say, choose_voice(say, voice, language))
    except MediaError as error:
        raise CommandError(str(error), 2) from None


def _check_subtitles(path: Path | None, say: str | None) -> None:
    """Check `--subtitles` before anything is sent."""
    if path is None:
        return
    from kolbo_demo.subtitles import FORMATS

    if say is None:
        raise CommandError("--subtitles goes with --say: the words of a recording are unknown.", 2)
    if path.suffix.lower() not in FORMATS:
        raise CommandError("--subtitles must end in .srt or .vtt.", 2)
    if not path.absolute().parent.is_dir():
        raise CommandError(f"There is no folder “{path.parent}” for --subtitles.", 2)


def _parse_face(text: str | None) -> tuple[float, float] | None:
    """`X,Y` as numbers. The client checks their range."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise CommandError("--face takes two numbers from 0 to 1, such as 0.5,0.4.", 2) from None
    return x, y


def _check_output(output: Path, *inputs: str | None) -> None:
    """Check `--output` before anything is sent."""
    with fast_imports():
        from kolbo_demo.client.download import check_output_path

    check_output_path(output)
    for given in inputs:
        with suppress(OSError):  # a missing file or a link
            if given and output.samefile(given):
                raise CommandError("--output is one of the inputs. Choose another name.", 2)
