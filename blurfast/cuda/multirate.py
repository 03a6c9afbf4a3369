"""The multirate Gaussian on a GPU: every sigma at about the price of a small one.

A tile is blurred a little and decimated; the few samples that are left are blurred by what is missing, and
interpolated, first along the rows and last of all down the columns, straight into the target.

The grid of the samples that are kept is anchored to the image: sample ``i`` lies at row or column ``i * factor``, also
outside the image. So the bytes of the result do not depend on how the image is cut.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.device import Address, Device, Stream
from blurfast.cuda.passes import PassChain, PassNeeds, Step, active
from blurfast.cuda.resident import ResidentOperator
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.weights import MultirateGaussian


def multirate_needs(
    vertical: MultirateGaussian, horizontal: MultirateGaussian, channels: int, sums: np.dtype[Any]
) -> PassNeeds:
    """Return what a `MultirateOperator` needs for a tile; the parameters are the operator's."""
    steps = [
        Step(vertical.decimate, is_vertical=True),
        Step(horizontal.decimate, is_vertical=False),
        Step(vertical.blur, is_vertical=True),
        Step(horizontal.blur, is_vertical=False),
        Step(horizontal.interpolate, is_vertical=False),
        Step(vertical.interpolate, is_vertical=True),
    ]
    return PassNeeds(active(steps), channels, sums)


class MultirateOperator(ResidentOperator[PassNeeds]):
    """Blur by designs of multirate Gaussians.

    Parameters
    ----------
    device
        Where.
    vertical, horizontal
        The designs of the two directions.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic.
    channels
        Interleaved channels, each filtered by itself.
    cval
        The value of positions outside the image.
    """

    def __init__(
        self,
        device: Device,
        vertical: MultirateGaussian,
        horizontal: MultirateGaussian,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        cval: float = 0.0,
    ) -> None:
        self._device = device
        self._needs = multirate_needs(vertical, horizontal, channels, sums)
        with device.activate(), ExitStack() as resources:
            self._chain = PassChain(
                device,
                self._needs,
                pixel_dtype=pixel_dtype,
                target_dtype=target_dtype,
                cval=cval,
                resources=resources,
            )
            programs.obtain(self._chain.kernels, device.properties.capability)
            self._resources = resources.pop_all()

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator`."""
        self._chain.enqueue(source, target, position, scratch, stream)
