"""The command line: generate, batch, models, serve, worker.

Results go to stdout, everything said to people to stderr. Exit codes: 0 done, 2 input that cannot
work, 1 a generation that failed or anything else, 130 interrupted; `serve` ends with 0 when told to
stop. Heavy modules are imported where they are used, so that `--help` and mistakes answer at once.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from kolbo_demo.batch import Row
    from kolbo_demo.client import Generation, KolboClient
    from kolbo_demo.options import Options

app = typer.Typer(
    help="Make a portrait or a clip say what a recording says.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Local = Annotated[
    bool, typer.Option("--local", help="Use the engine on this machine. Needs no key, no server.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Key for Kolbo's cloud. Better set KOLBO_API_KEY or give --api-key-file: other users "
        "of this machine can see what is on a command line.",
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="A file that holds the key and nothing else; - reads standard input."
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Base of the API. Else KOLBO_API_URL, else Kolbo's cloud."),
]
Insist = Annotated[
    bool, typer.Option("--insist", help="Render a source whose mouth is not visible, too.")
]
STOP_SECONDS = 9.5
"""For `serve` to end. Process managers kill after ten."""
Json = Annotated[bool, typer.Option("--json", help="Print what the API said, as JSON.")]


class _StopError(Exception):
    """Ends the command: a sentence and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@app.command()
def generate(
    source: Annotated[
        str, typer.Option(metavar="PATH_OR_URL", help="A picture or a video with a face.")
    ],
    output: Annotated[Path, typer.Option(metavar="OUT.mp4", help="Where the video goes.")],
    audio: Annotated[
        str | None, typer.Option(metavar="PATH_OR_URL", help="A recording of what is said.")
    ] = None,
    say: Annotated[
        str | None, typer.Option(metavar="TEXT", help="English words to speak, instead of --audio.")
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
        raise _StopError("Give either --audio or --say, one of the two.", 2)
    if speed is not None:
        _check_speed(speed, say)
    point = _face(face)
    _check_output(output, source, audio)
    from kolbo_demo.options import Options

    options = Options(
        prompt=prompt, model=model, face=point, speed=speed or 1.0, mark=mark, insist=insist
    )
    with _client(local, _key(api_key, api_key_file), base_url) as client:
        _run(client, source, audio, say, options, output, as_json=as_json, local=local)
    if not as_json:
        print(output)


@app.command()
def models(
    local: Local = False,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """List the lipsync models there are now."""
    with _client(local, _key(api_key, api_key_file), base_url) as client:
        found = client.models()
    if as_json:
        print(json.dumps([model.model_dump(mode="json", exclude_none=True) for model in found]))
        return
    width = max((len(model.identifier) for model in found), default=0)
    for model in found:
        words = (model.name, ", ".join(model.types), model.summary)
        print(f"{model.identifier:<{width}}  {' · '.join(word for word in words if word)}")


@app.command()
def batch(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS.csv|FOLDER",
            help="A CSV with the columns source, audio or words, and perhaps prompt, model, face, "
            "speed, mark, insist; "
            "or a folder in which a picture or clip and a recording or .txt share their name.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where videos, reports and batch.zip go."),
    ] = Path("batch"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at every row, send nothing.")
    ] = False,
    at_once: Annotated[int, typer.Option(min=1, max=10, help="Rows in flight.")] = 4,
    again: Annotated[
        bool, typer.Option("--again", help="Also rows that may have been accepted before.")
    ] = False,
    insist: Insist = False,
    local: Local = False,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    base_url: BaseUrl = None,
) -> None:
    """Make a video of every row. Run it again to go on where it stopped."""
    from kolbo_demo.batch import Batch, check, check_links, from_folder, read_csv, read_pairs
    from kolbo_demo.service.fetch import Policy
    from kolbo_demo.settings import Settings

    found = read_pairs(rows) if rows.is_dir() else read_csv(rows, from_folder(rows.parent))
    if insist:
        found = [replace(row, options=row.options.changed(insist=True)) for row in found]
    key = _key(api_key, api_key_file)
    with ExitStack() as stack:
        client = None
        if not dry_run or local or key or Settings().api_key:
            client = stack.enter_context(_client(local, key, base_url))
        found = check(found, client)
        if local:
            found = check_links(found, Policy(Settings().fetch_allow_hosts))
        if client is None or dry_run:
            _dry(found, local)
            return
        work = Batch(client, found, output, at_once, again, local=local)
        states: dict[int, str] = {}
        try:
            for line in work.run():
                if states.get(line.row.number) != line.state:
                    states[line.row.number] = line.state
                    _say(_row_text(line.row.number, line.row.name, line.state, line.message))
        except KeyboardInterrupt:
            raise _StopError("Interrupted. The same command goes on from here.", 130) from None
        except OSError as error:
            raise _StopError(f"The folder “{output}” refuses: {error.strerror}.", 1) from None
    done = sum(line.state == "completed" for line in work.lines)
    print(output / "batch.zip")
    if done < len(work.lines):
        raise _StopError(f"{done} of {len(work.lines)} rows are done. report.csv tells why.", 1)


def _dry(rows: "list[Row]", local: bool) -> None:
    for row in rows:
        message = row.problem
        if row.linked and not local and not message:
            message = "A link was not checked: Kolbo fetches it itself."
        state = "problem" if row.problem else "ready"
        print(_row_text(row.number, row.name, state, message))
    if wrong := sum(bool(row.problem) for row in rows):
        raise _StopError(f"{wrong} of {len(rows)} rows cannot work.", 2)


def _row_text(number: int, name: str, state: str, message: str | None) -> str:
    """One line, whatever the name holds."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{number:>4}  {state:<9}  {shown}" + (f": {message}" if message else "")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Run the local service alone: Kolbo's API under http://HOST:PORT/api."""
    from kolbo_demo import logs, private_folder
    from kolbo_demo.process.exit_deadline import end_within
    from kolbo_demo.service.app import serving
    from kolbo_demo.service.errors import ServiceError
    from kolbo_demo.settings import Settings

    os.umask(private_folder.UMASK)
    end_within(STOP_SECONDS)
    settings = Settings()
    logs.configure(settings.log)
    if settings.log == "json" and settings.local_api_key is None:
        raise _StopError("Set KOLBO_LOCAL_API_KEY: a log for machines does not tell the key.", 2)
    try:
        with serving(settings, host, port) as service:
            logs.announce(f"Kolbo's API, by this machine: {service.base_url}", sys.stderr)
            if settings.local_api_key is None:
                _say(
                    f"X-API-Key: {service.api_key.get_secret_value()}\n"
                    "(made for this run; set KOLBO_LOCAL_API_KEY to choose one)"
                )
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            _say("Stopping. What runs may finish for some seconds; the next start does the rest.")
    except ServiceError as error:
        raise _StopError(str(error), 2) from None


@app.command()
def worker(
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for every core if not said.")
    ] = None,
) -> None:
    """Render what pages and services on the same PostgreSQL have accepted (KOLBO_DATABASE_URL)."""
    from kolbo_demo import private_folder
    from kolbo_demo.process.child import cores
    from kolbo_demo.service.errors import ServiceError
    from kolbo_demo.service.worker import run_workers
    from kolbo_demo.settings import Settings

    os.umask(private_folder.UMASK)
    try:
        run_workers(Settings(), processes or cores())
    except ServiceError as error:
        raise _StopError(str(error), 2) from None
    except KeyboardInterrupt:
        _say("Stopped. What was begun here and is not done, others finish.")


