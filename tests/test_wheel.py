"""The wheel as a user gets it: built, installed into an environment of its own, and run far from the sources."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from blurfast._version import __version__

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]


def run(*command: str | Path, directory: Path) -> str:
    """Return what `command` prints, run where none of the sources can be imported by accident."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["BLURFAST_CACHE_DIR"] = str(directory / "kernels")
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT),
        directory=directory,
    )
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Return the directory of programs of a clean environment that the wheel is installed into."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=True)
    programs = directory / ("Scripts" if os.name == "nt" else "bin")
    constraints = ROOT / "constraints" / "ci.txt"
    run(
        *(programs / "python", "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel),
        directory=directory,
    )
    return programs


def test_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"blurfast-{__version__}-py3-none-any.whl"
    assert {"blurfast/__init__.py", "blurfast/py.typed", "blurfast_cli/main.py", "blurfast_cli/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"blurfast", "blurfast_cli", f"blurfast-{__version__}.dist-info"}


def test_wheel_holds_every_source_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("blurfast", "blurfast"), ("cli", "blurfast_cli")):
        sources = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        assert {f"{package}/{path.as_posix()}" for path in sources} <= names


def test_program_tells_its_version_and_its_commands(scripts: Path, tmp_path: Path) -> None:
    assert __version__ in run(scripts / "blurfast", "--version", directory=tmp_path)
    assert "gaussian" in run(scripts / "blurfast", "--help", directory=tmp_path)


def test_packages_come_from_the_wheel_and_its_dependencies_are_complete(scripts: Path, tmp_path: Path) -> None:
    code = "import blurfast, blurfast_cli; print(blurfast.__file__); print(blurfast_cli.__file__)"
    for line in run(scripts / "python", "-c", code, directory=tmp_path).splitlines():
        assert scripts.parent.resolve() in Path(line).resolve().parents
    run(scripts / "python", "-m", "pip", "check", directory=tmp_path)


def test_program_blurs_an_image(scripts: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, size=(40, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sharp.png")
    run(scripts / "blurfast", "gaussian", "sharp.png", "blurred.png", "--sigma", "2", directory=tmp_path)
    with Image.open(tmp_path / "blurred.png") as image:
        blurred = np.asarray(image).astype(float)
    expected = ndimage.gaussian_filter(pixels.astype(float), sigma=2, truncate=6)
    assert np.abs(blurred - expected).max() <= 1
