"""Cloud-optimised GeoTIFFs: what GDAL and its validator demand of them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from blurfast import Gaussian, filter_file
from blurfast.errors import UnsupportedError
from blurfast.io.tiff_source import TiffSource
from tests.pyramid_checks import assert_halves, noise, read_chain

# rasterio warns of images without a georeference, which are not our subject.
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

BLUR = Gaussian(1)
GEOREFERENCE = [
    (33550, "d", 3, (0.5, 0.5, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4000000.0, 0.0), True),
    (34735, "H", 12, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633), True),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def optimised(path: Path, name: str = "out.tif", **options: Any) -> Path:
    """Filter a file, and return the result's path."""
    filter_file(path, path.with_name(name), BLUR, overwrite=True, **{"cog": True, **options})
    return path.with_name(name)


def assert_cog(path: Path) -> None:
    """Assert the order of a cloud-optimised GeoTIFF, as its specification has it."""
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start = 16 if tiff.is_bigtiff else 8
        head, body = data[start : start + 43], data[start + 43 :]
        assert head.startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=")
        assert body.startswith(b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\n")
        end_of_promises = start + 43 + int(head[30:36])
        pages = [page.aspage() for page in tiff.pages]
        assert pages[0].offset == end_of_promises + end_of_promises % 2
        assert [page.offset for page in pages] == sorted(page.offset for page in pages)
        assert [page.is_reduced for page in pages] == [False] + [True] * (len(pages) - 1)
        assert all(page.is_tiled for page in pages)
        offsets = [offset for page in reversed(pages) for offset in page.dataoffsets]
        sizes = [size for page in reversed(pages) for size in page.databytecounts]
        assert min(offsets) > pages[-1].offset
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    assert offsets[1:] == [end + 8 for end in ends[:-1]]
    assert ends[-1] + 4 == len(data)
    for offset, end in zip(offsets, ends, strict=True):
        assert struct.unpack("<I", data[offset - 4 : offset]) == (end - offset,)
        assert data[end : end + 4] == data[end - 4 : end]


def assert_levels(path: Path, count: int) -> None:
    """Assert that each page is the average of the one before."""
    pages = read_chain(path)
    assert len(pages) == 1 + count
    for image, smaller in itertools.pairwise(pages):
        assert_halves(image, smaller)


@pytest.fixture
def validate() -> Callable[[Path], None]:
    """Return GDAL's own check, as rio-cogeo has it."""
    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="rasterio and rio-cogeo are not installed")

    def check(path: Path) -> None:
        is_valid, errors, remarks = cogeo.cog_validate(path, strict=True)
        assert (is_valid, errors, remarks) == (True, [], [])

    return check


# -------------------------------------------------------------------------------------------- what the output is like


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("compression", ["none", "deflate", "zstd", "lzw"])
def test_order_and_levels(path: Path, validate: Callable[[Path], None], dtype: str, compression: str) -> None:
    tifffile.imwrite(path, noise((1100, 1300), dtype), compression=compression, extratags=GEOREFERENCE, metadata=None)
    result, plain = optimised(path), optimised(path, "plain.tif", cog=None)
    assert_cog(result)
    validate(result)
    assert_levels(result, 3)
    np.testing.assert_array_equal(read_chain(result)[0], tifffile.imread(plain))
    with tifffile.TiffFile(result) as tiff, tifffile.TiffFile(path) as before:
        assert [page.tile for page in tiff.pages] == [(512, 512)] * 4
        assert {page.compression.name.removeprefix("ADOBE_") for page in tiff.pages} == {compression.upper()}
        assert tiff.pages.first.geotiff_tags == before.pages.first.geotiff_tags


@pytest.mark.parametrize("big", ["yes", "no"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (513, 257, 3), (300, 200, 4)])
def test_any_size_and_byte_order(
    path: Path, validate: Callable[[Path], None], big: str, order: Any, shape: tuple[int, ...]
) -> None:
    photometric = "minisblack" if len(shape) == 2 else "rgb"
    tifffile.imwrite(path, noise(shape, "uint16"), photometric=photometric, byteorder=order, metadata=None)
    result = optimised(path, bigtiff=big, tile="256x128", predictor="horizontal", compression="deflate")
    assert_cog(result)
    validate(result)
    with tifffile.TiffFile(result) as tiff:
        assert (tiff.is_bigtiff, tiff.byteorder) == (big == "yes", order)
        assert tiff.pages.first.tile == (256, 128)


def test_gdal_sees_the_same_pixels(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    nodata = (42113, "s", 0, "-9999", True)
    tifffile.imwrite(path, noise((1100, 1300), "float32"), extratags=[*GEOREFERENCE, nodata], metadata=None)
    result = optimised(path, compression="zstd")
    levels = read_chain(result)
    with rasterio.open(result) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2, 4, 8]
        assert dataset.crs.to_epsg() == 32633
        np.testing.assert_array_equal(dataset.read(1), levels[0])
    for number, level in enumerate(levels[1:]):
        with rasterio.open(result, overview_level=number) as overview:
            np.testing.assert_array_equal(overview.read(1), level)
            assert overview.nodata == -9999


