"""What is told of files without filtering them: also of stdin, and not of files that change meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blurfast import Gaussian, files
from blurfast.errors import UnreadableError
from blurfast_cli import info
from tests.cli_runs import assert_refused, command, run


def then(function: Callable[..., Any], action: Callable[[], object]) -> Callable[..., Any]:
    """Return a function that does as `function`, and then something else."""

    def both(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        action()
        return result

    return both


def grow(path: Path) -> Callable[[], None]:
    return lambda: os.truncate(path, path.stat().st_size + 1)


def test_plans_of_files_that_change(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.plan_file(image, Gaussian(1))
    monkeypatch.setattr(files, "plan_stream", then(files.plan_stream, grow(image)))
    with pytest.raises(UnreadableError, match=r"in\.tif: has changed while it was read, from \d+ to \d+ bytes"):
        files.plan_file(image, Gaussian(1))


def test_descriptions_of_files_that_change(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.describe_file(image)[0]["shape"] == [40, 60, 1]
    monkeypatch.setattr(files, "open_source", then(files.open_source, grow(image)))
    with pytest.raises(UnreadableError, match="has changed while it was read"):
        files.describe_file(image)


def test_info_about_files_that_change(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "plan_file", then(info.plan_file, grow(image)))
    assert_refused(run("info", image), 3, "in.tif: has changed while it was read")


@pytest.mark.parametrize("arguments", [("info",), ("plan", "--kernel", "disk:3")])
def test_stdin(arguments: tuple[str, ...], image: Path) -> None:
    done = subprocess.run(
        command(arguments[0], "-", *arguments[1:], "--json"),
        input=image.read_bytes(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    told, expected = json.loads(done.stdout), json.loads(run(arguments[0], image, *arguments[1:], "--json").stdout)
    assert told["source"] == "-"
    assert told.get("pages") == expected.get("pages")
    assert told.keys() == expected.keys()
    assert run(arguments[0], "-", "-", *arguments[1:]).stderr.startswith("blurfast: error: stdin can be read only once")


def test_damaged_image_on_stdin() -> None:
    done = subprocess.run(command("info", "-"), input=b"no image", capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"blurfast: error: stdin: is not an image of a known format")
