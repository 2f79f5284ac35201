"""`pip install .`: the package with its data files, its licence and its command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git has: building leaves files in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out)]
    subprocess.run([*pip, str(source)], check=True)
    [built] = out.iterdir()
    return built


def test_the_wheel_has_all_that_the_package_uses(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "kolbo_demo", "assets"], cwd=ROOT, capture_output=True, check=True
    )
    names = {
        name if name.startswith("kolbo_demo/") else f"kolbo_demo/{name}"
        for name in listed.stdout.decode().split()
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        [metadata] = [name for name in packed if name.endswith(".dist-info/METADATA")]
        told = archive.read(metadata).decode()
    assert {name for name in packed if name.startswith("kolbo_demo/")} == names
    assert any(name.endswith("licenses/NOTICE") for name in packed)
    assert "License-Expression: Apache-2.0" in told
    assert "Requires-Dist: gradio~=6.31\n" in told
    for extra in ("scale", "fit", "dev"):
        assert f"Provides-Extra: {extra}\n" in told


def test_the_installed_command_renders(wheel: Path, tmp_path: Path) -> None:
    """Beside this environment's packages, away from the checkout."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    data = {"PYTHONPATH": str(site), "KOLBO_DATA_DIR": str(tmp_path / "data")}
    assets = site / "kolbo_demo" / "assets"
    words = ["generate", "--local", "--source", str(assets / "portrait.jpg")]
    words += ["--audio", str(assets / "speech.wav"), "--output", "out.mp4"]
    done = subprocess.run(
        [site / "bin" / "kolbo", *words],
        cwd=tmp_path,
        env=os.environ | data,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 10_000
