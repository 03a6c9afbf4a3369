"""PNG: the kernels against plain Python, files against Pillow and OpenCV."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from blurfast.cpu import objects
from blurfast.cpu.catalogue import Kernel
from blurfast.errors import OutputExistsError, UnsupportedError, UnwritableError
from blurfast.io import png_sink
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.png import PngSink, PngSource
from blurfast.io.png_sink import adler32_combine
from blurfast.pixels import Window
from tests.png_files import (
    SIGNATURE,
    SMALL,
    chunk,
    chunks_in,
    deflated,
    feed,
    filtered_row,
    header,
    noise,
    png,
    predict,
    read,
    read_bytes,
    read_file,
    smooth,
    spec_of,
    windows,
    write_file,
)

PIXEL_BYTES = [1, 2, 3, 4, 6, 8]


# ------------------------------------------------------------------------------------------------ kernels


@pytest.fixture(scope="module")
def kernels() -> list[objects.KernelFunction]:
    return objects.load(Kernel("png", name, "uint8", "uint8") for name in ("unfilter", "filter_rows"))


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("pixel_bytes", PIXEL_BYTES)
@pytest.mark.parametrize("width", [1, 2, 11, 45])
def test_kernels_agree_with_plain_python(kernels, kind, pixel_bytes, width):
    unfilter, filter_rows = kernels
    row_bytes, pitch = width * pixel_bytes, width * pixel_bytes + 5
    rows = noise((4, pitch, 1), seed=width)[:, :, 0]
    above, inner = rows[0], rows[1:, :row_bytes]
    expected = b"".join(
        filtered_row(kind, rows[i, :row_bytes].tobytes(), rows[i - 1, :row_bytes].tobytes(), pixel_bytes)
        for i in range(1, 4)
    )
    scanlines = np.zeros(3 * (row_bytes + 1), np.uint8)
    filter_rows(inner.ctypes.data, pitch, 3, row_bytes, pixel_bytes, above.ctypes.data, kind, scanlines.ctypes.data)
    assert scanlines.tobytes() == expected
    target, bad_row = np.full((3, pitch), 77, np.uint8), np.zeros(1, np.int64)
    unfilter(
        scanlines.ctypes.data, 3, row_bytes, pixel_bytes, above.ctypes.data, target.ctypes.data, pitch,
        bad_row.ctypes.data,
    )  # fmt: skip
    assert bad_row[0] == -1
    np.testing.assert_array_equal(target[:, :row_bytes], inner)
    assert (target[:, row_bytes:] == 77).all()


@pytest.mark.parametrize("pixel_bytes", PIXEL_BYTES)
@pytest.mark.parametrize("width", [1, 7, 8, 9, 10, 33])
@pytest.mark.parametrize("kinds", [[4] * 9, [4] * 4 + [1] + [4] * 4, [2] + [4] * 8])
def test_runs_of_rows_with_the_last_filter(kernels, pixel_bytes, width, kinds):
    row_bytes, pitch = width * pixel_bytes, width * pixel_bytes + 5
    above, *rows = noise((10, row_bytes, 1), seed=width)[:, :, 0]
    previous = [above, *rows[:-1]]
    lines = [
        filtered_row(kind, row.tobytes(), over.tobytes(), pixel_bytes)
        for kind, row, over in zip(kinds, rows, previous, strict=True)
    ]
    scanlines = np.frombuffer(b"".join(lines), np.uint8)
    target, bad_row = np.full((9, pitch), 77, np.uint8), np.zeros(1, np.int64)
    kernels[0](
        scanlines.ctypes.data, 9, row_bytes, pixel_bytes, above.ctypes.data, target.ctypes.data, pitch,
        bad_row.ctypes.data,
    )  # fmt: skip
    assert bad_row[0] == -1
    np.testing.assert_array_equal(target[:, :row_bytes], rows)
    assert (target[:, row_bytes:] == 77).all()


def test_paeth_predictor_for_all_kinds_of_neighbours(kernels):
    values = [0, 1, 2, 127, 128, 129, 254, 255]
    triples = np.array([(a, b, c) for a in values for b in values for c in values], np.uint8)
    left, above, above_left = triples.T
    rows = np.stack([np.stack([above_left, above], 1).ravel(), np.stack([left, 0 * left], 1).ravel()])
    scanlines = np.zeros(rows.shape[1] + 1, np.uint8)
    kernels[1](rows[1].ctypes.data, 0, 1, rows.shape[1], 1, rows[0].ctypes.data, 4, scanlines.ctypes.data)
    expected = [-predict(4, *map(int, triple)) % 256 for triple in triples]
    assert scanlines[2::2].tolist() == expected


def test_adaptive_filter_has_the_smallest_sum(kernels):
    flat = np.full((1, 300), 9, np.uint8)
    ramp = np.arange(300, dtype=np.uint8)[None]
    repeated = noise((1, 300, 1))[:, :, 0]
    for row, above, kind in [(flat, 0 * flat, 1), (ramp, 0 * ramp, 1), (repeated, repeated, 2), (0 * flat, flat, 0)]:
        scanlines = np.zeros(301, np.uint8)
        kernels[1](row.ctypes.data, 300, 1, 300, 1, above.ctypes.data, -1, scanlines.ctypes.data)
        assert scanlines.tobytes() == filtered_row(kind, row.tobytes(), above.tobytes(), 1)


@pytest.mark.parametrize("pixel_bytes", PIXEL_BYTES)
@pytest.mark.parametrize("width", [2, 9, 50])
def test_adaptive_filter_agrees_with_plain_python(kernels, pixel_bytes, width):
    def size(scanline: bytes) -> int:  # without the filter's name and the first pixel
        return sum(min(byte, 256 - byte) for byte in scanline[1 + pixel_bytes :])

    above, *rows = smooth((9, width, pixel_bytes)).reshape(9, -1)
    for row in rows:
        scanline = np.zeros(row.size + 1, np.uint8)
        kernels[1](row.ctypes.data, 0, 1, row.size, pixel_bytes, above.ctypes.data, -1, scanline.ctypes.data)
        candidates = [filtered_row(kind, row.tobytes(), above.tobytes(), pixel_bytes) for kind in range(5)]
        assert scanline.tobytes() == min(candidates, key=size)
        above = row


def test_unfilter_stops_at_an_unknown_filter(kernels):
    scanlines = np.array([0, 1, 0, 2, 5, 3, 0, 4], np.uint8)
    target, previous, bad_row = np.zeros(4, np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.int64)
    kernels[0](scanlines.ctypes.data, 4, 1, 1, previous.ctypes.data, target.ctypes.data, 1, bad_row.ctypes.data)
    assert bad_row[0] == 2
    assert target.tolist() == [1, 2, 0, 0]


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_adler32_combine(first, second):
    combined = adler32_combine(zlib.adler32(first), zlib.adler32(second), len(second))
    assert combined == zlib.adler32(first + second)


# ------------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (23, 37)])
def test_reads_every_filter(tmp_path, dtype, channels, size):
    pixels = noise((*size, channels), dtype)
    data = png(pixels, [4, 3, 2, 1, 0, 4, 4, 3, 3, 1, 1])
    for rows in (1, 5, 100):
        np.testing.assert_array_equal(read_bytes(data, tmp_path, rows), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reads_what_pillow_writes(tmp_path, channels):
    pixels = smooth((50, 61, channels))
    flat = pixels[:, :, 0] if channels == 1 else pixels
    Image.fromarray(flat).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_file(tmp_path / "a.png"), pixels)
    source = PngSource(tmp_path / "a.png")
    alpha = channels - 1 if channels % 2 == 0 else None
    task_bytes = source.images[0].task_bytes
    assert source.images == [
        ImageSpec(50, 61, channels, np.dtype(np.uint8), Grain(1, 61), True, task_bytes, alpha=alpha)
    ]
    source.close()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_16_bits_as_opencv_writes_them(tmp_path, channels):
    pixels = smooth((50, 61, channels), np.uint16) * 77
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    expected = pixels[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else pixels
    np.testing.assert_array_equal(read_file(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "rows"), [((1, 1), 1), ((40, 1), 7), ((1, 40), 1), ((33, 57), 1), ((33, 57), 16)])
def test_round_trip(tmp_path, dtype, channels, size, rows):
    for pixels in (noise((*size, channels), dtype), smooth((*size, channels), dtype)):
        write_file(tmp_path / "a.png", pixels, rows, overwrite=True)
        np.testing.assert_array_equal(read_file(tmp_path / "a.png"), pixels)
        with Image.open(tmp_path / "a.png") as image:
            image.load()  # it is valid for others too
            if dtype is np.uint8 or channels == 1:
                np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
        if channels != 2:
            opencv = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
            np.testing.assert_array_equal(opencv, pixels[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else pixels)


@pytest.mark.parametrize("level", [None, *range(10)])
def test_pieces_of_every_level_join(tmp_path, level):
    pixels = smooth((700, 2100, 3))  # 4.4 MB: several pieces in one window
    write_file(tmp_path / "a.png", pixels, 500, level=level)
    assert sum(kind == b"IDAT" for kind, _ in chunks_in((tmp_path / "a.png").read_bytes())) > 4
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", 300), pixels)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1], pixels)


def photograph() -> np.ndarray:
    """Return waves with noise, which no match and no run makes smaller."""
    rows, columns = np.mgrid[:300, :400]
    waves = 100 + 60 * np.sin(rows / 37) + 60 * np.cos(columns / 51)
    noisy = waves[:, :, np.newaxis] + np.random.default_rng(0).normal(0, 3, (300, 400, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def drawing() -> np.ndarray:
    """Return letters and discs, whose parts repeat."""
    pixels = np.full((300, 400, 3), 255, np.uint8)
    for index in range(20):
        centre, colour = (37 * index % 400, 91 * index % 300), (11 * index, 200 - 7 * index, 90)
        cv2.circle(pixels, centre, 5 + index, colour, -1, cv2.LINE_AA)
        cv2.putText(pixels, "blur", centre, cv2.FONT_HERSHEY_SIMPLEX, 1, colour, 2, cv2.LINE_AA)
    return pixels


@pytest.mark.parametrize("scene", [photograph, drawing])
def test_higher_levels_are_never_larger(tmp_path, scene):
    pixels = scene()
    sizes = []
    for level in range(10):
        write_file(tmp_path / "a.png", pixels, 300, level=level, overwrite=True)
        sizes.append((tmp_path / "a.png").stat().st_size)
    write_file(tmp_path / "a.png", pixels, 300, overwrite=True)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] == (tmp_path / "a.png").stat().st_size  # the default
    assert pixels.nbytes < sizes[0] < 1.01 * pixels.nbytes
    assert sizes[1] < 0.8 * sizes[0]
    cv2.imwrite(str(tmp_path / "b.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert sizes[6] < (tmp_path / "b.png").stat().st_size
    assert sizes[3] < 0.99 * sizes[2] or sizes[7] < 0.9 * sizes[3]


def test_pieces_are_deflated_by_several_threads(tmp_path):
    pixels = smooth((900, 2100, 3))
    sink = PngSink(tmp_path / "a.png", [spec_of(pixels)])
    with ThreadPoolExecutor(4) as pool:
        for window in windows(900, 2100, 450):
            tasks = sink.encode_tasks(0, window, pixels[window.row_start : window.row_stop])
            for segment in pool.map(lambda task: task(), tasks):
                sink.append(0, segment)
    sink.commit()
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", 256), pixels)


def test_strided_pixels_are_written(tmp_path):
    everything = noise((40, 60, 4), np.uint16)
    for pixels in (everything[::2, 5:50], everything[:, :, :3], everything[::-1], everything[:, ::2, 1:2]):
        write_file(tmp_path / "a.png", pixels, overwrite=True)
        np.testing.assert_array_equal(read_file(tmp_path / "a.png"), pixels)


def test_pixels_may_span_many_chunks_some_of_them_empty(tmp_path):
    pixels = smooth((31, 17, 3))
    data = deflated(pixels, [4])
    pieces = [data[:1], b"", data[1:2], *(data[i : i + 5] for i in range(2, len(data), 5)), b""]
    file = SIGNATURE + header(pixels) + b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND")
    np.testing.assert_array_equal(read_bytes(file, tmp_path), pixels)


def test_highly_compressible_pixels(tmp_path):
    pixels = np.zeros((1500, 4000, 3), np.uint8)
    pixels[-1, -1, -1] = 1
    write_file(tmp_path / "a.png", pixels, 400, level=9)
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", 333), pixels)


def test_reading_begins_anew_at_the_first_row_and_refuses_gaps(tmp_path):
    pixels = smooth((20, 9, 3))
    (tmp_path / "a.png").write_bytes(png(pixels, [4, 1]))
    source = PngSource(tmp_path / "a.png")
    np.testing.assert_array_equal(read(source, 6), pixels)
    target = np.zeros((4, 9, 3), np.uint8)
    source.read_tasks(0, Window(0, 4, 0, 9), target)[0]()
    np.testing.assert_array_equal(target, pixels[:4])
    with pytest.raises(ValueError, match="row 5 is not the next"):
        source.read_tasks(0, Window(5, 9, 0, 9), target)[0]()
    source.read_tasks(0, Window(4, 8, 0, 9), target)[0]()
    np.testing.assert_array_equal(target, pixels[4:8])
    source.close()


# ------------------------------------------------------------------------------------------------ metadata

KEPT = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", bytes(32)),
    (b"sRGB", b"\0"),
    (b"sBIT", b"\5\6\5"),
    (b"iCCP", b"name\0\0" + zlib.compress(b"a profile")),
    (b"bKGD", bytes(6)),
    (b"pHYs", struct.pack(">IIB", 3937, 2000, 1)),
    (b"tEXt", b"Title\0caf\xe9"),
    (b"zTXt", b"Description\0\0" + zlib.compress(b"long " * 50)),
    (b"iTXt", b"Author\0\0\0de\0Autor\0" + "Ωmega".encode()),
    (b"iTXt", b"Note\0\1\0\0\0" + zlib.compress("日本".encode())),
    (b"eXIf", b"II*\0\x08\0\0\0\0\0"),
    (b"prIv", b"private, safe to copy"),
]  # fmt: skip
DROPPED = [(b"tIME", bytes(7)), (b"hIST", bytes(6)), (b"acTL", bytes(8)), (b"prIV", b"not safe to copy")]


@pytest.fixture
def described(tmp_path) -> Iterator[PngSource]:
    before = b"".join(chunk(*each) for each in [*KEPT[:8], *DROPPED])
    after = b"".join(chunk(*each) for each in KEPT[8:])
    (tmp_path / "described.png").write_bytes(png(SMALL, before=before, after=after))
    source = PngSource(tmp_path / "described.png")
    yield source
    source.close()


def test_chunks_are_kept_one_by_one(tmp_path, described):
    assert described.chunks == KEPT
    write_file(tmp_path / "out.png", SMALL, like=described)
    copied = list(chunks_in((tmp_path / "out.png").read_bytes()))
    assert copied[1 : 1 + len(KEPT)] == KEPT
    assert [kind for kind, _ in copied[1 + len(KEPT) :]] == [b"IDAT", b"IDAT", b"IEND"]


def test_chunks_that_depend_on_the_samples_go_with_them_only(tmp_path, described):
    def copied(pixels: np.ndarray) -> list[bytes]:
        write_file(tmp_path / "out.png", pixels, like=described, overwrite=True)
        kinds = [kind for kind, _ in chunks_in((tmp_path / "out.png").read_bytes())]
        return kinds[1 : kinds.index(b"IDAT")]

    kept = [kind for kind, _ in KEPT]
    assert copied(SMALL.astype(np.uint16)) == [kind for kind in kept if kind not in (b"sBIT", b"bKGD")]
    assert copied(SMALL[:, :, :1]) == [kind for kind in kept if kind not in (b"sBIT", b"bKGD", b"iCCP")]


def test_metadata_is_read(described):
    assert described.metadata == Metadata(
        resolution=(3937.0, 2000.0),
        icc_profile=b"a profile",
        exif=b"II*\0\x08\0\0\0\0\0",
        text={"Title": "café", "Description": "long " * 50, "Author": "Ωmega", "Note": "日本"},
        others=("sBIT", "bKGD", "prIv"),
    )


def test_metadata_is_written(tmp_path):
    metadata = Metadata((3000.0, 4000.4), b"profile" * 9, b"MM\0*", {"Description": "grün", "Kommentar ö": "日本\0"})
    write_file(tmp_path / "a.png", SMALL, metadata=metadata)
    source = PngSource(tmp_path / "a.png")
    source.close()
    text = {"Description": "grün", "Kommentar ö": "日本 "}
    assert source.metadata == Metadata((3000.0, 4000.0), b"profile" * 9, b"MM\0*", text)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == b"profile" * 9
        assert image.info["Kommentar ö"] == "日本 "


def test_metadata_that_pillow_writes(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "plain")
    info.add_text("Title2", "packed", zip=True)
    info.add_itxt("Title3", "Ω", zip=True)
    Image.fromarray(SMALL).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 300), icc_profile=b"icc", exif=b"MM\0*")
    source = PngSource(tmp_path / "a.png")
    source.close()
    assert source.metadata.text == {"Title": "plain", "Title2": "packed", "Title3": "Ω"}
    assert source.metadata.resolution == (11811.0, 11811.0)
    assert (source.metadata.icc_profile, source.metadata.exif) == (b"icc", b"MM\0*")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"pHYs", b"123"),
        (b"iCCP", b"no profile"),
        (b"iCCP", b"name\0\0" + zlib.compress(b"a profile")[:-5]),
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(1 << 27))),
        (b"tEXt", b"no separator"),
        (b"iTXt", b"key\0\0"),
        (b"iTXt", b"key\0\0\0\0\0\xff\xff"),
    ],
)
def test_damaged_metadata_do_not_keep_pixels_from_being_read(tmp_path, kind, content):
    (tmp_path / "a.png").write_bytes(png(SMALL, before=chunk(kind, content)))
    source = PngSource(tmp_path / "a.png")
    np.testing.assert_array_equal(read(source), SMALL)
    assert source.metadata.others == (f"{kind.decode()} (damaged)",)
    source.close()


# ------------------------------------------------------------------------------------------------ outputs


def test_abort_leaves_no_file(tmp_path):
    sink = PngSink(tmp_path / "a.png", [spec_of(SMALL)])
    feed(sink, SMALL)
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_there_before_commit_and_abort_after_it_is_harmless(tmp_path):
    sink = PngSink(tmp_path / "a.png", [spec_of(SMALL)])
    feed(sink, SMALL)
    assert not (tmp_path / "a.png").exists()
    sink.commit()
    sink.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_existing_output_is_kept(tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        PngSink(tmp_path / "a.png", [spec_of(SMALL)])
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    write_file(tmp_path / "a.png", SMALL, overwrite=True)
    np.testing.assert_array_equal(read_file(tmp_path / "a.png"), SMALL)


def test_missing_rows_are_not_committed(tmp_path):
    sink = PngSink(tmp_path / "a.png", [spec_of(SMALL)])
    sink.append(0, sink.encode_tasks(0, Window(0, 2, 0, 4), SMALL[:2])[0]())
    with pytest.raises(ValueError, match="2 of 3 rows"):
        sink.commit()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "fact"),
    [
        ([spec_of(SMALL)] * 2, "one image, not 2"),
        ([], "one image, not 0"),
        ([spec_of(SMALL.astype(np.float32))], "not float32"),
        ([spec_of(SMALL.astype(bool))], "not bool"),
        ([spec_of(np.zeros((2, 2, 5), np.uint8))], "1 to 4 channels, not 5"),
        ([spec_of(np.zeros((0, 2, 1), np.uint8))], "images of 2 x 0 pixels"),
        ([ImageSpec(1, 2**31, 4, np.dtype(np.uint16), Grain(1, 2**31))], "images of 2147483648 x 1 pixels"),
    ],
)
def test_what_png_cannot_hold(tmp_path, images, fact):
    with pytest.raises(UnsupportedError, match=fact):
        PngSink(tmp_path / "a.png", images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", [10, -1])
def test_levels_are_from_0_to_9(tmp_path, level):
    with pytest.raises(ValueError, match="png_level is"):
        PngSink(tmp_path / "a.png", [spec_of(SMALL)], level=level)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise UnwritableError("the disk is full", path=tmp_path / "a.png", remedy="free some space")

    monkeypatch.setattr(png_sink, "write_chunk", refuse)
    with pytest.raises(UnwritableError, match="the disk is full"):
        PngSink(tmp_path / "a.png", [spec_of(SMALL)])
    assert list(tmp_path.iterdir()) == []
