"""The page's endpoints for other programs: `gradio_client`, and assistants through MCP.

Five endpoints, each a tool. A key for Kolbo's cloud comes in the `X-API-Key` header, never among
the inputs, so that no history of calls holds it. The page's own key is not theirs to spend.
"""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import anyio.to_thread
import gradio as gr
from gradio.events import api
from gradio.utils import get_upload_folder

from kolbo_demo.client import InputError, KolboClient, KolboError
from kolbo_demo.engine import EngineError
from kolbo_demo.engine.sync_eval.process import judge_in_process
from kolbo_demo.engine.voices import check_speed, check_words, choose_voice
from kolbo_demo.engine.voices import voices as available_voices
from kolbo_demo.media.probe import MediaError
from kolbo_demo.safe_file import UnsafeFileError, resolve_regular_file
from kolbo_demo.service.gate import caller_of
from kolbo_demo.service.public_url import public_base_url
from kolbo_demo.ui.access.backend import CLOUD, LOCAL, Access, Backend
from kolbo_demo.ui.background.runs import POLL_SECONDS, Runs
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.inputs import request_of
from kolbo_demo.ui.storage.generation_store import RESULT, as_document
from kolbo_demo.ui.storage.quota import counted

MEASURED_AT_ONCE = 1
"""Measuring keeps a core busy."""

T = TypeVar("T")


