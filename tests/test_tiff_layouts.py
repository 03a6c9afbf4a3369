"""How TIFF outputs are laid out, and files whose layout asks for more memory than others."""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from blurfast import Gaussian, MemoryBudgetError, UnsupportedError, filter_file, gaussian, plan_file
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.page_selection import PageSelection, page_names
from blurfast.io.tiff_options import parse_bigtiff, parse_predictor, parse_tile
from blurfast.io.tiff_sink import TiffSink
from blurfast.io.tiff_source import TiffSource
from tests.cli_runs import assert_refused, run
from tests.test_streaming import needs_rusage, stream
from tests.tiff_corpus import (
    CORPUS,
    DEFLATE,
    HEIGHT,
    MINISBLACK,
    WIDTH,
    Pixels,
    noise,
    packed,
    read_pages,
    strip_page,
    tile_page,
    write_by_hand,
)

SIGMA = 2.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def filtered(path: Path, **options: Any) -> tifffile.TiffPage:
    """Filter a file, and return the first page of the output, with the values of its tags."""
    target = path.with_name("out.tif")
    filter_file(path, target, Gaussian(SIGMA), overwrite=True, **options)
    with tifffile.TiffFile(target) as tiff:
        page = tiff.pages.first.aspage()
        assert all(tag.value is not None for tag in page.tags)  # or they would be read from a closed file
        return page


def assert_holds(path: Path, pixels: Pixels) -> None:
    np.testing.assert_array_equal(read_pages(path.with_name("out.tif"))[0], gaussian(pixels, SIGMA))


# --------------------------------------------------------------------------------- one strip for the whole image

LARGE = (16_000, 20_000)
"""Pixels of one byte that are 320 MB, where the budget is 256 MB for everything."""
BLOCK_ROWS = 500


def write_large_strip(path: Path, kind: str) -> Pixels:
    """Write an image of one strip, made of equal blocks of rows with impulses, and return such a block as uint8."""
    height, width = LARGE
    block = noise((BLOCK_ROWS, width), 1)
    block[noise(block.shape) > 1] = 0
    bits = 1 if kind == "bits" else 8
    data, blocks = packed(block, bits), height // BLOCK_ROWS
    if kind == "deflated":
        deflater = zlib.compressobj(1)
        strip = b"".join([*(deflater.compress(data) for _ in range(blocks)), deflater.flush()])
    else:
        strip = data * blocks
    size = {256: ("I", [width]), 257: ("I", [height]), 278: ("I", [height])}
    page = strip_page(block[:1], bits, MINISBLACK, compression=DEFLATE if kind == "deflated" else 1, more=size)
    write_by_hand(path, page._replace(segments=[strip]))
    return block * np.uint8(255) if kind == "bits" else block


@needs_rusage
@pytest.mark.parametrize("kind", ["raw", "deflated", "bits"])
def test_one_strip_larger_than_the_budget(path: Path, kind: str) -> None:
    block = write_large_strip(path, kind)
    target = path.with_name("out.tif")
    stream(path, target, SIGMA, compression="zstd:1")
    result = tifffile.imread(target)
    assert result.shape == LARGE
    beginning, middle, end = np.split(gaussian(np.concatenate([block] * 3), SIGMA), 3)
    np.testing.assert_array_equal(result[:BLOCK_ROWS], beginning)
    for row in range(BLOCK_ROWS, LARGE[0] - BLOCK_ROWS, BLOCK_ROWS):
        assert np.array_equal(result[row : row + BLOCK_ROWS], middle)
    np.testing.assert_array_equal(result[-BLOCK_ROWS:], end)


def test_large_strips_become_smaller_ones(path: Path) -> None:
    pixels = noise((3000, 2000))
    for compression in (None, "deflate"):
        tifffile.imwrite(path, pixels, rowsperstrip=3000, compression=compression)
        page = filtered(path)
        assert page.rowsperstrip * 2000 <= 1 << 18
        assert page.compression == (1 if compression is None else DEFLATE)
        assert_holds(path, pixels)


