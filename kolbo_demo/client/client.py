"""The door to Kolbo's API, and to anything that speaks the same contract."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from kolbo_demo.client.generation import Generation
from kolbo_demo.client.retry import Retry
from kolbo_demo.client.session import Timeouts
from kolbo_demo.client.transport import Transport, checked_base, checked_key
from kolbo_demo.client.upload import Request
from kolbo_demo.contract import API_PREFIX, Credits, CreditsReply, Model, ModelList, StartReply
from kolbo_demo.options import Options
from kolbo_demo.settings import Settings


class KolboClient:
    """Starts generations and reopens them.

    Every method raises `KolboError`s only: see `kolbo_demo.client.errors`. A client holds no
    connection, needs no closing, and may be shared between threads.
    """

    def __init__(
        self,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        *,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """The key from the argument or `KOLBO_API_KEY`, the base from the argument or
        `KOLBO_API_URL`, else Kolbo's cloud. `retry` and `timeouts` rule how patient it is. Raises
        `AuthError` without a usable key and `InputError` for a base that is no address."""
        settings = Settings()
        key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        self._transport = Transport(
            checked_base(base_url or settings.api_url),
            checked_key(key if key is not None else settings.api_key),
            retry,
            timeouts,
        )

    @property
    def base_url(self) -> str:
        """The API that is asked, `/api` included."""
        return self._transport.base_url

    def __repr__(self) -> str:
        return f"KolboClient(base_url={self.base_url!r})"

    def models(self) -> list[Model]:
        """The lipsync models there are now. Ask every time: they come and go."""
        reply = self._transport.get(f"{API_PREFIX}/models", ModelList, {"type": "lipsync"})
        return reply.models

    def credits(self) -> Credits:
        """What the account has left."""
        return self._transport.get(f"{API_PREFIX}/account/credits", CreditsReply).credits

    def lipsync(
        self,
        source: str | Path,
        audio: str | Path,
        options: Options = Options(),
        on_upload: Callable[[int, int], None] | None = None,
        *,
        on_remark: Callable[[str], None] | None = None,
    ) -> Generation:
        """Starts a generation: `source` (a picture or a video) says what `audio` says.

        Each of the two is a path or an http(s) link. `options.mark` is for the local service:
        Kolbo's API has no such field; `options.trim` and `speed` change nothing here, see
        `kolbo_demo.generation`. `on_upload` is called with the bytes sent and the bytes in all
        while files go up, `on_remark` before anything is sent with a sentence about a voice that
        may not be the right one, such as a silent one.

        Raises `InputError` before anything is sent; `UnreachableError` where nothing was started;
        `MaybeAcceptedError` where it may have been: the request is never sent twice.
        """
        request = Request.checked(source, audio, options)
        if on_remark is not None:
            for remark in request.remarks:
                on_remark(remark)
        with request.body(on_upload) as body:
            started = self._transport.post_once(
                f"{API_PREFIX}/generate/lipsync",
                body,
                StartReply,
                request.seconds(self._transport.timeouts),
            )
        return Generation(
            self._transport, started.generation_id, started.poll_interval_hint, started
        )

    def generation(self, generation_id: str, poll_interval: float | None = None) -> Generation:
        """Reopens a generation by its id, without asking anything yet."""
        return Generation(self._transport, generation_id, poll_interval)
