"""The certificate and private key that sign manifests."""

import contextlib
import datetime
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kolbo_demo import private_folder
from kolbo_demo.credentials import CredentialsError

SELF_SIGNED_NAME = "Kolbo Lipsync (self-signed)"
"""Subject of the certificate of an installation. It names no person and no machine."""
_VALID_DAYS = 30 * 365
"""A manifest without a time stamp is invalid once its certificate has expired."""
_FILE = "identity.pem"
_MIN_RSA_BITS = 2048
_CURVES: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("ES256", hashes.SHA256()),
    "secp384r1": ("ES384", hashes.SHA384()),
    "secp521r1": ("ES512", hashes.SHA512()),
}


@dataclass(frozen=True)
class Identity:
    """A certificate chain and a function that signs with its key."""

    chain: str
    """PEM, the signing certificate first."""
    algorithm: str
    """Name of the signature algorithm in C2PA, such as ES256."""
    sign: Callable[[bytes], bytes]
    """Signature of some bytes. ECDSA signatures are in DER."""


def from_files(certificate: Path, key: Path) -> Identity:
    """An identity of PEM files. Raises CredentialsError."""
    chain = _read("KOLBO_SIGNING_CERT", certificate)
    return _parse(chain, _read("KOLBO_SIGNING_KEY", key), f"{certificate} and {key}")


def self_signed(folder: Path) -> Identity:
    """The identity of this installation, created on first use in `folder`, which all processes
    share. Where the folder cannot be used, an identity that is lost with the process.

    Raises CredentialsError if the file in `folder` is damaged.
    """
    path = folder / _FILE
    try:
        if not path.exists():
            _create(path, _generate())
        document = path.read_bytes()
    except OSError:
        document = _generate()
    return _parse(document, document, str(path))


def stored_chain(folder: Path) -> str | None:
    """The certificate chain of `self_signed`; None before it exists."""
    with contextlib.suppress(OSError, UnicodeError):
        document = (folder / _FILE).read_text("ascii")
        if "-----BEGIN CERTIFICATE-----\n" in document:
            return document[document.index("-----BEGIN CERTIFICATE-----") :]
    return None


def _create(path: Path, document: bytes) -> None:
    """Create a private file, whole or not at all; another process may have been faster."""
    private_folder.create(path.parent)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(document)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise CredentialsError(
            f"{setting}: {path} cannot be read ({error.strerror}); check the path and the "
            "permissions."
        ) from error


def _parse(chain: bytes, key_bytes: bytes, where: str) -> Identity:
    """Raises CredentialsError unless the key belongs to the first certificate."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        key = serialization.load_pem_private_key(key_bytes, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialsError(
            f"The certificate and the key in {where} cannot be read: they must be PEM, and the key "
            "without a password."
        ) from error
    if certificates[0].public_key() != key.public_key():
        raise CredentialsError(
            f"The key does not belong to the first certificate in {where}; put the signing "
            "certificate first and its issuers after it."
        )
    algorithm, sign = _signature(key, where)
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
    return Identity(pem.decode("ascii"), algorithm, sign)


def _signature(key: object, where: str) -> tuple[str, Callable[[bytes], bytes]]:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        algorithm, digest = _CURVES[key.curve.name]
        return algorithm, lambda data: key.sign(data, ec.ECDSA(digest))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519", key.sign
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        return "PS256", lambda data: key.sign(data, pss, hashes.SHA256())
    raise CredentialsError(
        f"The key in {where} is of a kind that C2PA does not allow: use ECDSA on P-256, P-384 or "
        "P-521, Ed25519, or RSA of 2048 bits or more."
    )


def _generate() -> bytes:
    """A key and its certificate chain, PEM.

    C2PA forbids a signing certificate that signs itself, so a certificate authority issues it,
    whose key is discarded.
    """
    issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _certificate(f"{SELF_SIGNED_NAME} CA", issuer_key, issuer_key, authority=True)
    leaf = _certificate(SELF_SIGNED_NAME, key, issuer_key, authority=False)
    pem = serialization.Encoding.PEM
    return b"".join(
        (
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            leaf.public_bytes(pem),
            issuer.public_bytes(pem),
        )
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    # The year tells no more of the installation than the version of the program does.
    start = datetime.datetime(datetime.datetime.now(datetime.UTC).year, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(f"{SELF_SIGNED_NAME} CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SELF_SIGNED_NAME),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