@pytest.mark.parametrize("kind", ["tile", "lzw strip"])
def test_segments_larger_than_the_budget_are_refused_with_what_they_need(path: Path, kind: str) -> None:
    height = width = 8192
    if kind == "tile":
        options: dict[str, Any] = {"tile": (height, width), "compression": "zstd"}
    else:
        options = {"rowsperstrip": height, "compression": "lzw"}
    tifffile.imwrite(path, np.zeros((height, width), np.uint8), **options)
    with pytest.raises(MemoryBudgetError, match="does not fit into 200 MB") as caught:
        filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA), max_memory="200MB", threads=1)
    assert [file.name for file in path.parent.iterdir()] == ["in.tif"]
    needed = re.fullmatch(r"use --max-memory (\d+)MB or more", str(caught.value.remedy))
    assert needed is not None
    assert int(needed[1]) > height * width / 1e6
    assert filtered(path, max_memory=f"{needed[1]}MB", threads=1).shape == (height, width)


# --------------------------------------------------------------------------------------------- defaults and options


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 7},
        {"rowsperstrip": HEIGHT, "compression": "deflate", "predictor": 2},
        {"tile": (16, 32), "compression": "zstd"},
        {"tile": (32, 32)},
    ],
)
def test_layout_is_kept(path: Path, order: Any, big: bool, options: dict[str, Any]) -> None:
    pixels = noise((HEIGHT, WIDTH), 65535)
    tifffile.imwrite(path, pixels, byteorder=order, bigtiff=big, metadata=None, **options)
    filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA))
    assert_holds(path, pixels)
    before, after = TiffSource(path), TiffSource(path.with_name("out.tif"))
    with contextlib.closing(before), contextlib.closing(after):
        assert before.layout_description == after.layout_description


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd", "lzma"])
@pytest.mark.parametrize(
    ("predictor", "dtype", "number"),
    [("none", "uint16", 1), ("horizontal", "uint16", 2), ("horizontal", "float32", 2), ("float", "float32", 3)],
)
def test_predictor(path: Path, compression: str, predictor: str, dtype: str, number: int) -> None:
    pixels = noise((HEIGHT, WIDTH)).astype(dtype)
    tifffile.imwrite(path, pixels)
    page = filtered(path, compression=compression, predictor=predictor)
    assert page.predictor == number
    assert_holds(path, pixels)


def test_predictor_goes_with_the_input_s_compression(path: Path) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)), compression="lzw")
    assert filtered(path).predictor == 1
    assert filtered(path, predictor="horizontal").predictor == 2


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"predictor": "horizontal"}, "page 0: there is no predictor with none compression; choose one of lzw"),
        ({"predictor": "float", "compression": "lzw"}, "page 0: predictor float is not for uint8 samples"),
        ({"predictor": "horizontal", "compression": "jpeg"}, "page 0: there is no predictor with jpeg"),
        ({"compression": "webp"}, "page 0: webp cannot hold these 1 channels"),
    ],
)
def test_codecs_and_predictors_that_do_not_fit(path: Path, options: dict[str, Any], fact: str) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)))
    with pytest.raises(UnsupportedError) as caught:
        filtered(path, **options)
    assert fact in str(caught.value)
    assert [file.name for file in path.parent.iterdir()] == ["in.tif"]


@pytest.mark.parametrize("tile", ["32x16", (32, 16)])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 9}, {"tile": (64, 64)}])
@pytest.mark.parametrize("compression", ["none", "deflate", "jpeg2000"])
def test_tile(path: Path, tile: Any, layout: dict[str, Any], compression: str) -> None:
    pixels = noise((HEIGHT, WIDTH))
    tifffile.imwrite(path, pixels, **layout)
    page = filtered(path, tile=tile, compression=compression)
    assert page.tile == (32, 16)
    assert_holds(path, pixels)


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_strips_in_place_of_tiles(path: Path, compression: str) -> None:
    pixels = noise((3000, 1000))
    tifffile.imwrite(path, pixels, tile=(64, 64))
    page = filtered(path, tile="strips", compression=compression)
    assert not page.is_tiled
    assert page.rowsperstrip == 256
    assert_holds(path, pixels)


