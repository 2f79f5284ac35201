"""Results carry signed manifests, which tell whether a file was changed since."""

import contextlib
import datetime
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.manifest import Production, combined, marked, rendered
from kolbo_demo.credentials.reading import Credentials, read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.settings import Settings
from tests import samples

CLIP, PORTRAIT, SPEECH = (
    samples.ASSETS / name for name in ("clip.mp4", "portrait.jpg", "speech.wav")
)
PEM = serialization.Encoding.PEM


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def new_signer(folder: Path, **settings: Any) -> Signer:
    return Signer(Settings(data_dir=folder, signing_dir=folder / "signing", **settings))


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return new_signer(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def signed_bytes(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    video = tmp_path_factory.mktemp("video") / "video.mp4"
    shutil.copy(CLIP, video)
    assert signer.sign(video, rendered(PORTRAIT, SPEECH, clip=False, visible_mark=True))
    return video.read_bytes()


@pytest.fixture
def signed(signed_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "signed.mp4"
    path.write_bytes(signed_bytes)
    return path


def library_report(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        return json.loads(reader.json())


def test_the_library_s_own_reader_validates_a_manifest(signed: Path) -> None:
    report = library_report(signed)
    assert report["validation_state"] == "Valid"
    assert [each["code"] for each in report["validation_status"]] == ["signingCredential.untrusted"]
    manifest = report["manifests"][report["active_manifest"]]
    assert manifest["claim_generator_info"][0]["name"] == "Kolbo Lipsync"
    [action] = next(
        each["data"]["actions"]
        for each in manifest["assertions"]
        if each["label"].startswith("c2pa.actions")
    )
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert "when" not in json.dumps(manifest)
    assert "time" not in manifest["signature_info"]


def test_reading_tells_what_the_manifest_says(signer: Signer, signed: Path) -> None:
    found = read(signed, signer.chain())
    assert (found.state, found.own, found.ai_generated) == ("intact", True, True)
    assert found.generator.startswith("Kolbo Lipsync ")
    assert found.visible_mark == "AI-generated"
    assert found.statement.startswith("AI-generated")
    assert {each.role: each.sha256 for each in found.ingredients} == {
        "source": sha256(PORTRAIT),
        "voice": sha256(SPEECH),
    }
    other = read(signed)
    assert (other.state, other.own) == ("intact", False)
    assert "self-signed" in other.signer


@pytest.mark.parametrize(
    ("make", "roles"),
    [
        (lambda video: rendered(CLIP, SPEECH, clip=True, visible_mark=False), ["source", "voice"]),
        (lambda video: marked(video, visible_mark=False), ["video"]),
        (lambda video: combined(CLIP, CLIP, visible_mark=False), ["left", "right"]),
    ],
)
def test_each_kind_of_production_is_valid(
    signer: Signer, tmp_path: Path, make: Callable[[Path], Production], roles: list[str]
) -> None:
    original, video = tmp_path / "original.mp4", tmp_path / "video.mp4"
    shutil.copy(CLIP, original)
    shutil.copy(CLIP, video)
    assert signer.sign(video, make(original))
    found = read(video)
    assert found.state == "intact"
    assert [each.role for each in found.ingredients] == roles
    assert found.visible_mark == ""
    assert library_report(video)["validation_state"] == "Valid"


def test_an_earlier_manifest_stays_part_of_the_next(
    signer: Signer, signed: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.mp4"
    shutil.copy(CLIP, again)
    assert signer.sign(again, marked(signed, visible_mark=False))
    report = library_report(again)
    assert report["validation_state"] == "Valid"
    assert len(report["manifests"]) == 2


@pytest.mark.parametrize("part", [b"mdat", b"moov", b"c2pa.created", b"AI-generated: the lips"])
def test_one_changed_byte_is_noticed(signed: Path, signed_bytes: bytes, part: bytes) -> None:
    changed = bytearray(signed_bytes)
    changed[changed.index(part) + len(part) + (1000 if part == b"mdat" else -1)] ^= 1
    signed.write_bytes(changed)
    assert read(signed).state in ("changed", "invalid")
    report = library_report(signed)
    assert report["validation_state"] == "Invalid"


def test_names_of_files_are_not_in_the_video(signer: Signer, tmp_path: Path) -> None:
    source, voice = tmp_path / "marguerite.jpg", tmp_path / "zanzibar.wav"
    shutil.copy(PORTRAIT, source)
    shutil.copy(SPEECH, voice)
    video = tmp_path / "timbuktu.mp4"
    shutil.copy(CLIP, video)
    assert signer.sign(video, rendered(source, voice, clip=False, visible_mark=False))
    content = video.read_bytes()
    for word in ("marguerite", "zanzibar", "timbuktu", str(tmp_path)):
        assert word.encode() not in content
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "marguerite.jpg",
        "timbuktu.mp4",
        "zanzibar.wav",
    ]


def test_the_key_is_this_user_s_alone(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    shutil.copy(CLIP, video)
    signer = new_signer(tmp_path)
    assert signer.chain() is None
    assert signer.sign(video, combined(CLIP, CLIP, visible_mark=False))
    [identity] = (tmp_path / "signing").iterdir()
    assert identity.stat().st_mode & 0o777 == 0o600
    assert identity.parent.stat().st_mode & 0o777 == 0o700
    key = identity.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")[0]
    assert b"PRIVATE KEY" in key
    assert key.splitlines()[1] not in video.read_bytes()
    assert new_signer(tmp_path).chain() == signer.chain()


def test_processes_that_start_at_once_share_a_certificate(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from kolbo_demo.credentials.identity import self_signed\n"
        "sys.stdin.read(); print(self_signed(Path(sys.argv[1])).chain)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "signing")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    chains = {process.communicate(timeout=120)[0] for process in started}
    assert len(chains) == 1
    assert "BEGIN CERTIFICATE" in chains.pop()
    assert len(list((tmp_path / "signing").iterdir())) == 1


def test_a_folder_that_cannot_be_written_still_signs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    video = tmp_path / "video.mp4"
    shutil.copy(CLIP, video)
    signer = new_signer(tmp_path / "file")
    assert signer.sign(video, combined(CLIP, CLIP, visible_mark=False))
    found = read(video, signer.chain())
    assert (found.state, found.own) == ("intact", True)


def test_a_video_that_cannot_be_signed_stays_as_it_is(
    signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"no video")
    assert not signer.sign(video, combined(CLIP, CLIP, visible_mark=False))
    assert video.read_bytes() == b"no video"
    assert list(tmp_path.iterdir()) == [video]
    assert "content credentials missing" in caplog.text


def issued(folder: Path, key: Any, name: str = "Example Studio") -> dict[str, Path]:
    """Settings of an owner's certificate for a key, from an authority of the owner."""
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    chain = b""
    for subject, public, ca in (
        (name, key.public_key(), False),
        ("Example CA", authority.public_key(), True),
    ):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, False, False, False),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
                critical=False,
            )
        )
        if not ca:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usage, critical=False)
        chain += builder.sign(authority, hashes.SHA256()).public_bytes(PEM)
    certificate, key_file = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(chain)
    key_file.write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"signing_cert": certificate, "signing_key": key_file}


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA"],
)
def test_an_owner_s_certificate_signs(tmp_path: Path, make_key: Callable[[], Any]) -> None:
    signer = new_signer(tmp_path, **issued(tmp_path, make_key()))
    video = tmp_path / "video.mp4"
    shutil.copy(CLIP, video)
    assert signer.sign(video, combined(CLIP, CLIP, visible_mark=False))
    found = read(video, signer.chain())
    assert (found.state, found.own, found.signer) == ("intact", True, "Example Studio")
    assert not (tmp_path / "signing").exists()