def main() -> NoReturn:
    """Runs the command line and exits. Whatever happens, a person gets a sentence."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr] - a TextIOWrapper
    for interruption in (signal.SIGINT, signal.SIGTERM):  # both cancel, in the background as well
        signal.signal(interruption, signal.default_int_handler)
    try:
        app(prog_name="python -m kolbo_demo")
    except _StopError as stop:
        _say(str(stop))
        sys.exit(stop.code)
    except Exception as error:  # noqa: BLE001 - the last resort, so that no traceback reaches a person
        sys.exit(_explain(error))
    sys.exit(0)


def _explain(error: Exception) -> int:
    """Says what went wrong and gives the exit code."""
    from pydantic import ValidationError

    from kolbo_demo.client import KolboError
    from kolbo_demo.settings import Settings, problem

    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        _say(problem(error))
        return 2
    if isinstance(error, KolboError):
        _say(str(error))
        return 2 if _cannot_work(error) else 1
    last = traceback.extract_tb(error.__traceback__)[-1]
    _say(
        f"Something went wrong that this program did not expect ({type(error).__name__} in "
        f"{Path(last.filename).name}, line {last.lineno}). Please report it."
    )
    return 1


def _cannot_work(error: Exception) -> bool:
    """Whether the same command would meet the same error again."""
    from kolbo_demo.client import ApiError, GenerationFailedError, InputError

    if isinstance(error, ApiError):
        return error.status is None or (error.status in range(400, 500) and error.status != 429)
    if isinstance(error, GenerationFailedError):  # such as a picture in which no face is found
        failure = error.status and error.status.failure
        return bool(failure) and failure.category in {"input", "link"} and not failure.retryable
    return isinstance(error, InputError)


def _key(api_key: str | None, file: Path | None) -> str | None:
    """The key that was given one way or the other; None leaves it to KOLBO_API_KEY."""
    if file is None:
        return api_key
    if api_key is not None:
        raise _StopError("Give either --api-key or --api-key-file, one of the two.", 2)
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as opened:
            key = opened.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        # Without its name: somebody may have given the key itself for it.
        raise _StopError(f"The file of --api-key-file cannot be read ({reason}).", 2) from None
    if not key or any(letter.isspace() for letter in key):
        raise _StopError("The file of --api-key-file must hold the key and nothing else.", 2)
    return key


@contextmanager
def _loading() -> Iterator[None]:
    """For imports: looking for garbage among what they leave, which stays, takes a fifth of their
    time."""
    from pydantic import BaseModel

    gc.disable()
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]
        gc.freeze()
        gc.enable()


@contextmanager
def _client(local: bool, api_key: str | None, base_url: str | None) -> "Iterator[KolboClient]":
    """A client of Kolbo's cloud, or of an engine that lives as long as this command."""
    with _loading():
        from kolbo_demo.client import KolboClient
        from kolbo_demo.settings import Settings

    if not local:
        if not (api_key or Settings().api_key):
            raise _StopError(
                "There is no Kolbo API key. Add --local to use the engine on this machine, or set "
                "KOLBO_API_KEY to use Kolbo's cloud.",
                2,
            )
        yield KolboClient(api_key, base_url)
        return
    if api_key or base_url:
        raise _StopError("--local goes without a key and --base-url: drop one or the other.", 2)
    with _loading():
        from kolbo_demo.media import sandbox
        from kolbo_demo.service import render_pool
        from kolbo_demo.service.errors import ServiceError

    with ExitStack() as stack:
        # The engine loads in a process of its own while this one loads the service.
        server = render_pool.new_fork_server()
        server.warm()
        stack.callback(server.close)
        stack.enter_context(sandbox.forked(server))
        with _loading():
            from kolbo_demo.service.app import serving

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kolbo-")))
        try:
            service = stack.enter_context(serving(Settings(data_dir=folder), server=server))
        except ServiceError as error:
            raise _StopError(str(error), 1) from None
        if problem := render_pool.problem(server):
            raise _StopError(problem, 1)
        yield KolboClient(service.api_key, service.base_url)


