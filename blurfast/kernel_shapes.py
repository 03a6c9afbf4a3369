"""Kernels by name: shapes that are made from a few parameters, such as ``disk:7`` or ``motion:21,30deg``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blurfast.weights import gaussian_taps

Weights = NDArray[np.float64]
"""Weights of a 2-D kernel, the first row at the top, as books print them and as a correlation reads them."""

LARGEST_SIDE = 4001
"""The most rows, and the most columns, of a kernel."""

# The taps of a Gaussian with this sigma, cut as below, are just not wider than the largest side.
_LARGEST_SIGMA = 400.0
_LARGEST_RADIUS = 2000.0
_GAUSSIAN_TOLERANCE = 1e-6


def box(height: float, width: float | None = None) -> Weights:
    """Return the kernel of an average over `height` rows and `width` columns; a square without `width`.

    Examples
    --------
    >>> box(1, 4).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    rows, columns = int(height), int(height if width is None else width)
    return np.full((rows, columns), 1.0 / (rows * columns))


def disk(radius: float) -> Weights:
    """Return a disk of constant weight: the blur of a lens that is out of focus.

    Parameters
    ----------
    radius
        In pixels, from the middle of the middle pixel.

    Returns
    -------
    Weights
        A square of odd size that sums to one. Each pixel has the exact share of its area that lies inside the
        circle.

    Notes
    -----
    Shares are computed for a quarter of the disk, whose first row and column of cells are half pixels. MATLAB's
    ``fspecial('disk')`` follows the same rule.

    Examples
    --------
    >>> (disk(1) * np.pi).round(3).tolist()
    [[0.079, 0.457, 0.079], [0.457, 1.0, 0.457], [0.079, 0.457, 0.079]]
    """
    edges = np.concatenate([[0.0], np.arange(math.ceil(radius - 0.5) + 1) + 0.5])
    quarter = _areas_inside_circle(radius, edges)
    quarter = quarter + quarter.T  # rounding must not make rows differ from columns
    # A half pixel and its mirror image are one pixel.
    quarter[0] *= 2
    quarter[:, 0] *= 2
    half = np.concatenate([quarter[:0:-1], quarter])
    return _averaging(np.concatenate([half[:, :0:-1], half], axis=1))


def _averaging(weights: Weights) -> Weights:
    """Divide weights by their sum, so that a flat image stays as bright as it is."""
    average: Weights = weights / weights.sum()
    return average


