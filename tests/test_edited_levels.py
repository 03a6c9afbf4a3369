"""Smaller versions of a region, or of an image with other samples: made of what the output shows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from blurfast import gaussian
from blurfast.pixels import Pixels
from tests.pyramid_checks import assert_halves, noise, read_chain, read_levels
from tests.test_pyramids import blurred, write_pyramid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


EDITS: dict[str, dict[str, Any]] = {
    "region": {"region": (37, 81, 611, 523)},
    "dtype": {"dtype": "float32"},
    "both": {"region": (1, 0, 600, 601), "dtype": "int16", "scale": (0, 300)},
}


def levels_in(path: Path, *, chained: bool) -> list[Pixels]:
    """Return an image and its smaller versions, after a check that no others are there."""
    chain, levels = read_chain(path), read_levels(path)
    assert len(levels if chained else chain) == 1
    return chain if chained else levels


@pytest.mark.parametrize("edits", EDITS)
@pytest.mark.parametrize("wanted", ["SubIFDs", "chain", "pyramid", "cog"])
def test_levels_are_those_of_the_edited_image(path: Path, edits: str, wanted: str) -> None:
    is_chained = wanted in ("chain", "cog")
    write_pyramid(path, [(701, 650), (351, 325), (176, 163)], chained=is_chained)
    options = {wanted: True} if wanted in ("pyramid", "cog") else {}
    plain = blurred(path, "plain.tif", pyramid=False, **EDITS[edits])
    levels = levels_in(blurred(path, **EDITS[edits], **options), chained=is_chained)
    np.testing.assert_array_equal(levels[0], tifffile.imread(plain))
    assert len(levels) == 3
    for image, smaller in itertools.pairwise(levels):
        assert_halves(image, smaller)
    if edits == "region":
        whole = gaussian(tifffile.imread(path, key=0), 1)
        np.testing.assert_array_equal(levels[0], whole[81 : 81 + 523, 37 : 37 + 611])


@pytest.mark.parametrize("option", ["pyramid", "cog"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_edited_colours_count_by_their_opacity(path: Path, option: str, dtype: str) -> None:
    pixels = noise((610, 370, 4), "uint16")
    pixels[40:500, 50:220, 3] = 0
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    result = blurred(path, region=(33, 17, 301, 555), dtype=dtype, scale="full", **{option: True})
    levels = levels_in(result, chained=option == "cog")
    assert [level.shape for level in levels] == [(555, 301, 4), (278, 151, 4), (139, 76, 4)]
    for image, smaller in itertools.pairwise(levels):
        assert image.dtype == dtype
        assert_halves(image, smaller, alpha=3)


def test_edited_planes(path: Path) -> None:
    tifffile.imwrite(path, noise((3, 590, 310)), photometric="rgb", planarconfig="separate", metadata=None)
    image, *levels = read_levels(blurred(path, pyramid=True, region=(1, 3, 300, 501), dtype="float64"))
    assert [level.shape for level in levels] == [(3, 251, 150)]
    for plane, smaller_plane in zip(image, levels[0], strict=True):
        assert_halves(plane, smaller_plane)


@pytest.mark.parametrize(("size", "count"), [((1, 1), 0), ((2, 1), 1), ((1, 3), 2), ((9, 9), 2)])
@pytest.mark.parametrize("chained", [False, True])
def test_regions_have_no_levels_smaller_than_a_pixel(
    path: Path, size: tuple[int, int], count: int, *, chained: bool
) -> None:
    write_pyramid(path, [(300, 200), (150, 100), (75, 50)], chained=chained)
    levels = levels_in(blurred(path, region=(51, 63, *size)), chained=chained)
    assert len(levels) == 1 + count
    for image, smaller in itertools.pairwise(levels):
        assert_halves(image, smaller)


@pytest.mark.parametrize(
    ("options", "directories"),
    [
        ({}, [0, 2, 4]),
        ({"pyramid": False}, [0, 1, 2]),
        ({"pyramid": True}, [0, 1, 2]),
        ({"region": (3, 3, 1, 1)}, [0, 1, 2]),
        ({"page": "2,4"}, [0, 2]),
        ({"page": "4,0", "pyramid": False}, [1, 0]),
    ],
)
def test_descriptions_count_the_levels_between_pages(
    path: Path, options: dict[str, Any], directories: list[int]
) -> None:
    places = "".join(f'<TiffData FirstZ="{plane}" IFD="{2 * plane}" PlaneCount="1"/>' for plane in range(3))
    description = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="300" SizeY="280" SizeZ="3" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0"/>{places}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(path) as writer:
        for plane in range(3):
            text = description if plane == 0 else None
            writer.write(noise((280, 300), seed=plane), metadata=None, description=text)
            writer.write(noise((140, 150)), metadata=None, subfiletype=1)
    result = blurred(path, **options)
    with tifffile.TiffFile(result) as tiff:
        found = re.findall(r'IFD="(\d+)" PlaneCount="(\d+)"', tiff.pages.first.description)
        numbers = [first + plane for first, count in np.array(found, int).tolist() for plane in range(count)]
        assert numbers == directories
        (series,) = tiff.series
        assert series.kind == "ome"
        stack = series.asarray()
    planes = [0, 1, 2] if "page" not in options else sorted(int(number) // 2 for number in options["page"].split(","))
    rows, columns = (slice(3, 4), slice(3, 4)) if "region" in options else (slice(None), slice(None))
    expected = [gaussian(noise((280, 300), seed=plane), 1)[rows, columns] for plane in planes]
    np.testing.assert_array_equal(stack.reshape(np.shape(expected)), expected)
