"""TIFF files as found in the wild are filtered to the same bytes as the pixels that they stand for."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from blurfast import Gaussian, UnreadableError, UnsupportedError, filter_file, gaussian
from blurfast.errors import BlurfastError
from blurfast.io import tiff_readers, tiff_rows
from blurfast.io.tiff_source import TiffSource
from tests import naive, tolerances
from tests.tiff_corpus import (
    BITS,
    CMYK,
    CORPUS,
    DEFLATE,
    HEIGHT,
    MINISBLACK,
    MINISWHITE,
    PALETTE,
    PALETTES,
    RGB,
    WIDTH,
    HandMadePage,
    Pixels,
    colour_map,
    noise,
    read_pages,
    strip_page,
    write_by_hand,
)

SIGMA = (2.0, 3.0)


def filtered(pixels: Pixels) -> Pixels:
    return gaussian(pixels, SIGMA, channel_axis=-1 if pixels.ndim == 3 else None)


def assert_filtered(path: Path, expected: list[Pixels], **options: Any) -> tuple[str, ...]:
    """Filter a file, compare with the pixels that it stands for, and return the notices."""
    target = path.with_name("out.tif")
    report = filter_file(path, target, Gaussian(SIGMA), overwrite=True, **options)
    for result, pixels in zip(read_pages(target), expected, strict=True):
        assert result.dtype == pixels.dtype
        np.testing.assert_array_equal(result, filtered(pixels))
    return report.notices


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


@pytest.mark.parametrize("name", CORPUS)
def test_files_stand_for_their_pixels(path: Path, name: str) -> None:
    assert_filtered(path, CORPUS[name](path))


@pytest.mark.parametrize("name", ["1 bits, white is 0", "4 bits", "12 bits, big-endian", "palette of 16-bit colours"])
def test_results_are_those_of_the_oracle(path: Path, name: str) -> None:
    (pixels,) = CORPUS[name](path)
    filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA))
    (result,) = read_pages(path.with_name("out.tif"))
    for one, filtered_one in zip(planes(pixels), planes(result), strict=True):
        tolerances.assert_exact(filtered_one, naive.gaussian(one, SIGMA), tolerances.spread(one))


def planes(pixels: Pixels) -> list[Pixels]:
    return [pixels] if pixels.ndim == 2 else [pixels[..., channel] for channel in range(pixels.shape[2])]


# ------------------------------------------------------------------------------------------- what becomes of pixels


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("1 bits", "1-bit samples are written as uint8, as 0 and 255"),
        ("1 bits, white is 0", "1-bit samples are written as uint8, as 0 and 255, with 0 for black"),
        ("4 bits", "4-bit samples are written as uint8, spread from 0 to 255"),
        ("12 bits, big-endian", "12-bit samples are written as uint16, with the same values"),
        ("24 bits, big-endian", "24-bit samples are written as uint32, with the same values"),
        ("palette of 8 bits, times 257", "palette colours are written as RGB, in uint8"),
        ("palette of 16-bit colours", "palette colours are written as RGB, in uint16"),
    ],
)
def test_changed_pixels_are_told(path: Path, name: str, notice: str) -> None:
    assert assert_filtered(path, CORPUS[name](path)) == (notice,)


def test_notices_name_the_pages(path: Path) -> None:
    bits, words = noise((20, 30), 1), noise((20, 30), 4095)
    one_bit, twelve_bits = strip_page(bits, 1, MINISBLACK, rows=20), strip_page(words, 12, MINISBLACK, rows=20)
    write_by_hand(path, one_bit, one_bit, twelve_bits, one_bit)
    bits *= 255
    assert assert_filtered(path, [bits, bits, words, bits]) == (
        "pages 0-1, 3: 1-bit samples are written as uint8, as 0 and 255",
        "page 2: 12-bit samples are written as uint16, with the same values",
    )


@pytest.mark.parametrize("name", [*BITS, *PALETTES])
def test_output_says_what_its_pixels_are(path: Path, name: str) -> None:
    (pixels,) = CORPUS[name](path)
    filter_file(path, path.with_name("out.tif"), Gaussian(1))
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        page = tiff.pages.first
        grey = MINISWHITE if name == "12 bits, white is 0" else MINISBLACK
        assert page.photometric == (RGB if pixels.ndim == 3 else grey)
        assert page.bitspersample == 8 * pixels.itemsize
        assert page.samplesperpixel == (3 if pixels.ndim == 3 else 1)
        assert 320 not in page.tags


@pytest.mark.parametrize("kind", ["group3", "group4", "tiff_ccitt"])
def test_fax_becomes_deflate_with_a_notice(path: Path, kind: str) -> None:
    notices = assert_filtered(path, BITS[f"fax, {kind}"](path))
    assert any("cannot hold the result: deflate compression is used" in notice for notice in notices)
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert (tiff.pages.first.compression, tiff.pages.first.predictor) == (DEFLATE, 2)


def test_jpeg_of_12_bits_becomes_deflate_with_a_notice(path: Path) -> None:
    smooth = gaussian(noise((HEIGHT, WIDTH), 4095), 3)
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "jpeg", "bitspersample": 12}
    tifffile.imwrite(path, smooth, metadata=None, **options)
    decoded = tifffile.imread(path)
    assert np.abs(decoded.astype(int) - smooth).max() < 50
    notices = assert_filtered(path, [decoded])
    assert notices[1] == "jpeg cannot hold the result: deflate compression is used"


def test_lossless_jpeg_of_16_bits_becomes_deflate_with_a_notice(path: Path) -> None:
    pixels = noise((HEIGHT, WIDTH), 65535).astype("uint16")
    encoded = imagecodecs.jpeg_encode(pixels, lossless=True, bitspersample=16)
    page = strip_page(pixels, 16, MINISBLACK, rows=HEIGHT, more={259: ("H", [7])})
    write_by_hand(path, page._replace(segments=[encoded]))
    assert assert_filtered(path, [pixels]) == ("jpeg cannot hold the result: deflate compression is used",)


def test_compressions_that_are_not_written_become_deflate_with_a_notice(path: Path) -> None:
    pixels = noise((HEIGHT, WIDTH))
    tifffile.imwrite(path, pixels, compression="lerc", metadata=None)
    assert assert_filtered(path, [pixels]) == ("lerc cannot be written: deflate compression is used",)
    assert assert_filtered(path, [pixels], compression="lzw") == ()


@pytest.mark.parametrize("length", ["all", "headers", "nothing"])
@pytest.mark.parametrize("missing_bytes", [0, 300])
def test_old_jpeg_with_its_headers_before_its_strip(path: Path, length: str, missing_bytes: int) -> None:
    """As scanners of the 1990s write it: the strip has only what follows the headers, and sometimes not all of that."""
    pixels = noise((HEIGHT, WIDTH))
    encoded = imagecodecs.jpeg_encode(pixels, 100)
    headers = encoded.index(b"\xff\xda")
    lengths = {"all": [len(encoded)], "headers": [headers], "nothing": []}[length]
    more = {259: ("H", [6]), 512: ("H", [1]), 513: ("I", [8]), **({514: ("I", lengths)} if lengths else {})}
    page = strip_page(pixels, 8, MINISBLACK, rows=HEIGHT, more=more)
    write_by_hand(path, page._replace(segments=[encoded]))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tags = tiff.pages.first.tags
        tags["StripOffsets"].overwrite([8 + headers])
        tags["StripByteCounts"].overwrite([len(encoded) - headers - (missing_bytes if length == "all" else 0)])
    assert_filtered(path, [imagecodecs.jpeg_decode(encoded)], compression="none")


def test_old_jpeg_with_tables_elsewhere_is_refused(path: Path) -> None:
    encoded = imagecodecs.jpeg_encode(noise((HEIGHT, WIDTH)))
    page = strip_page(noise((HEIGHT, WIDTH)), 8, MINISBLACK, rows=HEIGHT, more={259: ("H", [6])})
    write_by_hand(path, page._replace(segments=[encoded[encoded.index(b"\xff\xda") :]]))
    with pytest.raises(UnsupportedError, match=r"page 0 has JPEG compression of the old kind.*tiffcp"):
        TiffSource(path)


def test_strips_that_claim_too_many_bytes(path: Path) -> None:
    pixels = noise((HEIGHT, WIDTH))
    tifffile.imwrite(path, pixels, rowsperstrip=HEIGHT, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["StripByteCounts"].overwrite([10**8])
    assert assert_filtered(path, [pixels]) == ()


def test_directories_that_make_no_sense(path: Path) -> None:
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, 9999) + bytes(100))
    with pytest.raises(UnreadableError) as caught:
        TiffSource(path)
    assert caught.value.fact == "is not a TIFF file, or one whose directories are damaged"


def test_jpeg_of_cmyk_stays_so_with_a_notice(path: Path) -> None:
    inks = gaussian(noise((HEIGHT, WIDTH, 4)), 4, channel_axis=-1)
    tifffile.imwrite(path, inks, photometric="separated", compression="jpeg", tile=(16, 32), metadata=None)
    report = filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA))
    assert report.notices == ("jpeg is lossy: encoded once more, with quality 95",)
    (result,) = read_pages(path.with_name("out.tif"))
    assert np.abs(result.astype(int) - filtered(tifffile.imread(path))).max() <= 4
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert (tiff.pages.first.photometric, tiff.pages.first.compression) == (CMYK, 7)


def test_compression_that_is_asked_for_is_taken_in_place_of_fax(path: Path) -> None:
    notices = assert_filtered(path, BITS["fax, group4"](path), compression="zstd")
    assert notices == ("1-bit samples are written as uint8, as 0 and 255",)


@pytest.mark.parametrize("name", ["1 bits, white is 0", "2 bits", "palette of 8 bits, times 257"])
def test_few_bits_and_palettes_become_png(path: Path, name: str) -> None:
    (pixels,) = CORPUS[name](path)
    filter_file(path, path.with_name("out.png"), Gaussian(SIGMA))
    np.testing.assert_array_equal(np.asarray(Image.open(path.with_name("out.png"))), filtered(pixels))


@pytest.mark.parametrize(
    ("photometric", "channels", "name"),
    [(CMYK, 4, "CMYK colours"), (MINISWHITE, 1, "shades of grey with 0 for white"), (6, 3, "YCbCr colours")],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_colours_that_other_formats_lack(path: Path, photometric: int, channels: int, name: str, suffix: str) -> None:
    samples = noise((HEIGHT, WIDTH, channels))
    write_by_hand(path, strip_page(samples, 8, photometric, more={530: ("H", [1, 1])} if photometric == 6 else None))
    with pytest.raises(UnsupportedError, match=rf"\.{suffix} files cannot hold {name}.*TIFF"):
        filter_file(path, path.with_name(f"out.{suffix}"), Gaussian(1))
    assert_filtered(path, [samples if channels > 1 else samples[..., 0]])
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert tiff.pages.first.photometric == photometric


def test_tags_that_speak_of_samples_go_with_them(path: Path) -> None:
    more = {42113: ("s", "1\0"), 291: ("H", range(8)), 297: ("H", [0, 1]), 700: ("s", "kept")}
    codes = [*more]
    for bits, kept in {1: [False, False, True, True], 16: [True] * 4}.items():
        write_by_hand(path, strip_page(noise((HEIGHT, WIDTH), 1), bits, MINISBLACK, more=more))
        filter_file(path, path.with_name("out.tif"), Gaussian(1), overwrite=True)
        with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
            assert [code in tiff.pages.first.tags for code in codes] == kept


def test_description_of_a_shape_goes_with_it(path: Path) -> None:
    options: dict[str, Any] = {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)), **options)
    filter_file(path, path.with_name("out.tif"), Gaussian(1))
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert tiff.pages.first.description == f'{{"shape": [{HEIGHT}, {WIDTH}, 3]}}'


# --------------------------------------------------------------------------------------------- strips row by row


@pytest.fixture
def rows_of_all_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all deflated strips be read row by row, and few rows at a time."""
    monkeypatch.setattr(tiff_readers, "_GREATEST_STRIP_BYTES", 0)
    monkeypatch.setattr(tiff_rows, "_BAND_BYTES", 500)
    monkeypatch.setattr(tiff_rows, "_READ_BYTES", 300)