def _areas_inside_circle(radius: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each cell of a grid in the first quadrant, its area inside a circle around the origin.

    The circle is the graph of a falling function. It enters a cell's column of the grid above the cell, crosses it
    between two positions, and leaves below. Between the two lies a trapezoid under a chord, and a segment of the
    circle above that. All terms are as small as the cell, so that no digits cancel however large the radius is.
    """
    left, right = edges[np.newaxis, :-1], edges[np.newaxis, 1:]
    bottom, top = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    enters = np.clip(_circle(radius, top), left, right)
    leaves = np.clip(_circle(radius, bottom), left, right)
    high, low = _circle(radius, enters), _circle(radius, leaves)
    below_chord = (leaves - enters) * (0.5 * (high + low) - bottom)
    angle = 2.0 * np.arcsin(np.minimum(1.0, np.hypot(leaves - enters, high - low) / (2.0 * radius)))
    above_chord = 0.5 * radius**2 * (angle - np.sin(angle))
    areas: NDArray[np.float64] = (enters - left) * (top - bottom) + below_chord + above_chord
    return np.where(leaves > left, areas, 0.0)


def _circle(radius: float, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the circle's height at a position, or zero beyond it."""
    height: NDArray[np.float64] = np.sqrt(np.maximum(0.0, (radius - position) * (radius + position)))
    return height


def motion(length: float, angle: float = 0.0) -> Weights:
    """Return the blur of a camera that moves straight on by `length` pixels.

    Parameters
    ----------
    length
        In pixels, from 1, which leaves an image as it is.
    angle
        In degrees, counter-clockwise from the direction of the rows.

    Returns
    -------
    Weights
        An antialiased line through the middle: symmetric, of odd size, and summing to one.

    Notes
    -----
    A pixel's weight falls from one on the line to zero at a distance of one pixel. These are the weights of
    MATLAB's ``fspecial('motion')``, down to its rule for the ends: pixels at least as far from the middle as the
    ends are have their distance from the end, even if they lie beside the line.

    Examples
    --------
    >>> (3 * motion(3)).round(12).tolist()
    [[1.0, 1.0, 1.0]]
    >>> motion(3, 45).round(3).tolist()
    [[0.0, 0.075, 0.188], [0.075, 0.322, 0.075], [0.188, 0.075, 0.0]]
    """
    half = 0.5 * (length - 1.0)
    direction = math.radians(angle % 180.0)
    # Rounded, since a cosine of 1e-17 rather than zero would add columns of next to no weight.
    cosine, sine = round(math.cos(direction), 15), round(math.sin(direction), 15)
    right = math.ceil(half * abs(cosine) + 1.0) - 1
    up = math.ceil(half * sine + 1.0) - 1
    x = np.arange(-right, right + 1)
    y = np.arange(up, -up - 1, -1)[:, np.newaxis]
    along, across = np.abs(x * cosine + y * sine), y * cosine - x * sine
    beyond = np.where(np.hypot(x, y) >= half, half - along, 0.0)
    return _averaging(np.maximum(0.0, 1.0 - np.hypot(across, beyond)))


def gaussian(sigma: float, horizontal_sigma: float | None = None) -> Weights:
    """Return a Gaussian that is cut where its tails have a millionth of the weight in each direction.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, of both directions unless `horizontal_sigma` is given.

    Examples
    --------
    >>> gaussian(0.5, 0).round(4).ravel().tolist()
    [0.0003, 0.1065, 0.7866, 0.1065, 0.0003]
    """
    vertical = gaussian_taps(sigma, tolerance=_GAUSSIAN_TOLERANCE)
    horizontal = gaussian_taps(sigma if horizontal_sigma is None else horizontal_sigma, tolerance=_GAUSSIAN_TOLERANCE)
    return np.outer(vertical, horizontal)


def sharpen(amount: float = 1.0) -> Weights:
    """Return the kernel that takes the Laplacian, times `amount`, away from an image.

    Examples
    --------
    >>> sharpen().tolist()
    [[0.0, -1.0, 0.0], [-1.0, 5.0, -1.0], [0.0, -1.0, 0.0]]
    """
    return np.pad(identity(), 1) - amount * laplacian()


def identity() -> Weights:
    """Return the kernel that leaves an image as it is."""
    return np.ones((1, 1))


def laplacian() -> Weights:
    """Return the sum of the second differences along rows and columns."""
    return np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def emboss() -> Weights:
    """Return the image lit from the lower right, in relief."""
    return np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])


def sobel_x() -> Weights:
    """Return Sobel's derivative along the rows: positive where, as a correlation, it grows brighter to the right."""
    return np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0])


def sobel_y() -> Weights:
    """Return Sobel's derivative along the columns: positive where, as a correlation, it grows brighter downwards."""
    return np.ascontiguousarray(sobel_x().T)