def test_tiles_of_planes_and_of_other_formats(path: Path) -> None:
    pixels = CORPUS["planes of one strip each"](path)[0]
    assert filtered(path, tile="16x16").tile == (16, 16)
    np.testing.assert_array_equal(read_pages(path.with_name("out.tif"))[0], gaussian(pixels, SIGMA, channel_axis=-1))
    image = path.with_suffix(".png")
    Image.fromarray(noise((HEIGHT, WIDTH, 3))).save(image)
    page = filtered(image, tile="48x16", compression="deflate", bigtiff="yes")
    assert (page.tile, page.predictor, page.parent.is_bigtiff) == ((48, 16), 2, True)
    expected = gaussian(noise((HEIGHT, WIDTH, 3)), SIGMA, channel_axis=-1)
    np.testing.assert_array_equal(read_pages(path.with_name("out.tif"))[0], expected)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("rule", "after"), [("yes", True), ("no", False), (True, True), (False, False), ("auto", None)]
)
def test_bigtiff(path: Path, before: bool, rule: Any, after: bool | None) -> None:
    pixels = noise((HEIGHT, WIDTH), 65535)
    tags: list[Any] = [(65000, "Q" if before else "I", 2, (7, 8), True), (65001, "d", 1, 0.5, True)]
    tifffile.imwrite(path, pixels, bigtiff=before, byteorder=">", extratags=tags)
    page = filtered(path, bigtiff=rule)
    assert page.parent.is_bigtiff is (before if after is None else after)
    assert [page.tags.valueof(code) for code in (65000, 65001)] == [(7, 8), 0.5]
    assert_holds(path, pixels)


def test_numbers_too_large_for_a_classic_file(path: Path) -> None:
    tags: list[Any] = [(65000, "Q", 1, 2**40, True), (65001, "q", 1, -5, True)]
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)), bigtiff=True, extratags=tags)
    report = filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA), bigtiff="no")
    assert report.notices == ("tags whose numbers are too large for a classic TIFF file are not kept: 65000",)
    assert filtered(path, bigtiff="no").tags.valueof(65001) == -5


def test_pixels_too_many_for_a_classic_file(tmp_path: Path) -> None:
    image = ImageSpec(70_000, 70_000, 1, np.dtype("uint8"), Grain(1, 70_000))
    with pytest.raises(UnsupportedError, match=r"4.9 GB of pixels.*--bigtiff no"):
        TiffSink(tmp_path / "out.tif", [image], bigtiff="no")
    assert list(tmp_path.iterdir()) == []
    for rule, compression, is_big in [("auto", "none", True), ("no", "deflate", False), ("auto", "deflate", True)]:
        sink = TiffSink(tmp_path / "out.tif", [image], bigtiff=rule, compression=compression)
        sink.abort()
        assert sink.byte_layout.big is is_big


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "vertical"}, "predictor is 'vertical'; it must be one of none, horizontal, float"),
        ({"tile": "512"}, "tile is '512'; it must be rows x columns"),
        ({"tile": "x"}, "tile is 'x'; it must be rows x columns"),
        ({"tile": (16, 16, 16)}, r"tile is \(16, 16, 16\); it must be rows x columns"),
        ({"tile": "500x512"}, "tile is '500x512'; its sides must be multiples of 16"),
        ({"tile": "0x16"}, "tile is '0x16'; its sides must be multiples of 16"),
        ({"tile": (16, 1 << 20)}, "up to 65536"),
        ({"bigtiff": "maybe"}, "bigtiff is 'maybe'; it must be one of auto, yes, no"),
        ({"page": "one"}, "page is 'one'; it must be numbers from 0 on"),
        ({"page": -1}, "page is -1; pages are counted from 0"),
        ({"page": "3-1"}, "page is '3-1'; 3-1 goes backwards"),
        ({"page": "0-4,2"}, "page is '0-4,2'; it names page 2 twice"),
        ({"page": [1, 1]}, r"page is \[1, 1\]; it names page 1 twice"),
    ],
)
def test_wrong_values_are_named(path: Path, options: dict[str, Any], message: str) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)))
    with pytest.raises(ValueError, match=message):
        filtered(path, **options)
    assert [file.name for file in path.parent.iterdir()] == ["in.tif"]


def test_keywords_that_do_not_exist(path: Path) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)))
    with pytest.raises(TypeError, match="unexpected keyword argument 'tiles'"):
        filtered(path, tiles="16x16")
    for page in (True, 1.5, [0, "1"], []):
        with pytest.raises(TypeError, match=re.escape(f"page is {page!r}; it must be numbers")):
            filtered(path, page=page)


