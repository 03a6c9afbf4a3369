"""The device may do things in any order, and anything may fail: nothing waits in vain, and nothing goes on too early.

Each wait of the pipeline is left out in turn, and each call of the device fails in turn.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from blurfast.cuda import pipeline
from blurfast.cuda.device import DeviceError, DeviceMemoryError
from blurfast.cuda.pipeline import DeviceTiles
from tests.device_cases import SEEDS, calls_of, kernels, small_case
from tests.queue_device import QueueDevice, Violation

# --------------------------------------------------------------------------------------------- every wait is needed


CALL_SITES = [
    (node.func.attr, node.lineno)
    for node in ast.walk(ast.parse(Path(pipeline.__file__).read_text()))
    if isinstance(node, ast.Call)
    and isinstance(node.func, ast.Attribute)
    and node.func.attr in ("wait", "record", "synchronize", "synchronize_stream")
]


class Forgetful:
    """A device that does not hear the calls of one line of the pipeline."""

    def __init__(self, device, name, line):
        self._device, self._name, self._line = device, name, line
        self.unheard = 0

    def __getattr__(self, name):
        if name != self._name:
            return getattr(self._device, name)
        return functools.partial(self._hear, getattr(self._device, name))

    def _hear(self, method, *arguments):
        caller = sys._getframe(1)
        if (caller.f_code.co_filename, caller.f_lineno) == (pipeline.__file__, self._line):
            self.unheard += 1
        else:
            method(*arguments)


def test_call_sites_are_those_of_the_pipeline():
    assert Counter(name for name, _ in CALL_SITES) == {
        "synchronize": 2,
        "wait": 4,
        "record": 3,
        "synchronize_stream": 1,
    }


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("name", "line"), [site for site in CALL_SITES if site[0] != "synchronize_stream"])
def test_no_wait_can_be_left_out(name, line, depth):
    """Without any one of them, some order of the work gives a wrong result, or leads a kernel astray."""
    case = small_case(depth=depth)
    expected = case.expected()
    assert any(goes_wrong(case, expected, Forgetful(case.device(seed), name, line)) for seed in range(SEEDS))


def goes_wrong(case, expected, device):
    try:
        result = case.run(device)
    except Violation:
        return True
    assert device.unheard, "this line is never reached"
    return not np.array_equal(result, expected)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("name", "line"), [site for site in CALL_SITES if site[0] == "synchronize_stream"])
def test_memory_in_use_is_never_given_back(name, line, depth):
    """Where a failure does not wait for what is queued, some order of the work finds its memory gone."""
    case = small_case(depth=depth)
    failing_call = len(calls_of(case)) // 2
    found = 0
    for seed in range(SEEDS):
        device = case.device(seed, failing_call=failing_call)
        with pytest.raises(DeviceError, match="shall fail"):
            case.run(device)
        device.assert_nothing_is_left()
        try:
            case.run(Forgetful(case.device(seed, failing_call=failing_call), name, line))
        except Violation:
            found += 1
        except DeviceError:
            pass
    assert found > SEEDS // 4


class TimedDevice(QueueDevice):
    """Takes one second for each copy and each kernel, and no time for anything else."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.now = 0
        self._free_at = Counter()
        self._recorded_at = Counter()

    def _spend_a_second(self, stream):
        self._free_at[stream] = max(self._free_at[stream], self.now) + 1

    def upload(self, target, source, stream):
        self._spend_a_second(stream)
        super().upload(target, source, stream)

    def download(self, target, source, stream):
        self._spend_a_second(stream)
        super().download(target, source, stream)

    def launch(self, launch, stream):
        self._spend_a_second(stream)
        super().launch(launch, stream)

    def record(self, event, stream):
        self._recorded_at[event] = self._free_at[stream]
        super().record(event, stream)

    def wait(self, stream, event):
        self._free_at[stream] = max(self._free_at[stream], self._recorded_at[event])
        super().wait(stream, event)

    def synchronize(self, event):
        self.now = max(self.now, self._recorded_at[event])
        super().synchronize(event)


@pytest.mark.parametrize(("depth", "seconds"), [(1, 2 * 12 + 1), (2, 12 + 2), (3, 12 + 2)])
def test_upload_computation_and_download_overlap(depth, seconds):
    """With two slots, each second sees one tile uploaded, one computed and one downloaded.

    With one slot, a tile is uploaded while the one before is downloaded.
    """
    case = small_case(vertical=np.ones(1), horizontal=np.ones(1), depth=depth)
    device = TimedDevice(0, kernels=kernels(np.uint8))
    np.testing.assert_array_equal(case.run(device), case.pixels)
    assert device.calls.count("launch") == 12
    assert device.now == seconds


# -------------------------------------------------------------------------------------------------------- failures


def test_failure_of_any_call_is_raised_and_leaves_nothing():
    case = small_case(tile=(12, 16))
    calls = calls_of(case)
    assert {"allocate", "allocate_host", "open_stream", "open_event", "upload", "launch", "download"} < set(calls)
    for number, name in enumerate(calls):
        device = case.device(number, failing_call=number)
        error = DeviceMemoryError if name.startswith("allocate") else DeviceError
        with pytest.raises(error, match=f"call {number}, {name}, shall fail"):
            case.run(device)
        device.assert_nothing_is_left()


def test_loss_of_the_device_at_any_call_is_raised_and_leaves_nothing():
    case = small_case(tile=(12, 16))
    for number, name in enumerate(calls_of(case)):
        device = case.device(number, losing_call=number)
        with pytest.raises(DeviceError, match=r"the device is lost"):
            case.run(device)
        device.assert_nothing_is_left()
        assert device.calls[number] == name


def test_failure_of_any_work_is_raised_and_leaves_nothing():
    case = small_case(tile=(12, 16))
    device = case.device(0)
    case.run(device)
    assert device.work_count == 4 * 4  # an upload, two kernels and a download for each of 4 tiles
    for number in range(device.work_count):
        for seed in range(5):
            failing = case.device(seed, failing_work=number)
            with pytest.raises(DeviceError, match=f"work {number} shall fail"):
                case.run(failing)
            failing.assert_nothing_is_left()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("tile", range(4))
def test_errors_of_operators_and_interrupts_go_on(tile, error):
    case = small_case(tile=(12, 16))
    device = case.device(tile)
    operator = case.operator(device)
    enqueue, done = operator.enqueue, []

    def fail(*arguments):
        if len(done) == tile:
            raise error("no")
        done.append(1)
        enqueue(*arguments)

    operator.enqueue = fail
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    with pytest.raises(error, match="no"):
        case.filter_with(tiles)
    device.assert_nothing_is_left()
    with pytest.raises(ValueError, match="closed"):
        case.filter_with(tiles)
    device.assert_nothing_is_left()
