"""An image that is cut into windows and tiles of any size has the result of the whole: halos may be far larger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast import Convolution, Gaussian
from blurfast.boundary import MODES
from blurfast.cpu import objects
from blurfast.engine import filter_array
from blurfast.io.array import describe
from blurfast.planning import Bands, plan_array
from tests import tolerances
from tests.pictures import noise

FILTERS = {
    "separable": Gaussian(2.5),
    "multirate": Gaussian(7),
    "direct": Convolution(np.random.default_rng(1).random((9, 14)), normalize=True),
    "fft": Convolution(np.random.default_rng(2).random((13, 8)), normalize=True),
}
# Windows and tiles begin at even rows and columns, since lines are filtered in pairs.
EVEN = st.integers(1, 20).map(lambda half: 2 * half)


def filtered(plan, image):
    objects.load(plan.kernels())
    result = np.empty_like(image)
    filter_array(plan, image, result)
    return result


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", FILTERS)
@given(
    shape=st.tuples(st.integers(1, 45), st.integers(1, 45), st.sampled_from([1, 3])),
    window=st.tuples(EVEN, EVEN),
    tile_columns=EVEN,
    mode=st.sampled_from(MODES),
)
def test_pieces_of_any_size_make_the_whole(method, dtype, shape, window, tile_columns, mode):
    image = noise(shape, dtype)
    whole = plan_array(FILTERS[method], describe(image), image.dtype, 1, mode=mode, method=method)
    pieces = replace(whole, bands=Bands(*window, 0))
    if method in ("separable", "direct"):
        pieces = replace(pieces, tile=(whole.tile[0], tile_columns))
    expected, result = filtered(whole, image), filtered(pieces, image)
    if method == "fft" and dtype == "uint8":
        assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    elif method == "fft":
        tolerances.assert_near(result, expected.astype(np.float64), float(np.ptp(image)))
    else:
        np.testing.assert_array_equal(result, expected)
