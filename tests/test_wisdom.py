"""FFTW's plans, and the wisdom that is kept of them: between processes, through damage, and by many threads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyfftw
import pytest

from blurfast import correlate
from blurfast.cpu import machine, wisdom
from tests import naive, tolerances
from tests.convolutions import average
from tests.pictures import noise

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Pretend that this process has not planned anything, with a cache directory that does not exist yet."""
    monkeypatch.setenv("BLURFAST_CACHE_DIR", str(tmp_path / "cache"))
    kept = pyfftw.export_wisdom()
    imported = []
    original = pyfftw.import_wisdom
    monkeypatch.setattr(pyfftw, "import_wisdom", lambda parts: imported.append(parts) or original(parts))

    def forget():
        pyfftw.forget_wisdom()
        monkeypatch.setattr(wisdom, "_loaded", False)
        monkeypatch.setattr(wisdom, "_kept", b"")
        monkeypatch.setattr(wisdom, "_may_save", True)
        monkeypatch.setattr(wisdom, "_planned", set())
        imported.clear()
        return imported

    forget()
    yield forget
    original(kept)


def plan_size(rows, columns=16, effort="measure"):
    tile = wisdom.aligned_empty((rows, columns), np.dtype("float32"))
    spectrum = wisdom.aligned_empty((rows, columns // 2 + 1), np.dtype("complex64"))
    return wisdom.plan_transforms(tile, spectrum, effort)


def test_wisdom_is_kept(fresh, tmp_path):
    plan_size(24)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fftw.wisdom"]
    imported = fresh()
    plan_size(24)
    assert len(imported) == 1
    plan_size(30)
    assert len(imported) == 1, "it is read once"
    before = wisdom.wisdom_path().read_bytes()
    plan_size(30)
    assert wisdom.wisdom_path().read_bytes() == before


@pytest.mark.usefixtures("fresh")
def test_an_estimate_keeps_nothing(tmp_path):
    plan_size(24, effort="estimate")
    assert not (tmp_path / "cache").exists()


DAMAGES = {
    "flipped in the wisdom": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "flipped in the checksum": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b" ",
    "without a checksum": lambda data: data.partition(b"\n")[2],
    "checksum only": lambda data: data[:64],
    "empty": lambda data: data[:0],
    "not text": lambda data: b"\xff\xfe\n\x00" + data[:9],
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_wisdom_is_replaced(damage, fresh, caplog):
    plan_size(24)
    path = wisdom.wisdom_path()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    imported = fresh()
    plan_size(24)
    assert imported == []
    imported = fresh()
    plan_size(24)
    assert len(imported) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_wisdom_of_another_processor_is_not_taken(fresh, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machine, "cpu_name", lambda: "another")
        plan_size(24)
    imported = fresh()
    plan_size(24)
    assert imported == []


@pytest.mark.usefixtures("fresh")
def test_wisdom_that_cannot_be_kept_costs_one_warning(tmp_path, caplog):
    (tmp_path / "cache").write_bytes(b"")
    for rows in (24, 30, 36):
        forward, _ = plan_size(rows)
        forward.execute()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "cannot be kept" in warnings[0]


@pytest.mark.usefixtures("fresh")
def test_nothing_is_left_where_the_file_cannot_be_replaced(tmp_path):
    (tmp_path / "cache" / "fftw.wisdom").mkdir(parents=True)
    plan_size(24)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fftw.wisdom"]


SCRIPT = """
import numpy as np, pyfftw
imported = []
original = pyfftw.import_wisdom
pyfftw.import_wisdom = lambda parts: imported.append(parts) or original(parts)
from blurfast.cpu.fft import FftWorkspace
from blurfast.transforms import Transform
workspace = FftWorkspace(Transform(48, 60, 5, 5, 1, 4), "measure")
workspace.tile[:] = 0
workspace.tile[0, 0] = 2880
workspace.forward.execute()
workspace.backward.execute()
print(len(imported), workspace.tile[0, 0] / 2880)
"""


def test_wisdom_is_kept_between_processes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLURFAST_CACHE_DIR": str(tmp_path / "cache")}
    outputs = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT], env=environment, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        assert run.stderr == ""
        outputs.append(run.stdout.split())
        assert (tmp_path / "cache" / "fftw.wisdom").stat().st_size > 65
    assert [output[0] for output in outputs] == ["0", "1"]
    assert {float(output[1]) for output in outputs} == {2880.0}


def test_threads_plan_and_discard_at_the_same_time():
    """FFTW allows one planner at a time."""
    kernel = average((5, 4))
    images = [noise((20 + 6 * number, 30 + 4 * number), "float64") for number in range(8)]
    expected = [naive.correlate_kernel(image, kernel, "reflect") for image in images]

    def work(number):
        result = correlate(images[number % 8], kernel, method="fft", threads=2)
        tolerances.assert_near(result, expected[number % 8], 255)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(120)))


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("fft_planning", "is_kept"), [("estimate", False), ("measure", True)])
def test_effort_of_planning_is_a_choice(fft_planning, is_kept):
    image, kernel = noise((40, 50), "float32"), average((9, 9))
    result = correlate(image, kernel, method="fft", fft_planning=fft_planning)
    tolerances.assert_near(result, naive.correlate_kernel(image.astype(float), kernel, "reflect"), np.ptp(image))
    assert wisdom.wisdom_path().exists() == is_kept


def test_unknown_effort_of_planning():
    with pytest.raises(ValueError, match="fft_planning is 'hasty'; it must be one of estimate, measure, patient"):
        correlate(np.zeros((3, 3)), [[1.0]], fft_planning="hasty")
