"""What the samples of PNG files stand for, and interlaced files: all kinds against plain definitions."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blurfast.errors import MemoryBudgetError, UnreadableError
from blurfast.files import describe_file, filter_file
from blurfast.filters import Gaussian
from blurfast.io.png import PngSource
from blurfast.io.registry import open_source
from tests.png_files import (
    SMALL,
    chunk,
    chunks_in,
    interlaced_parts,
    noise,
    png,
    png_of_samples,
    read,
    read_bytes,
    read_file,
)

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
PALETTE_NOTICE = "palette colours are written as RGB, in uint8"
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [
    *((GREY, depth) for depth in (1, 2, 4, 8, 16)),
    *((PALETTE, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (RGB, GREY_ALPHA, RGBA) for depth in (8, 16)),
]


def random_samples(shape: tuple[int, int], colour: int, depth: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << depth, (*shape, CHANNELS[colour]))


def random_palette(depth: int) -> np.ndarray:
    return np.random.default_rng(depth).integers(0, 256, (1 << depth, 3), np.uint8)


def with_key(colours: np.ndarray, samples: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    opaque = np.iinfo(colours.dtype).max
    alpha = np.where((samples == key).all(axis=2), 0, opaque).astype(colours.dtype)
    return np.dstack([colours, alpha])


def as_pixels(samples: np.ndarray, depth: int) -> np.ndarray:
    """Return samples of shades and colours as they are, or spread over the range of bytes."""
    if depth == 16:
        return samples.astype(np.uint16)
    return np.rint(samples / ((1 << depth) - 1) * 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ all kinds


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(data=st.data())
def test_every_kind_of_samples(tmp_path, colour, depth, interlaced, data):
    shape = data.draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    samples = random_samples(shape, colour, depth)
    before, expected = b"", as_pixels(samples, depth)
    if colour == PALETTE:
        palette = random_palette(depth)
        before, expected = chunk(b"PLTE", palette.tobytes()), palette[samples[:, :, 0]]
    file = png_of_samples(samples, depth, colour, kinds, interlaced=interlaced, before=before)
    pixels = read_bytes(file, tmp_path, rows=data.draw(st.integers(1, 20)))
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), [kind for kind in KINDS if kind[0] in (GREY, RGB)])
def test_a_colour_may_stand_for_transparency(tmp_path, colour, depth, interlaced):
    samples = random_samples((21, 13), colour, depth)
    samples[3:7, 2:9] = samples[5, 5]
    samples[4, 4, 0] ^= 1  # a neighbour in one channel is opaque
    key = tuple(samples[5, 5].tolist())
    unused_bits = 0 if depth == 16 else 1 << 15  # which readers must mask
    before = chunk(b"tRNS", struct.pack(f">{len(key)}H", *(value | unused_bits for value in key)))
    file = png_of_samples(samples, depth, colour, [4, 1], interlaced=interlaced, before=before)
    expected = with_key(as_pixels(samples, depth), samples, key)
    assert 0 < np.count_nonzero(expected[:, :, -1] == 0) < 21 * 13
    np.testing.assert_array_equal(read_bytes(file, tmp_path), expected)
    source = PngSource(tmp_path / "crafted.png")
    source.close()
    assert source.images[0].alpha == expected.shape[2] - 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_with_opacities(tmp_path, depth):
    palette, samples = random_palette(depth), random_samples((9, 23), PALETTE, depth)
    opacities = np.random.default_rng(1).integers(0, 256, (1 << depth) - 1, np.uint8)  # the last colour is opaque
    before = chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", opacities.tobytes())
    colours = np.column_stack([palette, [*opacities, 255]]).astype(np.uint8)
    file = png_of_samples(samples, depth, PALETTE, [0, 2], before=before)
    np.testing.assert_array_equal(read_bytes(file, tmp_path), colours[samples[:, :, 0]])


def test_indices_without_a_colour_are_black_and_this_is_said(tmp_path):
    samples = random_samples((9, 23), PALETTE, 4)
    palette = random_palette(4)
    before = chunk(b"PLTE", palette[:11].tobytes())
    palette[11:] = 0
    (tmp_path / "a.png").write_bytes(png_of_samples(samples, 4, PALETTE, [0], before=before))
    source = PngSource(tmp_path / "a.png")
    assert source.notices == [PALETTE_NOTICE]
    np.testing.assert_array_equal(read(source), palette[samples[:, :, 0]])
    unknown = "some pixels have a colour that is not in the palette, and are read as black"
    assert source.notices == [PALETTE_NOTICE, unknown]
    source.close()


def test_bits_beyond_the_row_are_no_unknown_colours(tmp_path):
    samples = np.zeros((2, 3, 1), int)
    file = png_of_samples(samples, 2, PALETTE, [0], before=chunk(b"PLTE", bytes(3)))
    padded = png_of_samples(np.array([[[0], [0], [0], [3]]] * 2), 2, PALETTE, [0])
    start = padded.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(file[: file.index(b"IDAT") - 4] + padded[start:])
    source = PngSource(tmp_path / "a.png")
    np.testing.assert_array_equal(read(source), 0)
    assert source.notices == [PALETTE_NOTICE]
    source.close()


@pytest.mark.parametrize(
    ("colour", "before", "fact"),
    [
        (PALETTE, b"", "its palette is missing"),
        (PALETTE, chunk(b"PLTE", b""), "its palette has the wrong size"),
        (PALETTE, chunk(b"PLTE", b"1234"), "its palette has the wrong size"),
        (PALETTE, chunk(b"PLTE", bytes(3 * 257)), "its palette has the wrong size"),
        (PALETTE, chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(3)), "its tRNS chunk has the wrong size"),
        (GREY, chunk(b"tRNS", b"1"), "its tRNS chunk has the wrong size"),
        (RGB, chunk(b"tRNS", bytes(5)), "its tRNS chunk has the wrong size"),
    ],
)
def test_chunks_that_cannot_be(tmp_path, colour, before, fact):
    file = png_of_samples(random_samples((3, 3), colour, 8), 8, colour, [0], before=before)
    with pytest.raises(UnreadableError, match=fact):
        read_bytes(file, tmp_path)


def test_a_palette_and_transparency_beside_alpha_mean_nothing(tmp_path):
    pixels = noise((5, 6, 4))
    before = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(6))
    np.testing.assert_array_equal(read_bytes(png(pixels, before=before), tmp_path), pixels)


def test_how_files_are_stored_is_told(tmp_path):
    def described(*arguments, **options) -> list[object]:
        (tmp_path / "a.png").write_bytes(png_of_samples(*arguments, **options))
        (page,) = describe_file(tmp_path / "a.png")
        return [page["shape"], page["stored"], page["layout"]]

    palette = chunk(b"PLTE", bytes(12))
    samples = np.zeros((3, 5, 1), int)
    assert described(samples, 2, PALETTE, [0], before=palette) == [[3, 5, 3], "2-bit palette indices", "rows"]
    assert described(samples, 4, GREY, [0]) == [[3, 5, 1], "4-bit samples", "rows"]
    assert described(samples, 16, GREY, [0], interlaced=True) == [[3, 5, 1], None, "interlaced"]


# ------------------------------------------------------------------------------------------------ interlaced files


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (4, 4), (5, 3), (700, 900)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_interlaced_files_of_any_size(tmp_path, size, dtype):
    pixels = noise((*size, 3), dtype)
    file = png_of_samples(pixels, 8 * pixels.itemsize, RGB, [0], interlaced=True)
    np.testing.assert_array_equal(read_bytes(file, tmp_path), pixels)
    np.testing.assert_array_equal(imagecodecs.png_decode(file), pixels)


def test_interlaced_files_can_be_read_again(tmp_path):
    pixels = noise((9, 11, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_samples(pixels, 16, RGB, [4], interlaced=True))
    source = PngSource(tmp_path / "a.png")
    for _ in range(2):
        np.testing.assert_array_equal(read(source), pixels)
    source.close()


def test_interlaced_files_that_are_damaged(tmp_path):
    pixels = noise((9, 11, 3), np.uint16)
    file = png_of_samples(pixels, 16, RGB, [4, 1, 3], interlaced=True)
    for length in range(len(file)):
        with pytest.raises(UnreadableError):
            read_bytes(file[:length], tmp_path)
    parts = interlaced_parts(pixels)
    rows = bytearray(zlib.decompress(dict(chunks_in(file))[b"IDAT"]))
    rows[sum(map(stored_bytes, parts[:3])) + 2 * stored_bytes(parts[3][:1])] = 5
    bad = file[: file.index(b"IDAT") - 4] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")
    with pytest.raises(UnreadableError, match="row 3 of 3 in part 4 of 7 has a filter that does not exist"):
        read_bytes(bad, tmp_path)


def stored_bytes(part: np.ndarray) -> int:
    return len(part) + part.nbytes


def test_interlaced_files_need_room_for_all_pixels(tmp_path):
    pixels = np.zeros((3000, 3000, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_samples(pixels, 16, RGB, [0], interlaced=True))
    with pytest.raises(MemoryBudgetError, match="use --max-memory") as raised:
        filter_file(tmp_path / "a.png", tmp_path / "b.png", Gaussian(1), max_memory="60MB")
    least = int(raised.value.remedy.split()[2].removesuffix("MB"))
    assert least > pixels.nbytes // 1_000_000
    filter_file(tmp_path / "a.png", tmp_path / "b.png", Gaussian(1), max_memory=f"{least}MB")
    assert not read_file(tmp_path / "b.png").any()


# ------------------------------------------------------------------------------------------------ animations


@pytest.fixture
def animated(tmp_path) -> Path:
    frames = [Image.fromarray(noise((12, 10, 3), seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    return tmp_path / "a.png"


def test_the_first_frame_of_an_animation_is_filtered(tmp_path, animated):
    report = filter_file(animated, tmp_path / "out.png", Gaussian(0))
    assert report.notices == ("the animation is not kept, only its still image",)
    np.testing.assert_array_equal(read_file(tmp_path / "out.png"), noise((12, 10, 3)))
    with Image.open(tmp_path / "out.png") as image:
        assert getattr(image, "n_frames", 1) == 1


def test_frames_are_not_kept_in_memory_but_checked(tmp_path, animated, monkeypatch):
    monkeypatch.setattr("blurfast.io.png_chunks.LARGEST_KEPT", 100)
    source = open_source(animated)
    np.testing.assert_array_equal(read(source), noise((12, 10, 3)))
    source.close()
    data = bytearray(animated.read_bytes())
    data[data.index(b"fdAT") + 20] ^= 1
    with pytest.raises(UnreadableError, match="the checksum of its fdAT chunk is wrong"):
        read_bytes(bytes(data), tmp_path)


# --------------------------------------------------------------------------------------------------- notices


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    ("colour", "depth", "before", "notice"),
    [
        (PALETTE, 2, chunk(b"PLTE", bytes(12)), PALETTE_NOTICE),
        (
            PALETTE,
            8,
            chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", b"7"),
            "palette colours are written as RGBA, in uint8",
        ),
        (GREY, 4, b"", "4-bit samples are written as uint8, spread from 0 to 255"),
        (GREY, 1, b"", "1-bit samples are written as uint8, as 0 and 255"),
    ],
)
def test_what_samples_become_is_said_once(tmp_path, colour, depth, before, notice, suffix):
    samples = random_samples((60, 40), colour, depth)
    (tmp_path / "a.png").write_bytes(png_of_samples(samples, depth, colour, [0], before=before))
    assert filter_file(tmp_path / "a.png", tmp_path / f"out{suffix}", Gaussian(1)).notices == (notice,)


def test_plain_files_have_no_notices(tmp_path):
    (tmp_path / "a.png").write_bytes(png(SMALL))
    source = PngSource(tmp_path / "a.png")
    source.close()
    assert source.notices == []