def lay_out(access: Access, runs: Runs) -> None:
    """Adds the endpoints to the page that is being built."""

    def client(
        where: str, key: str | None, request: gr.Request, *, patient: bool = False
    ) -> KolboClient:
        if where not in {LOCAL, CLOUD}:
            raise InputError("`where` is `local` or `cloud`.")
        if where == CLOUD and not (key or "").strip():
            raise InputError(say("api.no_key"))
        return access.client(where, key, caller_of(request), patient=patient)

    async def lipsync(
        source: str,
        request: gr.Request,
        voice: str = "",
        words: str = "",
        prompt: str = "",
        model: str = "",
        face_x: float = -1.0,
        face_y: float = -1.0,
        where: Backend = "local",
        speed: float = 1.0,
        mark: bool = False,
        insist: bool = False,
        language: str = "",
        voice_name: str = "",
        x_api_key: gr.Header = gr.Header(""),  # noqa: B008 - how Gradio names a header
    ) -> dict[str, Any]:
        """Makes a portrait or a clip say what a recording says. Starts the work and answers at once
        with a generation_id; ask `status` with it every few seconds until it is completed.

        Args:
            source: Who speaks: an http(s) link to a picture or a video, or an uploaded file.
            voice: What is said: an http(s) link to a recording, or an uploaded file.
            words: Words to be spoken instead of a voice. Give one of the two.
            prompt: How it is said, such as "smiling, keep the head still". Optional.
            model: An identifier from `models`. Left out, the best one is chosen.
            face_x: With several faces, a point on the one that speaks: 0 left to 1 right.
            face_y: The same, 0 top to 1 bottom. Left out, the largest face speaks.
            where: `local` for the engine of this page, free; `cloud` for Kolbo's models, which
                cost credits and need your key in the X-API-Key header.
            speed: How fast words are spoken, from 0.5 to 2; 1 is the voice's own speed.
            mark: Whether the picture says that it is AI-generated. On the cloud that is done by
                this page: then the answer has a marked_url, where the marked video will be a moment
                after the generation is completed; the links of `status` lead to the plain one.
            insist: Whether a source is rendered whose mouth is not visible.
            language: Language of the words, such as `de`. Left out, it is guessed from the words.
            voice_name: A voice of `voices` that speaks the words. Left out, the language's first.
        """

        def start() -> str:
            link, file = _given(source)
            said, recording = _given(voice)
            face = (face_x, face_y) if face_x >= 0 and face_y >= 0 else None
            wanted = request_of(
                file, None, link, recording, said, words, prompt, model or None, face
            )
            check_speed(speed)
            if wanted.words is None:
                if speed != 1:
                    raise InputError(say("api.speed_of_words"))
                if language or voice_name:
                    raise InputError("`language` and `voice_name` are for words to speak.")
            else:
                chosen = choose_voice(wanted.words, voice_name or None, language or None)
                check_words(wanted.words, chosen)
            options = wanted.options.replace(
                speed=speed,
                language=language or None,
                voice=voice_name or None,
                mark=mark,
                insist=insist,
            )
            wanted = replace(wanted, options=options)
            api_client = client(where, x_api_key, request, patient=True)
            return runs.start(api_client, wanted, where, visitor=counted(caller_of(request))).ticket

        def answer(ticket: str) -> dict[str, Any] | None:
            accepted = runs.accepted(ticket)
            if accepted is None:
                return None
            started: dict[str, Any] = {
                "generation_id": accepted.generation_id,
                "poll_interval_hint": accepted.poll_interval,
                "credits_charged": accepted.credits,
            }
            if mark and where == CLOUD:
                path = quote(str(runs.store.folder(ticket) / RESULT))
                started["marked_url"] = f"{_base(request)}/gradio_api/file={path}"
            return started

        ticket = await anyio.to_thread.run_sync(_as_gradio_errors, start)
        while (started := _as_gradio_errors(lambda: answer(ticket))) is None:
            await asyncio.sleep(POLL_SECONDS)
        return started

    def models(
        request: gr.Request,
        where: Backend = "local",
        x_api_key: gr.Header = gr.Header(""),  # noqa: B008
    ) -> list[dict[str, Any]]:
        """Lists the lipsync models there are now: identifier, name, what each takes and costs.

        Args:
            where: `local` for the engine of this page; `cloud` for Kolbo's models, which need your
                key in the X-API-Key header.
        """
        return _as_gradio_errors(
            lambda: [
                model.model_dump(mode="json", exclude_none=True)
                for model in client(where, x_api_key, request).models()
            ]
        )

    def voices(language: str = "") -> list[dict[str, Any]]:
        """Lists the voices that speak words: name, language, and whether each is natural. The first
        of a language is its default.

        Args:
            language: Only those of a language, such as `de`.
        """
        return [asdict(voice) for voice in available_voices(language or None)]

    def status(
        generation_id: str,
        request: gr.Request,
        where: Backend = "local",
        x_api_key: gr.Header = gr.Header(""),  # noqa: B008
    ) -> dict[str, Any]:
        """Tells where a generation stands: state, progress from 0 to 100, and once it is completed
        the link to the video in result.urls.

        Args:
            generation_id: What `lipsync` answered, such as lip_abc123.
            where: Where it was started.
        """
        found = _as_gradio_errors(
            lambda: client(where, x_api_key, request).generation(generation_id).status()
        )
        if where == LOCAL and found.result:
            # The service was asked over this machine's own address; the caller came by another.
            base = _base(request)
            prefix = request.request.scope.get("app_root_path", "") if request.request else ""
            urls, thumbnail = found.result.urls, found.result.thumbnail_url
            found.result.urls = [base + _path(url, prefix) for url in urls]
            found.result.thumbnail_url = base + _path(thumbnail, prefix) if thumbnail else None
        return as_document(found)

    def sync_report(
        request: gr.Request,
        generation_id: str = "",
        video: str = "",
        where: Backend = "local",
        x_api_key: gr.Header = gr.Header(""),  # noqa: B008
    ) -> dict[str, Any]:
        """Measures on a finished video whether the lips say what is heard: a verdict such as
        "in step" or "120 ms late", offset_ms, confidence, closures and the share of them hit, and
        under `curves` how far the lips are open and wide in each frame.

        Args:
            generation_id: A completed generation. Give this or a video.
            video: An uploaded video file of any origin, with sound.
            where: Where the generation was made.
        """

        def measure() -> dict[str, Any]:
            link, file = _given(video)
            if link or bool(file) == bool(generation_id):
                raise InputError(say("api.one_video"))
            if file:
                return judge_in_process(Path(file))
            with tempfile.TemporaryDirectory(prefix="kolbo-page-") as folder:
                made = client(where, x_api_key, request).generation(generation_id)
                return judge_in_process(made.download(Path(folder) / "video.mp4"))

        return _as_gradio_errors(measure)

    api(lipsync, api_name="lipsync", concurrency_limit=None)
    api(models, api_name="models", concurrency_limit=None)
    api(voices, api_name="voices", concurrency_limit=None)
    api(status, api_name="status", concurrency_limit=None)
    api(sync_report, api_name="sync_report", concurrency_limit=MEASURED_AT_ONCE)


def _base(request: gr.Request) -> str:
    """This page's address, for its caller."""
    return public_base_url(request.request) if request.request else ""


def _path(url: str, prefix: str) -> str:
    """The path of an address without the prefix."""
    return urlsplit(url).path.removeprefix(prefix)


def _as_gradio_errors(work: Callable[[], T]) -> T:
    """The result of `work`. Raises gr.Error with one sentence."""
    try:
        return work()
    except (KolboError, MediaError, EngineError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _given(value: Any) -> tuple[str, str | None]:
    """A link, or the path of a file that was uploaded here: nobody names others of this machine."""
    if isinstance(value, dict):
        value = value.get("path")
    text = str(value or "").strip()
    if not text or urlsplit(text).scheme in {"http", "https"}:
        return text, None
    try:
        return "", str(resolve_regular_file(text, Path(get_upload_folder())))
    except UnsafeFileError:
        raise InputError(say("api.no_file")) from None