def test_jpeg(path: Path, validate: Callable[[Path], None]) -> None:
    tifffile.imwrite(path, noise((700, 600, 3)), photometric="rgb", compression="jpeg", tile=(128, 128), metadata=None)
    result = optimised(path)
    assert_cog(result)
    validate(result)
    with tifffile.TiffFile(result) as tiff:
        assert [page.tile for page in tiff.pages] == [(128, 128)] * 3
        assert {(int(page.compression), int(page.photometric)) for page in tiff.pages} == {(7, 6)}


def test_levels_can_be_left_out(path: Path) -> None:
    tifffile.imwrite(path, noise((700, 600)), metadata=None)
    result = optimised(path, pyramid=False)
    assert_cog(result)
    assert_levels(result, 0)


def test_other_formats_become_cogs(tmp_path: Path, validate: Callable[[Path], None]) -> None:
    from PIL import Image

    Image.fromarray(noise((600, 300, 3))).save(tmp_path / "in.png")
    result = optimised(tmp_path / "in.png")
    assert_cog(result)
    validate(result)
    assert_levels(result, 2)


# ------------------------------------------------------------------------------------------------ what the input is


def test_a_cog_stays_one(path: Path, validate: Callable[[Path], None]) -> None:
    tifffile.imwrite(path, noise((1100, 1300), "uint16"), compression="deflate", extratags=GEOREFERENCE, metadata=None)
    first = optimised(path, "first.tif")
    report = filter_file(first, path.with_name("second.tif"), BLUR)
    assert report.notices == ()
    second = path.with_name("second.tif")
    assert_cog(second)
    validate(second)
    assert_levels(second, 3)
    selected = optimised(first, "selected.tif", cog=None, page=0)
    assert selected.read_bytes() == second.read_bytes()


def test_a_cog_of_gdal_stays_one(path: Path, validate: Callable[[Path], None]) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    pixels = noise((3, 1200, 1000))
    profile = {"driver": "COG", "height": 1200, "width": 1000, "count": 3, "dtype": "uint8", "blocksize": 256}
    with rasterio.open(path, "w", **profile, compress="deflate") as dataset:
        dataset.write(pixels)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ()
    assert_cog(path.with_name("out.tif"))
    validate(path.with_name("out.tif"))
    with rasterio.open(path) as before, rasterio.open(path.with_name("out.tif")) as after:
        assert after.overviews(1) == before.overviews(1)
        assert after.profile["blockxsize"] == before.profile["blockxsize"]


def test_a_cog_can_become_another_tiff(path: Path) -> None:
    tifffile.imwrite(path, noise((700, 600)), metadata=None)
    cog = optimised(path, "cog.tif")
    plain = optimised(cog, cog=False)
    assert b"GDAL_STRUCTURAL" not in plain.read_bytes()
    assert_levels(plain, 2)
    report = filter_file(cog, path.with_name("strips.tif"), BLUR, tile="strips")
    assert report.notices == ("the output is no cloud-optimised GeoTIFF, which consists of tiles",)
    assert_levels(path.with_name("strips.tif"), 2)


def test_overviews_that_gdal_added_are_made_anew(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    profile = {"driver": "GTiff", "height": 800, "width": 900, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(noise((1, 800, 900), "uint16"))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 8])
    filter_file(path, path.with_name("out.tif"), BLUR)
    image, half, eighth = read_chain(path.with_name("out.tif"))
    assert_halves(image, half)
    assert_halves(half, eighth, times=2)
    with rasterio.open(path.with_name("out.tif")) as dataset:
        assert dataset.overviews(1) == [2, 8]


def test_masks_are_left_out_with_a_notice(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise((600, 500)), metadata=None)
        writer.write(noise((600, 500)) > 9, metadata=None, subfiletype=4)
        writer.write(noise((300, 250)), metadata=None, subfiletype=1)
        writer.write(noise((300, 250)) > 9, metadata=None, subfiletype=5)
    report = filter_file(path, path.with_name("out.tif"), BLUR, cog=True)
    assert report.notices == ("2 masks (pages 1, 3) are not kept",)
    assert_cog(path.with_name("out.tif"))


# ----------------------------------------------------------------------------------------------------- what is refused


def test_several_pages_are_refused(path: Path) -> None:
    tifffile.imwrite(path, noise((3, 60, 50)), photometric="minisblack", metadata=None)
    with pytest.raises(
        UnsupportedError, match="a cloud-optimised GeoTIFF holds one image, not 3; choose one with --page"
    ):
        optimised(path)
    assert_cog(optimised(path, page=1))


def test_planes_are_refused(path: Path) -> None:
    tifffile.imwrite(path, noise((3, 60, 50)), photometric="rgb", planarconfig="separate", metadata=None)
    with pytest.raises(UnsupportedError, match="has interleaved channels, not planes"):
        optimised(path)


def test_strips_are_refused(path: Path) -> None:
    tifffile.imwrite(path, noise((60, 50)), metadata=None)
    with pytest.raises(UnsupportedError, match="consists of tiles; leave out --tile strips"):
        optimised(path, tile="strips")


@pytest.mark.parametrize("size", [0, 3, 8, 20, 100])
def test_a_short_file_is_no_cog(path: Path, size: int) -> None:
    tifffile.imwrite(path, np.zeros((1, 1), np.uint8), metadata=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blurfast.io.tiff_levels._MOST_MARK_BYTES", size)
        source = TiffSource(path)
    assert not source.is_cog
    source.close()