@pytest.mark.parametrize("option", ["compression", "predictor", "tile", "bigtiff"])
def test_tiff_options_are_for_tiff(path: Path, option: str) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)))
    values = {"compression": "none", "predictor": "none", "tile": "strips", "bigtiff": "no"}
    with pytest.raises(UnsupportedError, match=rf"--{option} is for TIFF outputs, not for \.png; leave it out"):
        filter_file(path, path.with_name("out.png"), Gaussian(1), **{option: values[option]})
    filter_file(path, path.with_name("out.png"), Gaussian(1), bigtiff="auto", tile=None)


def test_values_that_options_stand_for() -> None:
    assert [parse_predictor(name) for name in ("none", "horizontal", "float")] == [1, 2, 3]
    assert (parse_tile("256x512"), parse_tile((16, 32)), parse_tile("strips")) == ((256, 512), (16, 32), "strips")
    assert [parse_bigtiff(rule) for rule in ("auto", "yes", "no", True, False)] == [None, True, False, True, False]


# ------------------------------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize(
    ("page", "numbers"),
    [
        (0, [0]),
        ("0,3-5", [0, 3, 4, 5]),
        ("4,0", [4, 0]),
        ("3-", [3, 4, 5]),
        ("5", [5]),
        ([2, 1], [2, 1]),
        (" 1 - 2 , 4", [1, 2, 4]),
    ],
)
def test_pages_are_selected(path: Path, page: Any, numbers: list[int]) -> None:
    pages = [noise((10 + number, WIDTH), seed=number) for number in range(6)]
    with tifffile.TiffWriter(path) as writer:
        for pixels in pages:
            writer.write(pixels, metadata=None, description=f"page {len(pixels)}")
    target = path.with_name("out.tif")
    report = filter_file(path, target, Gaussian(SIGMA), page=page)
    assert [plan.image.height for plan in plan_file(path, Gaussian(SIGMA), page=page)] == [10 + n for n in numbers]
    assert report.notices == ()
    for result, number in zip(read_pages(target), numbers, strict=True):
        np.testing.assert_array_equal(result, gaussian(pages[number], SIGMA))
    with tifffile.TiffFile(target) as tiff:
        assert [page.tags.valueof(270) for page in tiff.pages] == [f"page {10 + number}" for number in numbers]


def test_pages_that_are_not_there(path: Path) -> None:
    tifffile.imwrite(path, noise((3, HEIGHT, WIDTH)), photometric="minisblack")
    image = path.with_suffix(".png")
    Image.fromarray(noise((HEIGHT, WIDTH))).save(image)
    for file, page, fact in [
        (path, 3, "has no page 3; its pages are 0 to 2"),
        (path, "1-999999999", "has no page 999999999; its pages are 0 to 2"),
        (path, "7-", "has no page 7; its pages are 0 to 2"),
        (image, 1, "has no page 1; its only page is 0"),
    ]:
        with pytest.raises(UnsupportedError, match=f"{file.name}: {fact}"):
            filtered(file, page=page)
    filter_file(image, path.with_name("out.png"), Gaussian(SIGMA), page="0")
    np.testing.assert_array_equal(
        np.asarray(Image.open(path.with_name("out.png"))), gaussian(noise((HEIGHT, WIDTH)), SIGMA)
    )


def test_one_page_becomes_png(path: Path) -> None:
    pages = noise((3, HEIGHT, WIDTH))
    tifffile.imwrite(path, pages, photometric="minisblack")
    filter_file(path, path.with_name("out.png"), Gaussian(SIGMA), page=1)
    np.testing.assert_array_equal(np.asarray(Image.open(path.with_name("out.png"))), gaussian(pages[1], SIGMA))


@pytest.mark.parametrize("stack", ["imagej", "shaped", "ome"])
def test_descriptions_of_a_stack_fit_a_part_of_it(path: Path, stack: str) -> None:
    pages = noise((4, HEIGHT, WIDTH), 65535)
    tifffile.imwrite(path, pages, photometric="minisblack", **({} if stack == "shaped" else {stack: True}))
    filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA), page="0,2")
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert [tiff.is_imagej, tiff.is_shaped, tiff.is_ome].count(True) == 1
        assert tiff.series[0].shape == (2, HEIGHT, WIDTH)
    for result, pixels in zip(read_pages(path.with_name("out.tif")), pages[::2], strict=True):
        np.testing.assert_array_equal(result, gaussian(pixels, SIGMA))
    everything = filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA), page="0-", overwrite=True)
    assert everything.notices == ()
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert tiff.is_imagej or tiff.is_shaped or tiff.is_ome


