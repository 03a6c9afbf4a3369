"""`blurfast warmup` for GPUs: each kind of GPU that is there, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from blurfast.cuda import catalogue, probe, programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError, DeviceProperties
from tests.cli_runs import assert_refused, run, single_line

KERNELS = [Kernel("panel", "multiply", sums, sums, sums) for sums in ("float32", "float64")]


class Devices:
    """A provider of devices that nobody opens, one of each of these compute capabilities."""

    def __init__(self, *capabilities: tuple[int, int]) -> None:
        self._capabilities = capabilities

    def properties(self) -> list[DeviceProperties]:
        if not self._capabilities:
            raise DeviceError("there is nothing to be seen", remedy="look elsewhere")
        return [
            DeviceProperties(index, "Test device", capability, 2**33, 1e12, 80, 101376)
            for index, capability in enumerate(self._capabilities)
        ]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLURFAST_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(catalogue, "all_kernels", lambda: KERNELS)
    return tmp_path / "cuda"


def test_each_kind_of_gpu_is_compiled_for_once(cache: Path) -> None:
    pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")
    with probe.use(Devices((8, 6), (9, 0), (8, 6))):
        first, second = run("warmup", "--backend", "cuda"), run("warmup", "--backend", "cuda", "--quiet")
    assert (first.status, second.status) == (0, 0)
    assert single_line(first.stderr).startswith(f"4 kernels ready in {cache}, 4 of them compiled in ")
    assert second.stderr == ""
    for capability in ((8, 6), (9, 0)):
        for kernel in KERNELS:
            program = programs.cache(capability, cache).read(kernel)
            assert program is not None
            assert ".target sm_{}{}".format(*capability) in program.ptx
    assert len(list(cache.iterdir())) == 4


def test_only_what_is_missing_is_compiled(cache: Path) -> None:
    pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")
    programs.cache((8, 6), cache).obtain(KERNELS[:1])
    with probe.use(Devices((8, 6))):
        done = run("warmup", "--backend", "cuda")
    assert single_line(done.stderr).startswith(f"2 kernels ready in {cache}, 1 of them compiled in ")


def test_without_a_gpu_the_reason_is_given() -> None:
    with probe.use(Devices()):
        assert_refused(run("warmup", "--backend", "cuda"), 4, "there is nothing to be seen; look elsewhere")


def test_without_a_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _name: None)
    with probe.use(Devices((8, 6))):
        assert_refused(run("warmup", "--backend", "cuda"), 4, "pip install 'blurfast[cuda13]'")
