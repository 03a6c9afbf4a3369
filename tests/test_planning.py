"""Plans: pure, quick, within their budget, and able to explain themselves."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blurfast.boundary import MODES
from blurfast.dtypes import SUPPORTED
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.filters import Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.planning import plan_array, plan_stream
from blurfast.resources import MEGABYTE, Resources, parse_memory

UINT16 = np.dtype("uint16")


def image_of(height=1000, width=2000, channels=1, dtype="uint16", grain=None, **options) -> ImageSpec:
    return ImageSpec(height, width, channels, np.dtype(dtype), grain or Grain(1, width), **options)


images = st.builds(
    lambda height, width, channels, dtype, grain, sequential, task_bytes: ImageSpec(
        height,
        width,
        channels,
        np.dtype(dtype),
        Grain(grain[0], width if sequential else min(grain[1], width)),
        sequential,
        task_bytes,
    ),
    st.integers(1, 100_000),
    st.integers(1, 100_000),
    st.integers(1, 4),
    st.sampled_from(SUPPORTED),
    st.tuples(st.sampled_from([1, 7, 16, 256, 1024]), st.sampled_from([1, 16, 240, 512, 10**6])),
    st.booleans(),
    st.integers(0, 10**7),
)
filters = st.builds(Gaussian, st.tuples(st.just(0.0) | st.floats(0.1, 300), st.just(0.0) | st.floats(0.1, 300)))


@given(
    image=images,
    target=images,
    filter=filters,
    mode=st.sampled_from(MODES),
    threads=st.integers(1, 64),
    max_memory=st.integers(1, 4 * 10**9),
    baseline=st.integers(0, 2 * 10**8),
)
def test_budget_is_kept_and_errors_name_one_that_suffices(image, target, filter, mode, threads, max_memory, baseline):
    target = dataclasses.replace(target, height=image.height, width=image.width, channels=image.channels)
    target = dataclasses.replace(target, grain=Grain(target.grain.rows, min(target.grain.columns, image.width)))

    def attempt(budget):
        resources = Resources(threads, budget)
        try:
            return plan_stream(filter, image, target, resources, baseline, mode=mode, path="in.tif"), None
        except MemoryBudgetError as error:
            return None, error

    plan, error = attempt(max_memory)
    if error is not None:
        assert str(error).startswith("in.tif: ")
        enough = parse_memory(re.search(r"--max-memory (\w+)", error.remedy)[1])
        assert enough > max_memory
        plan, error = attempt(enough)
        assert error is None
        max_memory = enough
    assert plan.predicted_memory <= max_memory
    assert plan.budget == max_memory
    bands = plan.bands
    assert bands.rows % 2 == 0
    assert bands.rows % target.grain.rows == 0
    assert bands.columns == image.width or bands.columns % math.lcm(2, target.grain.columns) == 0
    assert plan.tile is None or plan.tile[1] % 2 == 0
    if bands.ring_rows:
        assert bands.columns == image.width
        assert bands.ring_rows % image.grain.rows == 0
        needed = image.height if image.sequential and mode == "wrap" else 2 * bands.rows + 2 * plan.halo[0]
        assert bands.ring_rows >= min(image.height, needed)
    else:
        assert not image.sequential
        assert mode != "wrap"


@given(image=images, filter=filters, threads=st.integers(1, 8))
def test_more_memory_never_means_less_than_before(image, filter, threads):
    def rows(max_memory):
        try:
            bands = plan_stream(filter, image, image, Resources(threads, max_memory), 0).bands
        except MemoryBudgetError:
            return 0
        return bands.rows * bands.columns

    sizes = [rows(megabytes * MEGABYTE) for megabytes in (10, 50, 100, 400, 2000, 10_000)]
    assert sizes == sorted(sizes)


def test_parts_sum_to_the_prediction():
    image = image_of(task_bytes=12345)
    plan = plan_stream(Gaussian(5), image, image, Resources(2, 10**9), 10**8)
    assert sum(plan.as_dict()["memory"].values()) == plan.predicted_memory == plan.as_dict()["predicted_peak"]
    assert plan.bands.parts["decoding"] == 2 * 12345


@given(
    grain=st.tuples(st.sampled_from([16, 48, 256]), st.sampled_from([16, 48, 256])),
    sink_grain=st.tuples(st.sampled_from([16, 64]), st.sampled_from([16, 64])),
    sigma=st.floats(0.3, 40),
)
def test_blocks_are_predicted_to_read_what_they_depend_on(grain, sink_grain, sigma):
    image = image_of(3000, 20_000, 3, "uint8", Grain(*grain))
    target = dataclasses.replace(image, grain=Grain(*sink_grain))
    plan = plan_stream(Gaussian(sigma), image, target, Resources(1, 60 * MEGABYTE), 0)
    assume(not plan.bands.ring_rows)

    def read(start, stop, halo, length):
        return min(stop + 1 + halo, length) - max(0, start - 1 - halo)

    (above, beside), sizes = plan.halo, []
    for window in plan.windows():
        rows = read(window.row_start, window.row_stop, above, image.height)
        columns = read(window.column_start, window.column_stop, beside, image.width)
        sizes.append(2 * rows * columns * 3)
    assert max(sizes) <= plan.bands.parts["input"]


def test_large_tiles_take_no_more_than_what_is_needed_of_them():
    image = image_of(8000, 8000, 1, "float32", Grain(1024, 1024))
    plan = plan_stream(Gaussian(50), image, image, Resources(1, 80 * MEGABYTE), 0)
    assert (plan.bands.rows, plan.bands.columns) == (1024, 1024)
    assert 0 < plan.halo[0] < 1024
    assert plan.bands.parts["input"] == 2 * (1024 + 2 * plan.halo[0] + 2) ** 2 * 4


@pytest.mark.parametrize(("threads", "encoded"), [(1, 4), (4, 7)])
def test_encoded_segments_are_counted(threads, encoded):
    image = image_of(8000, 8000, 1, "uint8", Grain(16, 8000))
    target = dataclasses.replace(image, encoded_bytes=1000)
    plan = plan_stream(Gaussian(5), image, target, Resources(threads, 10**9), 0)
    assert plan.bands.parts["encoded"] == encoded * 1000
    small = plan_stream(
        Gaussian(5), image, dataclasses.replace(target, grain=Grain(8000, 8000)), Resources(threads, 10**9), 0
    )
    assert small.bands.parts["encoded"] == 2 * 1000


def test_planning_does_not_depend_on_the_size_of_the_image():
    huge = image_of(10**6, 10**6, 3, grain=Grain(256, 256))
    started = time.process_time()
    for mode in MODES[:3]:
        plan = plan_stream(Gaussian(50), huge, huge, Resources(8, 10**9), 10**8, mode=mode)
        assert plan.predicted_memory <= 10**9
        next(plan.windows())
    assert time.process_time() - started < 1


def test_a_huge_image_in_strips_is_refused_with_a_remedy():
    huge = image_of(10**6, 10**9)
    with pytest.raises(MemoryBudgetError, match=r"does not fit into 1000 MB; use --max-memory \d+MB"):
        plan_stream(Gaussian(50), huge, huge, Resources(8, 10**9), 10**8)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), rows=st.integers(1, 50), columns=st.integers(1, 50))
def test_windows_tile_the_image_in_raster_order(height, width, rows, columns):
    image = image_of(height, width)
    plan = plan_stream(Gaussian(1), image, image, Resources(1, 10**10), 0)
    bands = dataclasses.replace(plan.bands, rows=100 * rows, columns=100 * columns)
    windows = list(dataclasses.replace(plan, bands=bands).windows())
    assert windows == sorted(windows)
    assert sum(window.rows * window.columns for window in windows) == height * width
    assert len(windows) == -(-height // (100 * rows)) * -(-width // (100 * columns))


def test_plans_are_json_and_stable():
    image = image_of(3000, 4000, 3)
    options = {"mode": "wrap", "cval": 2.0}
    plans = [plan_stream(Gaussian((5, 2)), image, image, Resources(2, 500 * MEGABYTE), 10**8, **options) for _ in "ab"]
    plans.append(plan_array(Gaussian((5, 2)), image, UINT16, 2, **options))
    for plan in plans:
        assert json.loads(json.dumps(plan.as_dict())) == plan.as_dict()
        assert plan.as_dict()["shape"] == [3000, 4000, 3]
        assert all(choice["reason"] for choice in plan.as_dict()["choices"])
    assert plans[0] == plans[1]
    assert plans[0].explain() == plans[1].explain()


def test_explanations_name_what_matters():
    image = image_of(3000, 4000, 3)
    plan = plan_stream(Gaussian((5, 0)), image, image, Resources(2, 500 * MEGABYTE), 10**8, mode="mirror")
    text = plan.explain()
    for words in ("3000 x 4000 pixels, 3 channels, uint16", "gaussian", "mirror", "2 threads", "of 500 MB", "backend"):
        assert words in text
    assert f"halo {plan.halo[0]} rows and 0 columns" in text
    assert "1 channel," in plan_array(Gaussian(1), image_of(), UINT16, 1).explain()


def test_plans_of_arrays_have_no_windows_but_the_image():
    plan = plan_array(Gaussian(1), image_of(30, 40), UINT16, 1)
    assert list(plan.windows()) == [(0, 30, 0, 40)]
    assert plan.predicted_memory == 0
    assert plan.as_dict()["band"] is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mode": "mirrored"}, "mode is 'mirrored'.*reflect"),
        ({"backend": "tpu"}, "backend is 'tpu'.*cuda"),
        ({"method": "spectral"}, "method is 'spectral'.*separable"),
    ],
)
def test_wrong_options(option, message):
    with pytest.raises(ValueError, match=message):
        plan_array(Gaussian(1), image_of(), UINT16, 1, **option)


def test_cuda_is_refused_with_a_remedy():
    with pytest.raises(UnsupportedError, match=r"driver.*or use the cpu backend"):
        plan_array(Gaussian(1), image_of(), UINT16, 1, backend="cuda")