@pytest.fixture
def pyramid(path: Path) -> tuple[Path, list[Pixels]]:
    """Return a file with an image, a smaller version, a mask, and a second image with a version in a SubIFD."""
    pixels = [noise((HEIGHT, WIDTH)), noise((20, 30)), noise((HEIGHT, WIDTH), 1) * np.uint8(255), noise((40, 40))]
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels[0], metadata=None)
        writer.write(pixels[1], metadata=None, subfiletype=1)
        writer.write(pixels[2] > 0, metadata=None, subfiletype=4)
        writer.write(pixels[3], metadata=None, subifds=1)
        writer.write(noise((20, 20)), metadata=None, subfiletype=1)
    return path, pixels


def test_smaller_versions_of_other_proportions_and_masks_are_left_out(pyramid: tuple[Path, list[Pixels]]) -> None:
    path, pixels = pyramid
    report = filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA))
    assert report.notices == ("1 smaller version (page 1) is not kept", "1 mask (page 2) is not kept")
    for result, expected in zip(read_pages(path.with_name("out.tif")), (pixels[0], pixels[3]), strict=True):
        np.testing.assert_array_equal(result, gaussian(expected, SIGMA))
    assert 330 not in filtered(path).tags


@pytest.mark.parametrize("number", [1, 2])
def test_smaller_versions_and_masks_can_be_selected(pyramid: tuple[Path, list[Pixels]], number: int) -> None:
    path, pixels = pyramid
    page = filtered(path, page=number)
    assert_holds(path, pixels[number])
    assert (int(page.subfiletype), int(page.photometric)) == (0, MINISBLACK)


def test_names_of_pages() -> None:
    assert page_names([0]) == "page 0"
    assert page_names([4, 0, 1]) == "pages 4, 0-1"
    assert PageSelection.parse("2-").of(4, "a.tif") == [2, 3]


# ------------------------------------------------------------------------------------------------- the command line


def test_options_of_the_command_line(path: Path) -> None:
    pages = [noise((HEIGHT, WIDTH), seed=seed).astype(np.float32) for seed in range(3)]
    with tifffile.TiffWriter(path) as writer:
        for pixels in pages:
            writer.write(pixels, metadata=None)
    target = path.with_name("out.tif")
    layout = ["--compression", "zstd", "--predictor", "float", "--tile", "32x16", "--bigtiff", "yes"]
    assert run("gaussian", path, target, "--sigma", "2", "--page", "2,0", *layout).status == 0
    with tifffile.TiffFile(target) as tiff:
        page = tiff.pages.first
        assert tiff.is_bigtiff
        assert (page.compression, page.predictor, page.tile) == (50000, 3, (32, 16))
    for result, pixels in zip(read_pages(target), (pages[2], pages[0]), strict=True):
        np.testing.assert_array_equal(result, gaussian(pixels, 2))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--page", "x"], "Invalid value for '--page': 'x'; it must be numbers from 0 on"),
        (["--tile", "10x10"], "Invalid value for '--tile': '10x10'; its sides must be multiples of 16"),
        (["--predictor", "vertical"], "Invalid value for '--predictor'"),
        (["--bigtiff", "1"], "Invalid value for '--bigtiff'"),
    ],
)
def test_wrong_options_are_wrong_usage(path: Path, arguments: list[str], fact: str) -> None:
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)))
    assert_refused(run("gaussian", path, path.with_name("out.tif"), "--sigma", "2", *arguments), 2, fact)


def test_explaining_pages(path: Path) -> None:
    tifffile.imwrite(path, noise((3, HEIGHT, WIDTH)), photometric="minisblack")
    arguments = ["--sigma", "2", "--page", "1", "--tile", "16x16", "--explain", "--json"]
    done = run("gaussian", path, *arguments)
    assert len(json.loads(done.stdout)["plans"]) == 1


def test_info_tells_what_is_stored(path: Path) -> None:
    write_by_hand(path, strip_page(noise((HEIGHT, WIDTH), 4095), 12, MINISBLACK), tile_page(noise((HEIGHT, WIDTH)), 8))
    text = run("info", path, "--max-memory", "4GB").stdout
    assert "45 x 61 pixels, 1 channel, uint16" in text
    assert "12-bit samples" in text