def test_another_certificate_of_the_same_authority_is_not_this_installation_s(
    tmp_path: Path,
) -> None:
    owner = new_signer(tmp_path, **issued(tmp_path, ec.generate_private_key(ec.SECP256R1())))
    video = tmp_path / "video.mp4"
    shutil.copy(CLIP, video)
    assert owner.sign(video, combined(CLIP, CLIP, visible_mark=False))
    chain = owner.chain() or ""
    authority = chain[chain.rindex("-----BEGIN") :]
    other = tmp_path / "other"
    other.mkdir()
    issued(other, ec.generate_private_key(ec.SECP256R1()))
    leaf = (other / "cert.pem").read_text().partition("-----END CERTIFICATE-----\n")
    assert not read(video, f"{leaf[0]}{leaf[1]}{authority}").own


def test_an_owner_s_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings = issued(tmp_path, key)
    settings["signing_key"].write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(CredentialsError, match="does not belong"):
        new_signer(tmp_path, **settings)
    settings["signing_key"].write_text("no key")
    with pytest.raises(CredentialsError, match="PEM"):
        new_signer(tmp_path, **settings)
    settings["signing_key"].unlink()
    with pytest.raises(CredentialsError, match="KOLBO_SIGNING_KEY"):
        new_signer(tmp_path, **settings)
    with pytest.raises(ValueError, match="go together"):
        new_signer(tmp_path, signing_cert=settings["signing_cert"])


