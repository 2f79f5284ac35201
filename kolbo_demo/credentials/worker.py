"""The child process that signs or reads one file, with the C2PA library."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kolbo_demo.credentials.manifest import FORMAT, HASH_PREFIX, VISIBLE_MARK
from kolbo_demo.process.child import Message, parent_connection
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, MAX_STDERR_BYTES, limit_resources

_CPU_SECONDS = 60.0
_MEMORY_BYTES = 1024**3
_MAX_TEXT = 300
_MAX_ITEMS = 20
_SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"backing_store_memory_threshold_in_mb": 64},
    "builder": {"thumbnail": {"enabled": False}},
}
_UNKNOWN_ISSUER = "signingCredential.untrusted"
"""Not a problem of the file: this program trusts no issuer."""
_SIGNER_PROBLEMS = ("signingCredential.", "claimSignature.outsideValidity")
_NO_LIBRARY = "Content credentials need the library c2pa-python, which is not installed here."
_NOT_MEDIA = "This file is of a type that carries no content credentials; choose a video."


def main() -> None:
    """Answer one request."""
    with parent_connection() as (requests, send):
        request = next(requests)
        writes = request["operation"] == "sign"
        limit_resources(
            _CPU_SECONDS, _MEMORY_BYTES, MAX_OUTPUT_BYTES if writes else MAX_STDERR_BYTES
        )
        try:
            import c2pa  # noqa: F401 - not on every platform

            send(**(_sign(request, requests, send) if writes else _read(request)))
        except (ImportError, OSError, RuntimeError):
            send(problem=_NO_LIBRARY, fault=_NO_LIBRARY)


def _sign(request: Message, requests: Iterator[Message], send: Callable[..., None]) -> Message:
    from c2pa import Builder, C2paError, C2paSigningAlg, Context, Signer

    def signature(data: bytes) -> bytes:
        send(to_sign=base64.b64encode(data).decode())
        return base64.b64decode(next(requests)["signature"])

    definition, original = request["definition"], request["original"]
    try:
        algorithm = C2paSigningAlg[request["algorithm"]]
        signer = Signer.from_callback(signature, algorithm, request["chain"])
        with Context.from_dict(_SETTINGS) as context:
            inherited = original and _has_manifest(Path(original), context)
            first = definition["ingredients"].pop(0) if inherited else None
            with (
                Builder(definition, context=context) as builder,
                Path(request["video"]).open("rb") as video,
                Path(request["output"]).open("w+b") as output,
            ):
                if first:
                    with Path(original).open("rb") as file:
                        builder.add_ingredient(first, FORMAT, file)
                builder.sign(signer, FORMAT, video, output)
    except (C2paError, OSError, MemoryError) as error:
        return {"fault": f"{type(error).__name__}: {error}"[:_MAX_TEXT]}
    return {"done": True}


def _has_manifest(path: Path, context: Any) -> bool:
    from c2pa import C2paError, Reader

    with contextlib.suppress(C2paError), path.open("rb") as file:
        if reader := Reader.try_create(FORMAT, file, context=context):
            reader.close()
            return True
    return False


def _read(request: Message) -> Message:
    from c2pa import C2paError, Context, Reader

    path, own_chain = Path(request["path"]), request["own_chain"]
    trust = {"trust": {"user_anchors": own_chain}} if own_chain else {}
    comment = _comment(path)
    try:
        with Context.from_dict(_SETTINGS | trust) as context, path.open("rb") as file:
            reader = Reader.try_create(file, context=context)
            if reader is None:
                return {"credentials": {"state": "none", "comment": comment}}
            with reader:
                store = json.loads(reader.json())
    except C2paError as error:
        code = type(error).__name__.removeprefix("_C2pa")
        if code == "NotSupported":
            return {"problem": _NOT_MEDIA}
        return {"credentials": {"state": "invalid", "comment": comment, "problems": [code]}}
    except (MemoryError, RecursionError, ValueError):
        return {"credentials": {"state": "invalid", "comment": comment}}
    return {"credentials": _summary(store, own_chain) | {"comment": comment}}


def _summary(store: dict[str, Any], own_chain: str | None) -> dict[str, Any]:
    """Fields of `Credentials`, from the library's report."""
    manifest = _dict(_dict(store.get("manifests")).get(store.get("active_manifest", "")))
    signature = _dict(manifest.get("signature_info"))
    codes = [_text(_dict(each).get("code")) for each in _list(store.get("validation_status"))]
    problems = [code for code in codes if code != _UNKNOWN_ISSUER]
    action = _made_by(manifest)
    generator = _dict(next(iter(_list(manifest.get("claim_generator_info"))), None))
    return {
        "state": _state(problems, store.get("validation_state")),
        "generator": _text(f"{generator.get('name', '')} {generator.get('version', '')}"),
        "signer": _text(signature.get("common_name") or signature.get("issuer")),
        # Issuers give each certificate a number of its own.
        "own": _is_trusted(store)
        and signature.get("cert_serial_number") == _serial_number(own_chain),
        "statement": _text(action.get("description")),
        "source_type": _text(action.get("digitalSourceType")).rpartition("/")[2],
        "visible_mark": _text(_dict(action.get("parameters")).get(VISIBLE_MARK)),
        "ingredients": list(_ingredients(manifest)),
        "problems": list(dict.fromkeys(problems)),
    }


def _is_trusted(store: dict[str, Any]) -> bool:
    """Whether the claim is signed with a certificate of a trusted issuer, even if the file was
    changed since."""
    results = _dict(_dict(store.get("validation_results")).get("activeManifest"))
    passed = {_dict(each).get("code") for each in _list(results.get("success"))}
    return {"signingCredential.trusted", "claimSignature.validated"} <= passed


def _serial_number(chain: str | None) -> str | None:
    from cryptography import x509  # slow to import

    certificates = x509.load_pem_x509_certificates(chain.encode()) if chain else []
    return str(certificates[0].serial_number) if certificates else None


def _state(problems: list[str], validation: object) -> str:
    if not problems:
        return "intact" if validation in ("Valid", "Trusted") else "invalid"
    if all(code.startswith(_SIGNER_PROBLEMS) for code in problems):
        return "invalid"
    return "changed" if any(code.endswith("mismatch") for code in problems) else "invalid"


def _made_by(manifest: dict[str, Any]) -> dict[str, Any]:
    """The action that says how the file was made: the last one with a digital source type."""
    found: dict[str, Any] = {}
    for assertion in _list(manifest.get("assertions")):
        data = _dict(_dict(assertion).get("data"))
        for action in map(_dict, _list(data.get("actions"))):
            if action.get("digitalSourceType"):
                found = action
    return found


def _ingredients(manifest: dict[str, Any]) -> Iterator[dict[str, str]]:
    for ingredient in map(_dict, _list(manifest.get("ingredients"))):
        identifier = _text(ingredient.get("instance_id"))
        if identifier.startswith(HASH_PREFIX):
            digest = identifier.removeprefix(HASH_PREFIX)
            yield {"role": _text(ingredient.get("title")), "sha256": digest}


def _comment(path: Path) -> str:
    """The comment in the metadata of a video or recording."""
    from kolbo_demo.media.demux import MediaError, open_media  # slow to import

    with contextlib.suppress(MediaError), open_media(path) as container:
        return _text(container.metadata.get("comment"))
    return ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value[:_MAX_ITEMS] if isinstance(value, list) else []


def _text(value: object) -> str:
    """One line of printable characters, since a terminal executes others."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())[
        :_MAX_TEXT
    ]


if __name__ == "__main__":
    main()
