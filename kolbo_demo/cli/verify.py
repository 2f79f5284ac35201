"""`verify`: show the content credentials of a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kolbo_demo.cli.errors import CommandError

if TYPE_CHECKING:
    from kolbo_demo.credentials.reading import Credentials

_STATES = {
    "none": "No content credentials. They may have been removed: this does not tell whether the "
    "file is AI-generated.",
    "intact": "Intact: the file has not been changed since it was signed.",
    "changed": "Changed: the file is not as it was signed. Do not rely on what follows.",
    "invalid": "Invalid: the content credentials cannot be trusted.",
}


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video, picture or recording.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what the content credentials of FILE say, and whether it was changed since.

    The exit code is 0 for a file that is intact, else 1.
    """
    from kolbo_demo.credentials import CredentialsError
    from kolbo_demo.credentials.reading import read
    from kolbo_demo.credentials.signing import Signer
    from kolbo_demo.json_codec import encode
    from kolbo_demo.settings import Settings

    try:
        found = read(file, Signer(Settings()).chain())
    except CredentialsError as error:
        raise CommandError(str(error), 2) from None
    if as_json:
        print(json.dumps(encode(found) | {"ai_generated": found.ai_generated}))
    else:
        print("\n".join(_lines(found)))
    if found.state != "intact":
        raise typer.Exit(1)


def _lines(found: "Credentials") -> list[str]:
    facts = {
        "Signed by": found.signer and f"{found.signer}, {_issuer(found)}",
        "Made with": found.generator,
        "Says": found.statement,
        "Source type": found.source_type,
        "Visible mark": found.visible_mark,
        "Comment": found.comment and f"{found.comment} (not signed)"
        if found.state == "none"
        else found.comment,
        **{f"SHA-256 of {each.role}": each.sha256 for each in found.ingredients},
        "Problems": ", ".join(found.problems),
    }
    return [_STATES[found.state], *(f"{name}: {text}" for name, text in facts.items() if text)]


def _issuer(found: "Credentials") -> str:
    if found.own:
        return "the certificate of this installation"
    return "a certificate that this program does not know: anybody can choose this name"
