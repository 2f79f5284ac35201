"""The client of Kolbo's API, and of any service with the same contract."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from kolbo_demo.client.generation import Generation
from kolbo_demo.client.retry import Retry
from kolbo_demo.client.session import Timeouts
from kolbo_demo.client.transport import Transport, validate_base_url, validate_key
from kolbo_demo.client.upload import StartRequest
from kolbo_demo.contract import API_PREFIX, Credits, CreditsReply, Model, ModelList, StartReply
from kolbo_demo.options import Options
from kolbo_demo.settings import Settings


class KolboClient:
    """Starts generations and reopens them.

    Methods raise only `KolboError`s: see `kolbo_demo.client.errors`. A client holds no connection,
    needs no closing and may be shared between threads.
    """

    def __init__(
        self,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        *,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """`api_key` defaults to `KOLBO_API_KEY`; `base_url` to `KOLBO_API_URL`, else Kolbo's cloud.
        Raises `AuthError` without a usable key and `InputError` for an unusable base URL."""
        settings = Settings()
        key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        self._transport = Transport(
            validate_base_url(base_url or settings.api_url),
            validate_key(key if key is not None else settings.api_key),
            retry,
            timeouts,
        )

    @property
    def base_url(self) -> str:
        """URL of the API, `/api` included."""
        return self._transport.base_url

    def __repr__(self) -> str:
        return f"KolboClient(base_url={self.base_url!r})"

    def models(self) -> list[Model]:
        """The lipsync models available now. Do not cache them: the list changes.

        Raises `ApiError` or `UnreachableError`.
        """
        reply = self._transport.get(f"{API_PREFIX}/models", ModelList, {"type": "lipsync"})
        return reply.models

    def credits(self) -> Credits:
        """The account's remaining credits. Raises `ApiError` or `UnreachableError`."""
        return self._transport.get(f"{API_PREFIX}/account/credits", CreditsReply).credits

    def lipsync(
        self,
        source: str | Path,
        audio: str | Path,
        options: Options = Options(),
        on_upload: Callable[[int, int], None] | None = None,
        *,
        on_warning: Callable[[str], None] | None = None,
    ) -> Generation:
        """Start a generation: `source` (a picture or a clip) says what `audio` says.

        Both are paths or http(s) links. `options.mark` works with the local service only: Kolbo's
        API has no such field. `options.trim`, `face_at` and `speed` have no effect here, see
        `kolbo_demo.generation`. `on_upload(sent, total)` counts bytes of files. `on_warning` gets a
        sentence about a valid but suspicious voice, such as a silent one, before anything is sent.

        Raises `InputError` before anything is sent, `ApiError` if the API refuses,
        `UnreachableError` if nothing was started, `MaybeAcceptedError` if it may have been: the
        request is never sent twice.
        """
        request = StartRequest.prepare(source, audio, options)
        if on_warning is not None:
            for warning in request.warnings:
                on_warning(warning)
        with request.body(on_upload) as body:
            started = self._transport.post_once(
                f"{API_PREFIX}/generate/lipsync",
                body,
                StartReply,
                request.response_timeout(self._transport.timeouts),
            )
        return Generation(
            self._transport, started.generation_id, started.poll_interval_hint, started
        )

    def generation(self, generation_id: str, poll_interval: float | None = None) -> Generation:
        """Reopen a generation, without a request. Raises `InputError` for a malformed id."""
        return Generation(self._transport, generation_id, poll_interval)
