"""Reads and verifies the credentials of any file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.manifest import Ingredient
from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.json_codec import decode
from kolbo_demo.process.child import ChildFailedError, call_module
from kolbo_demo.process.confinement import AllowedFiles

WORKER = "kolbo_demo.credentials.worker"
READ_TIMEOUT_SECONDS = 60.0
State = Literal["none", "intact", "changed", "invalid"]
_UNREADABLE = "The credentials of this file cannot be read: it is damaged, or of another type."
_slots = FairSemaphore(2)


@dataclass(frozen=True)
class Credentials:
    """Contents of a file's manifest. Texts are one line of printable characters."""

    state: State
    """`none`: there is no manifest. `intact`: the file is as it was signed. `changed`: picture,
    sound, metadata or manifest were changed since. `invalid`: the manifest breaks the rules, or its
    certificate is not valid."""
    generator: str = ""
    """Program that made the manifest, with its version."""
    signer: str = ""
    """Name in the signing certificate, which anybody can choose unless the issuer is trusted."""
    own: bool = False
    """Whether this installation's certificate signed it. This program knows no other certificate:
    it has no list of trusted issuers."""
    statement: str = ""
    """Description of how the file was made."""
    source_type: str = ""
    """IPTC digital source type, the last part of its address."""
    visible_mark: str = ""
    """Text that is drawn into the picture."""
    ingredients: tuple[Ingredient, ...] = ()
    """Files from which it was made, if this program signed it."""
    comment: str = ""
    """Comment in the metadata of an MP4, which anybody can write."""
    problems: tuple[str, ...] = ()
    """C2PA's codes of what is wrong."""

    @property
    def ai_generated(self) -> bool:
        """Whether the manifest says so."""
        return "rainedAlgorithmicMedia" in self.source_type


def read(path: Path, own_chain: str | None = None) -> Credentials:
    """The credentials of a file, verified in a confined child without network. `own_chain`
    is `Signer.chain`. Blocks.

    Raises CredentialsError if there is no such file, or none that can carry credentials.
    """
    name = str(path.absolute())
    if not path.is_file():
        raise CredentialsError(f"There is no file {path}.")
    try:
        with _slots.acquire():
            answer = call_module(
                WORKER,
                READ_TIMEOUT_SECONDS,
                AllowedFiles(read=(name,)),
                operation="read",
                path=name,
                own_chain=own_chain,
            )
    except (ChildFailedError, ChildProcessError) as error:
        raise CredentialsError(_UNREADABLE) from error
    if "credentials" not in answer:
        raise CredentialsError(answer.get("problem") or _UNREADABLE)
    try:
        found = decode(Credentials, answer["credentials"])
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # of a child taken over
        raise CredentialsError(_UNREADABLE) from error
    if found.state not in get_args(State):
        raise CredentialsError(_UNREADABLE)
    return found