DEFLATED: dict[str, dict[str, Any]] = {
    "one strip": {"rowsperstrip": HEIGHT},
    "several strips": {"rowsperstrip": 13},
    "planes": {"rowsperstrip": 20, "planarconfig": "separate"},
}


@pytest.mark.usefixtures("rows_of_all_strips")
@pytest.mark.parametrize("layout", DEFLATED)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32", "float64"])
def test_rows_are_inflated_in_order(path: Path, layout: str, order: Any, dtype: str) -> None:
    pixels = noise((HEIGHT, WIDTH, 3), 200).astype(dtype)
    is_planar = "planarconfig" in DEFLATED[layout]
    data = np.moveaxis(pixels, -1, 0) if is_planar else pixels
    for predictor in (1, 3 if np.dtype(dtype).kind == "f" else 2):
        options: dict[str, Any] = {"compression": "deflate", "predictor": predictor, **DEFLATED[layout]}
        tifffile.imwrite(path, data, photometric="rgb", byteorder=order, metadata=None, **options)
        with contextlib.closing(TiffSource(path)) as source:
            assert all(image.sequential and image.grain.rows == 1 for image in source.images)
        assert_filtered(path, [pixels])


@pytest.mark.parametrize("greatest_whole_strip", [0, 1 << 20])
def test_differences_of_floats_are_those_of_their_bits(
    path: Path, monkeypatch: pytest.MonkeyPatch, greatest_whole_strip: int
) -> None:
    monkeypatch.setattr(tiff_readers, "_GREATEST_STRIP_BYTES", greatest_whole_strip)
    pixels = np.random.default_rng(2).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    bits = pixels.view(np.uint32)
    differences = np.diff(bits, axis=1, prepend=bits[:, :1] * 0)
    more = {317: ("H", [2]), 339: ("H", [3])}
    page = strip_page(differences, 32, MINISBLACK, compression=DEFLATE, more=more)
    write_by_hand(path, page, order=">")
    assert_filtered(path, [pixels])


