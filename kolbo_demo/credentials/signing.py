"""Signs results."""

import base64
import logging
import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kolbo_demo import logs
from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.manifest import Production
from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.process.child import Child, ChildFailedError, MessageQueue, receive
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.settings import Settings

if TYPE_CHECKING:
    from kolbo_demo.credentials.identity import Identity

WORKER = "kolbo_demo.credentials.worker"
TIMEOUT_SECONDS = 120.0
"""For one video: a gigabyte takes a few seconds."""
_MAX_CHILDREN = 2
_FAILURES = (CredentialsError, ChildFailedError, OSError, ImportError, ValueError, TypeError)
"""The last two if a child was taken over and sends what is no request."""

_log = logging.getLogger(__name__)
_slots = FairSemaphore(_MAX_CHILDREN)


class Signer:
    """Signs videos with the owner's certificate, or with one that this installation makes for
    itself. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises CredentialsError if the owner's certificate cannot be used."""
        self._folder = settings.signing_folder
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        if settings.signing_cert and settings.signing_key:
            from kolbo_demo.credentials.identity import from_files

            self._identity = from_files(settings.signing_cert, settings.signing_key)

    def chain(self) -> str | None:
        """The certificate chain, PEM; None before the first signature of this installation."""
        with self._lock:
            if self._identity:
                return self._identity.chain
        from kolbo_demo.credentials.identity import stored_chain

        return stored_chain(self._folder)

    def sign(self, video: Path, production: Production) -> bool:
        """Replace `video`, an MP4, by a copy with a signed manifest. Returns whether that
        succeeded; otherwise the video is unchanged and the log says why, since a finished render is
        worth more than its manifest. Blocks."""
        try:
            self._sign(video, self._own_identity(), production)
        except _FAILURES as error:
            logs.event(_log, "content credentials missing", logging.WARNING, reason=str(error))
            return False
        return True

    def _own_identity(self) -> "Identity":
        with self._lock:
            if self._identity is None:
                from kolbo_demo.credentials.identity import self_signed  # slow to import

                self._identity = self_signed(self._folder)
            return self._identity

    def _sign(self, video: Path, identity: "Identity", production: Production) -> None:
        path = video.absolute()
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder, _slots.acquire():
            output = Path(folder, "signed")
            original = production.original and str(production.original.absolute())
            files = AllowedFiles(
                read=(str(path), *((original,) if original else ())), write=(folder,)
            )
            _run(
                identity,
                files,
                video=str(path),
                output=str(output),
                original=original,
                definition=production.definition(),
                chain=identity.chain,
                algorithm=identity.algorithm,
            )
            output.chmod(path.stat().st_mode & 0o777)
            output.replace(path)


def _run(identity: "Identity", files: AllowedFiles, **request: object) -> None:
    """Have a child write the signed file. It sends the bytes to sign and gets their signature, so
    that the process that parses a file never has the key.

    Raises CredentialsError and ChildFailedError.
    """
    messages: MessageQueue = queue.SimpleQueue()
    child = Child.start(WORKER, messages, group_leader=True)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        child.send(files, operation="sign", **request)
        message = receive(messages, TIMEOUT_SECONDS)
        if "to_sign" in message:
            signature = identity.sign(base64.b64decode(message["to_sign"]))
            child.send(files, signature=base64.b64encode(signature).decode())
            message = receive(messages, deadline - time.monotonic())
    finally:
        child.kill()
    if "done" not in message:
        raise CredentialsError(str(message.get("fault")))
