"""What filtering costs: kept and found again, and never taken from a file that is damaged or strange."""

from __future__ import annotations

import dataclasses
import json
import logging
import math

import pytest

from blurfast import costs
from blurfast.costs import DEFAULTS, Costs

FIGURES = dataclasses.asdict(DEFAULTS)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Return a cache directory that does not exist yet."""
    monkeypatch.setenv("BLURFAST_CACHE_DIR", str(tmp_path / "cache"))
    costs.load.cache_clear()
    yield tmp_path / "cache"
    costs.load.cache_clear()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_defaults_where_nothing_was_measured(caplog):
    assert costs.load() is DEFAULTS
    assert warnings_of(caplog) == []


def test_defaults_are_costs():
    assert all(isinstance(value, float) and value > 0 for value in FIGURES.values())


def test_what_is_saved_is_loaded(directory, caplog):
    measured = Costs(*(0.1 * number + 1 / 3 for number in range(1, 7)))
    assert costs.load() == DEFAULTS
    assert costs.save(measured) == costs.costs_path() == directory / "costs.json"
    assert costs.load() == measured
    costs.load.cache_clear()
    assert costs.load() == measured
    assert [path.name for path in directory.iterdir()] == ["costs.json"]
    assert warnings_of(caplog) == []


def test_saving_again_replaces():
    costs.save(Costs(fft_point=1.0))
    costs.save(Costs(fft_point=2.0))
    assert costs.load().fft_point == 2.0


def test_the_user_s_cache_directory_by_default(monkeypatch):
    monkeypatch.delenv("BLURFAST_CACHE_DIR")
    assert costs.costs_path().name == "costs.json"
    assert "blurfast" in str(costs.costs_path())


DAMAGED = {
    "empty": b"",
    "cut": json.dumps(FIGURES).encode()[:40],
    "no text": b"\xff\xfe\x00\x80",
    "no JSON": b"separable_pixel = 0.9",
    "a list": b"[1.0, 2.0]",
    "a number": b"7.0",
    "null": b"null",
    "one missing": json.dumps({name: value for name, value in FIGURES.items() if name != "fft_point"}).encode(),
    "one too many": json.dumps(FIGURES | {"gpu_point": 0.1}).encode(),
    "negative": json.dumps(FIGURES | {"direct_tap": -0.02}).encode(),
    "zero": json.dumps(FIGURES | {"direct_tap": 0.0}).encode(),
    "text": json.dumps(FIGURES | {"direct_tap": "0.02"}).encode(),
    "true": json.dumps(FIGURES | {"direct_tap": True}).encode(),
    "nested": json.dumps(FIGURES | {"direct_tap": [0.02]}).encode(),
    "not a number": json.dumps(FIGURES | {"direct_tap": math.nan}).encode(),
    "infinite": json.dumps(FIGURES | {"direct_tap": math.inf}).encode(),
    "beyond floats": json.dumps(FIGURES | {"direct_tap": "huge"}).replace('"huge"', "1e999").encode(),
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_files_give_one_warning_and_the_defaults(name, directory, caplog):
    directory.mkdir()
    path = directory / "costs.json"
    path.write_bytes(DAMAGED[name])
    assert costs.load() == DEFAULTS
    assert costs.load() == DEFAULTS
    (warning,) = warnings_of(caplog)
    assert str(path) in warning
    assert "blurfast tune" in warning


def test_a_file_that_cannot_be_read(directory, caplog):
    (directory / "costs.json").mkdir(parents=True)
    assert costs.load() == DEFAULTS
    (warning,) = warnings_of(caplog)
    assert "cannot be read" in warning


def test_a_directory_that_is_a_file(directory, caplog):
    directory.write_bytes(b"")
    assert costs.load() == DEFAULTS
    assert warnings_of(caplog) == []
    with pytest.raises(OSError, match="cache"):
        costs.save(DEFAULTS)


def test_a_damaged_file_is_replaced(directory):
    directory.mkdir()
    (directory / "costs.json").write_bytes(b"{")
    assert costs.load() == DEFAULTS
    costs.save(Costs(fft_pixel=3.0))
    assert costs.load() == Costs(fft_pixel=3.0)