@dataclass(frozen=True)
class Parameter:
    """A number in the text that names a kernel.

    Parameters
    ----------
    name
        As it is spelt in `KernelShape.spelling`.
    low, high
        What it may be, both included.
    whole
        Whether it must be a whole number.
    unit
        What may follow the number.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    unit: str = ""

    def parse(self, text: str) -> float:
        """Return the number, or raise a `ValueError` without a message, which the text as a whole decides."""
        value = float(text.removesuffix(self.unit))
        if not self.low <= value <= self.high or (self.whole and not value.is_integer()):
            raise ValueError
        return value

    @property
    def limits(self) -> str:
        """What it may be, in words."""
        return f"{self.name} a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class KernelShape:
    """A named kernel.

    Parameters
    ----------
    build
        Makes the weights from the numbers that are given.
    spelling
        How to write it; what may be left out is in brackets.
    description
        What it does, in one line.
    parameters
        Which numbers follow the name.
    required
        How many of them must be given.
    separator
        What stands between them.
    """

    build: Callable[..., Weights]
    spelling: str
    description: str
    parameters: tuple[Parameter, ...] = ()
    required: int = 0
    separator: str = ","

    def parse(self, text: str | None) -> Weights:
        """Return the weights for the text behind the colon, or for none.

        Raises
        ------
        ValueError
            If the numbers are not those that are asked for.
        """
        parts = [] if text is None else text.split(self.separator)
        if not self.required <= len(parts) <= len(self.parameters):
            raise ValueError
        return self.build(*(one.parse(part) for one, part in zip(self.parameters, parts, strict=False)))

    @property
    def requirement(self) -> str:
        """What a text that names this kernel must be."""
        limits = " and ".join(parameter.limits for parameter in self.parameters)
        return f"{self.spelling}, with {limits}" if limits else self.spelling


_SIDES = (Parameter("HEIGHT", 1, LARGEST_SIDE, whole=True), Parameter("WIDTH", 1, LARGEST_SIDE, whole=True))
_LINE = (Parameter("LENGTH", 1, LARGEST_SIDE), Parameter("ANGLE", -360, 360, unit="deg"))
_SIGMAS = (Parameter("SIGMA", 0, _LARGEST_SIGMA), Parameter("HORIZONTAL_SIGMA", 0, _LARGEST_SIGMA))

SHAPES = {
    "box": KernelShape(
        box, "box:HEIGHT[xWIDTH]", "average over a rectangle", _SIDES, required=1, separator="x"
    ),
    "disk": KernelShape(
        disk, "disk:RADIUS", "out of focus", (Parameter("RADIUS", 0.5, _LARGEST_RADIUS),), required=1
    ),
    "emboss": KernelShape(emboss, "emboss", "relief, lit from the lower right"),
    "gaussian": KernelShape(
        gaussian, "gaussian:SIGMA[,HORIZONTAL_SIGMA]", "Gaussian blur", _SIGMAS, required=1
    ),
    "identity": KernelShape(identity, "identity", "leaves the image as it is"),
    "laplacian": KernelShape(laplacian, "laplacian", "second derivatives along rows and columns, summed"),
    "motion": KernelShape(
        motion, "motion:LENGTH[,ANGLEdeg]", "straight movement, counter-clockwise from the x axis", _LINE, required=1
    ),
    "sharpen": KernelShape(
        sharpen, "sharpen[:AMOUNT]", "stronger edges; the amount is 1 by default", (Parameter("AMOUNT", 0, 1000),)
    ),
    "sobel-x": KernelShape(sobel_x, "sobel-x", "smoothed derivative along the rows"),
    "sobel-y": KernelShape(sobel_y, "sobel-y", "smoothed derivative along the columns"),
}  # fmt: skip
"""All kernels that have names."""


def is_shape_name(text: str) -> bool:
    """Return whether the text, up to the first colon, is the name of a kernel.

    Examples
    --------
    >>> is_shape_name("disk:7"), is_shape_name("disk.png")
    (True, False)
    """
    return text.partition(":")[0] in SHAPES


def parse_shape(text: str) -> Weights:
    """Return the kernel that a text such as ``disk:7`` stands for.

    Parameters
    ----------
    text
        A name of `SHAPES`, and behind a colon its parameters.

    Returns
    -------
    Weights
        At most `LARGEST_SIDE` rows and columns.

    Raises
    ------
    ValueError
        If there is no such name, or it takes other parameters.

    Examples
    --------
    >>> parse_shape("box:2x1").tolist()
    [[0.5], [0.5]]
    >>> parse_shape("disk:x")
    Traceback (most recent call last):
    ValueError: kernel is 'disk:x'; it must be disk:RADIUS, with RADIUS a number from 0.5 to 2000
    """
    name, colon, numbers = text.partition(":")
    if name not in SHAPES:
        raise ValueError(f"kernel is {text!r}; it must be {choice_of_names(text)}")
    shape = SHAPES[name]
    try:
        return shape.parse(numbers if colon else None)
    except ValueError:
        raise ValueError(f"kernel is {text!r}; it must be {shape.requirement}") from None


def choice_of_names(text: str) -> str:
    """Return which names there are, as words, and which of them a misspelt text probably means.

    Examples
    --------
    >>> choice_of_names("dsik:7").partition("(")[2]
    "did you mean 'disk'?)"
    """
    names = "one of " + ", ".join(SHAPES)
    close = difflib.get_close_matches(text.partition(":")[0].lower(), SHAPES, n=1)
    return f"{names} (did you mean {close[0]!r}?)" if close else names