@pytest.mark.parametrize("command", [["app.py"], ["-m", "kolbo_demo", "serve", "--port", "0"]])
def test_a_start_with_unusable_files_ends_with_a_sentence(
    tmp_path: Path, command: list[str]
) -> None:
    settings = issued(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    settings["signing_key"].unlink()
    ended = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ
        | {f"KOLBO_{name.upper()}": str(path) for name, path in settings.items()}
        | {"KOLBO_DATA_DIR": str(tmp_path / "data"), "GRADIO_SERVER_PORT": "0"},
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("KOLBO_SIGNING_KEY")
    assert "Traceback" not in ended.stderr


def test_files_without_credentials(tmp_path: Path) -> None:
    assert read(CLIP) == Credentials("none")
    assert read(PORTRAIT).state == "none"
    for name, content in (("a.txt", b"words"), ("b.mp4", b""), ("c.mp4", bytes(5000))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CredentialsError, match=r"\.$"):
            read(tmp_path / name)
    with pytest.raises(CredentialsError, match="no file"):
        read(tmp_path / "absent.mp4")
    with pytest.raises(CredentialsError, match="no file"):
        read(tmp_path)


def test_damaged_manifests_are_never_intact(signed_bytes: bytes, tmp_path: Path) -> None:
    chance = random.Random(24)
    start = signed_bytes.index(b"uuid")
    length = int.from_bytes(signed_bytes[start - 4 : start], "big")
    for number in range(6):
        damaged = bytearray(signed_bytes)
        if number % 3 == 0:
            del damaged[start + chance.randrange(100, 2500) :]
        else:
            for _ in range(chance.randrange(1, 30)):
                damaged[start + chance.randrange(30, min(length, 2500))] = chance.randrange(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damaged)
        state = "refused"
        with contextlib.suppress(CredentialsError):
            state = read(path).state
        assert state != "intact"


def test_a_manifest_of_others_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    issued(folder, key := ec.generate_private_key(ec.SECP256R1()), "\x1b[31mKolbo\nSigned by: all")
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg.ES256,
        (folder / "cert.pem").read_bytes(),
        (folder / "key.pem").read_bytes(),
        None,
    )
    assert key
    definition = {
        "claim_generator_info": [{"name": "\x1b]0;title\x07" + "x" * 5000, "version": "1\r2"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {
                    "actions": [
                        {
                            "action": "c2pa.created",
                            "digitalSourceType": "http://x/\x1b[2J",
                            "description": "\u202eevil\n" * 10_000,
                        }
                    ]
                },
            }
        ],
        "ingredients": [
            {"title": f"{number}\x1b", "instance_id": "sha256:\x1b", "relationship": "inputTo"}
            for number in range(50)
        ],
    }
    with (
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(definition) as builder,
        CLIP.open("rb") as source,
        (tmp_path / "x.mp4").open("w+b") as target,
    ):
        builder.sign(signer, "video/mp4", source, target)
    shown = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", "verify", str(tmp_path / "x.mp4")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    assert all(line.isprintable() and len(line) < 600 for line in shown.stdout.splitlines())
    assert len(shown.stdout.splitlines()) < 40
    assert "does not know" in shown.stdout


def test_the_command_line_verifies(signed: Path, signed_bytes: bytes) -> None:
    def verify(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kolbo_demo", "verify", str(path), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    intact = verify(signed)
    assert (intact.returncode, intact.stderr) == (0, "")
    assert intact.stdout.startswith("Intact")
    assert sha256(PORTRAIT) in intact.stdout
    assert json.loads(verify(signed, "--json").stdout)["ai_generated"] is True
    signed.write_bytes(signed_bytes[:-9] + b"\0" + signed_bytes[-8:])
    changed = verify(signed)
    assert (changed.returncode, changed.stdout.partition(":")[0]) == (1, "Changed")
    assert verify(CLIP).returncode == 1
    nothing = verify(signed.with_name("absent.mp4"))
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("There is no file")