@pytest.mark.usefixtures("rows_of_all_strips")
@pytest.mark.parametrize("name", [name for name in CORPUS if "deflated" in name or name == "palette with a predictor"])
def test_rows_of_all_kinds_are_inflated(path: Path, name: str) -> None:
    expected = CORPUS[name](path)
    with contextlib.closing(TiffSource(path)) as source:
        assert source.images[0].sequential
    for mode in ("reflect", "wrap"):
        filter_file(path, path.with_name("out.tif"), Gaussian(SIGMA), mode=mode, overwrite=True)
        channel_axis = -1 if expected[0].ndim == 3 else None
        result = gaussian(expected[0], SIGMA, mode=mode, channel_axis=channel_axis)
        np.testing.assert_array_equal(read_pages(path.with_name("out.tif"))[0], result)


def deflated_strip(path: Path, data: bytes) -> None:
    """Write an image of one strip that holds some bytes, whatever they are."""
    page = strip_page(np.zeros((HEIGHT, WIDTH), np.uint8), 8, MINISBLACK, compression=DEFLATE)
    write_by_hand(path, page._replace(segments=[data]))


@pytest.mark.usefixtures("rows_of_all_strips")
def test_rows_beyond_the_image_are_ignored(path: Path) -> None:
    pixels = noise((HEIGHT + 5, WIDTH))
    deflated_strip(path, zlib.compress(pixels.tobytes()))
    assert_filtered(path, [pixels[:HEIGHT]])