def _run(
    client: "KolboClient",
    source: str,
    audio: str | None,
    words: str | None,
    options: "Options",
    output: Path,
    *,
    as_json: bool,
    local: bool,
) -> None:
    """The whole flow, from the request to the saved file. An interruption cancels the
    generation."""
    from kolbo_demo.client.upload import sentence
    from kolbo_demo.engine import EngineError
    from kolbo_demo.generation import GenerationFlow, Request, Step
    from kolbo_demo.media.sniff import MediaError
    from kolbo_demo.preflight import Analyst

    shown = {Step.UPLOADING: "Sending", Step.DOWNLOADING: "Saving", Step.MARKING: "Marking"}
    generation: Generation | None = None
    finished = False
    with ExitStack() as stack:
        inspector = Analyst()
        stack.callback(inspector.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kolbo-")))
        try:
            show = stack.enter_context(_bar())

            def on_step(step: Step, done: float, total: float | None) -> None:
                if step in shown:
                    show(shown[step], done, total)

            remarks: list[str] = []

            def on_remark(text: str) -> None:
                remarks.append(text)
                _say(text)

            flow = GenerationFlow(client, inspector, folder, local=local, on_step=on_step)
            prepared = flow.prepare(Request(source, audio, words, options))
            generation = flow.submit(prepared, on_remark)
            _say(f"Generation {generation.id} started.")
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
                    if (text := sentence(note)) not in remarks:
                        _say(text)
                for part in status.result.unsynced:
                    _say(part.told)
        except KeyboardInterrupt:
            if generation is None:
                raise _StopError(
                    "Interrupted. If all was sent already, a generation may have started: check "
                    "your history.",
                    130,
                ) from None
            raise _StopError(_cancelled(generation, finished), 130) from None
        except EngineError as error:  # cannot speak here
            raise _StopError(str(error), 1) from None
        except MediaError as error:
            if generation is None:
                raise _StopError(str(error), 2) from None
            raise _StopError(
                f"Generation {generation.id} is done, but not saved: it cannot be marked. {error}",
                1,
            ) from None


def _cancelled(generation: "Generation", finished: bool) -> str:
    """Cancels after an interruption; what to say of it."""
    from kolbo_demo.client import KolboError

    if finished:
        return f"Interrupted. Generation {generation.id} is done, but not saved."
    try:
        state = generation.cancel().state
    except KolboError as error:
        return f"Interrupted, but {generation.id} may still be running: {error}"
    return f"Interrupted. Generation {generation.id} is {state}."


def _check_speed(speed: float, say: str | None) -> None:
    from kolbo_demo.engine.tts import check_speed
    from kolbo_demo.media.sniff import MediaError

    if say is None:
        raise _StopError("--speed goes with --say: a recording has its own.", 2)
    try:
        check_speed(speed)
    except MediaError as error:
        raise _StopError(str(error), 2) from None


def _face(text: str | None) -> tuple[float, float] | None:
    """`X,Y` as numbers; the client looks at their range."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise _StopError("--face takes two numbers from 0 to 1, such as 0.5,0.4.", 2) from None
    return x, y


def _check_output(output: Path, *inputs: str | None) -> None:
    """Before anything is sent, not after minutes of work."""
    with _loading():
        from kolbo_demo.client.download import check_target

    check_target(output)
    for given in inputs:
        with suppress(OSError):  # where one of the two is no file, they are not the same
            if given and output.samefile(given):
                raise _StopError("--output is one of the inputs. Choose another name.", 2)


def _say(text: str) -> None:
    """For people."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Callable[[str, float, float | None], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: float, total: float | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show