@pytest.mark.usefixtures("rows_of_all_strips")
@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda data: data[: len(data) // 2], "has fewer pixels than it should"),
        (lambda data: zlib.compress(zlib.decompress(data)[:-1]), "has fewer pixels than it should"),
        (lambda data: data[:-4], "ends before its checksum"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "cannot be inflated"),
        (lambda data: data[:100] + bytes(50) + data[150:], "cannot be inflated"),
        (lambda data: b"\0" + data[1:], "cannot be inflated"),
    ],
)
def test_damaged_deflate_data(path: Path, change: Any, fact: str) -> None:
    deflated_strip(path, change(zlib.compress(noise((HEIGHT, WIDTH)).tobytes())))
    with pytest.raises(UnreadableError, match=f"segment 0 of page 0 {fact}"):
        filter_file(path, path.with_name("out.tif"), Gaussian(1))
    assert [file.name for file in path.parent.iterdir()] == ["in.tif"]


# ------------------------------------------------------------------------------------------- what is not filtered


UNSUPPORTED: dict[str, tuple[HandMadePage, str]] = {
    "samples of different sizes": (
        strip_page(noise((16, 16, 3), 31), 8, RGB, rows=16, more={258: ("H", [5, 6, 5])}),
        "samples of different sizes",
    ),
    "signed bits": (strip_page(noise((16, 16), 15), 4, MINISBLACK, rows=16, more={339: ("H", [2])}), "4-bit integer"),
    "short floats": (strip_page(noise((16, 16)), 24, MINISBLACK, rows=16, more={339: ("H", [3])}), "24-bit floating"),
    "predicted bits": (
        strip_page(noise((16, 16), 4095), 12, MINISBLACK, rows=16, compression=DEFLATE, more={317: ("H", [2])}),
        "predictor for 12-bit samples",
    ),
    "predicted integers": (
        strip_page(noise((16, 16)), 8, MINISBLACK, rows=16, compression=DEFLATE, more={317: ("H", [3])}),
        "predictor for floating-point samples, but uint8",
    ),
    "two channels of a palette": (
        strip_page(noise((16, 16, 2)), 8, PALETTE, rows=16, more={320: colour_map(noise((256, 3)), 1)}),
        "palette and further channels",
    ),
    "fax of grey": (strip_page(noise((16, 16)), 8, MINISBLACK, rows=16, more={259: ("H", [4])}), "bilevel images"),
    "subsampled colours": (
        strip_page(noise((16, 16, 3)), 8, 6, rows=16, more={530: ("H", [2, 2])}),
        "subsampled colours without JPEG",
    ),
    "unknown compression": (strip_page(noise((16, 16)), 8, MINISBLACK, rows=16, more={259: ("H", [34676])}), "unknown"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_pages_are_named(path: Path, kind: str) -> None:
    page, fact = UNSUPPORTED[kind]
    write_by_hand(path, page)
    with pytest.raises(UnsupportedError, match=f"page 0 .*{fact}") as caught:
        TiffSource(path)
    assert caught.value.path == str(path)
    assert caught.value.remedy
    write_by_hand(path, strip_page(noise((16, 16)), 8, MINISBLACK, rows=16), page)
    with pytest.raises(UnsupportedError, match=f"page 1 .*{fact}.*--page"):
        TiffSource(path)
    assert_filtered(path, [noise((16, 16))], page=0)


def test_palette_that_does_not_fit(path: Path) -> None:
    short = colour_map(noise((15, 3)), 1)
    for more in ({320: short}, {}):
        write_by_hand(path, strip_page(noise((16, 16), 15), 4, PALETTE, rows=16, more=more))
        with pytest.raises(UnreadableError, match=r"page 0 has a palette of (45|0) numbers, where 48 are needed"):
            TiffSource(path)


# ------------------------------------------------------------------------------------------------- damaged headers


IMPOSSIBLE: dict[str, HandMadePage] = {
    "raw strip": strip_page(noise((HEIGHT, WIDTH)), 8, MINISBLACK),
    "raw bits": strip_page(noise((HEIGHT, WIDTH), 1), 1, MINISBLACK),
    "12 bits": strip_page(noise((HEIGHT, WIDTH), 4095), 12, MINISBLACK),
    "deflated": strip_page(noise((HEIGHT, WIDTH)), 8, MINISBLACK, compression=DEFLATE),
    "palette": strip_page(noise((HEIGHT, WIDTH)), 8, PALETTE, more={320: colour_map(noise((256, 3)), 1)}),
    "fax": strip_page(noise((HEIGHT, WIDTH), 1), 1, MINISBLACK, more={259: ("H", [4])}),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_sizes_are_checked_before_anything_is_allocated(path: Path, kind: str) -> None:
    page = IMPOSSIBLE[kind]
    large = {256: ("I", [2**31]), 257: ("I", [2**31]), 278: ("I", [2**31])}
    write_by_hand(path, page._replace(tags={**page.tags, **large}))
    with pytest.raises(UnreadableError, match="segment 0 of page 0 has fewer bytes than its pixels need"):
        TiffSource(path)


def test_missing_byte_counts_are_checked_against_the_file(path: Path) -> None:
    page = strip_page(noise((HEIGHT, WIDTH), 1), 1, MINISBLACK)
    write_by_hand(path, page._replace(tags={**page.tags, 257: ("I", [2**20]), 278: ("I", [2**20])}), omitted=[279])
    with pytest.raises(UnreadableError, match="segment 0 of page 0 lies beyond the end of the file"):
        TiffSource(path)


@pytest.mark.usefixtures("rows_of_all_strips")
@pytest.mark.parametrize("name", ["12 bits deflated", "palette of 4 bits, times 256", "fax, group4", "sparse bits"])
def test_damaged_files_give_errors_or_pixels(path: Path, name: str) -> None:
    CORPUS[name](path)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        mutated = bytearray(whole)
        start = int(generator.integers(0, len(whole) - 4))
        mutated[start : start + 4] = struct.pack("<I", int(generator.choice([0, 1, 2**16, 2**31, 2**32 - 1])))
        path.write_bytes(mutated)
        try:
            filter_file(path, path.with_name("out.tif"), Gaussian(1), overwrite=True, threads=1)
        except BlurfastError:
            refused += 1
    assert refused > 3
