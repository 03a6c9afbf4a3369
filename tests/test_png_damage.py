"""Damaged and unsupported PNG files: what is wrong is said, and nothing else is ever raised."""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.png import PngSource
from blurfast.io.registry import open_source
from tests.png_files import SIGNATURE, SMALL, chunk, deflated, header, noise, png, read_bytes


def structural_places(data: bytes) -> list[int]:
    places = set(range(len(SIGNATURE) + 1))
    at = len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        places |= {at + i for i in range(10)} | {end - i for i in range(1, 10)} | {at + 8 + length // 2}
        at = end
    return sorted(place for place in places if place < len(data))


@pytest.fixture
def rich_file() -> bytes:
    text = chunk(b"tEXt", b"Title\0noise")
    return png(noise((12, 10, 3)), [4, 1, 3], before=chunk(b"gAMA", struct.pack(">I", 45455)) + text, after=text)


def test_a_file_cut_off_anywhere_is_unreadable(tmp_path, rich_file):
    for length in range(len(rich_file)):
        with pytest.raises(UnreadableError):
            read_bytes(rich_file[:length], tmp_path)


def test_a_bit_flipped_in_any_structure_is_found(tmp_path, rich_file):
    for place in structural_places(rich_file):
        for bit in range(8):
            data = bytearray(rich_file)
            data[place] ^= 1 << bit
            with pytest.raises(UnreadableError):
                read_bytes(bytes(data), tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_mutations_never_raise_anything_else(tmp_path, rich_file, data):
    mutated = bytearray(rich_file)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutated) - 1))
        stop = data.draw(st.integers(start, min(start + 6, len(mutated))))
        mutated[start:stop] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(UnreadableError):
        np.testing.assert_array_equal(read_bytes(bytes(mutated), tmp_path), noise((12, 10, 3)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(stream=st.binary(max_size=400), wrapped=st.booleans())
def test_any_stream_in_sound_chunks(tmp_path, stream, wrapped):
    content = zlib.compress(stream) if wrapped else stream
    file = SIGNATURE + header(noise((12, 10, 3))) + chunk(b"IDAT", content) + chunk(b"IEND")
    try:
        pixels = read_bytes(file, tmp_path)
    except UnreadableError:
        return
    assert wrapped
    assert pixels.shape == (12, 10, 3)


STREAM = deflated(SMALL, [1])
HEAD = SIGNATURE + header(SMALL)
END = chunk(b"IEND")
TOO_MUCH = zlib.compress(zlib.decompress(STREAM) + b"\0")
BAD_FILTER = zlib.compress(zlib.decompress(STREAM)[:26] + b"\x05" + bytes(12))


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "the file is empty"),
        (b"BM" + bytes(60), "is not a PNG file"),
        (SIGNATURE + chunk(b"IDAT", STREAM) + END, "its header is missing"),
        (HEAD + END, "it has no pixels"),
        (HEAD, "the file ends before its pixels begin"),
        (HEAD + chunk(b"IDAT", STREAM), "the file ends after its last row, without an end mark"),
        (HEAD + chunk(b"IDAT", STREAM)[:8], "the file ends within row 1 of 3"),
        (HEAD + chunk(b"IDAT", STREAM[:12])[:-4], "the file ends within row 1 of 3"),
        (HEAD + chunk(b"IDAT") + END, "its pixels end within row 1 of 3"),
        (HEAD + chunk(b"IDAT", STREAM[:30])[:-4], "the file ends after row 1 of 3"),
        (HEAD + chunk(b"IDAT", STREAM[:30]) + END, "its pixels end after row 1 of 3"),
        (HEAD + chunk(b"IDAT", zlib.compress(bytes(26))) + END, "its pixels end after row 2 of 3"),
        (HEAD + chunk(b"IDAT", STREAM[:-1]) + END, "the checksum of its pixels is missing"),
        (HEAD + chunk(b"IDAT", STREAM[:-1] + b"\0") + END, "its compressed data are damaged near row"),
        (HEAD + chunk(b"IDAT", TOO_MUCH) + END, "it holds more than the 3 rows"),
        (HEAD + chunk(b"IDAT", STREAM + b"x") + END, "there are data after the end of the pixels"),
        (HEAD + chunk(b"IDAT", STREAM) + chunk(b"IDAT", b"x") + END, "there are data after the end of the pixels"),
        (HEAD + chunk(b"IDAT", BAD_FILTER) + END, "row 3 of 3 has a filter that does not exist"),
        (HEAD + chunk(b"IDAT", STREAM)[:-1] + b"\0" + END, "the checksum of its IDAT chunk is wrong"),
        (HEAD + chunk(b"IDAT", STREAM) + chunk(b"tIME", bytes(7)) + chunk(b"IDAT") + END, "sequence of chunks"),
        (SIGNATURE + header(SMALL, width=0) + END, "its header declares 0 x 3 pixels"),
        (SIGNATURE + header(SMALL, height=2**31) + END, "its header declares 4 x 2147483648 pixels"),
        (SIGNATURE + header(SMALL, depth=7) + END, "its header declares colour type 2 with 7 bits"),
        (SIGNATURE + header(SMALL, colour=5) + END, "its header declares colour type 5 with 8 bits"),
        (SIGNATURE + header(SMALL, interlacing=2) + END, "methods that do not exist"),
        (SIGNATURE + chunk(b"IHDR", bytes(12)) + END, "wrong size"),
        (
            SIGNATURE + header(SMALL, width=2**31 - 1, height=2**31 - 1, depth=16, colour=6)
            + chunk(b"IDAT", STREAM) + END,
            "bytes cannot hold 2147483647 x 2147483647 pixels",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, data, fact):
    with pytest.raises(UnreadableError) as raised:
        read_bytes(data, tmp_path)
    assert fact in raised.value.fact
    assert str(tmp_path / "crafted.png") in str(raised.value)


def test_bytes_after_the_end_are_ignored(tmp_path, rich_file):
    np.testing.assert_array_equal(read_bytes(rich_file + b"left over", tmp_path), noise((12, 10, 3)))


def test_missing_file_and_directory(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(UnreadableError, match="cannot be opened"):
            PngSource(path)


def test_unknown_critical_chunk_is_not_supported(tmp_path):
    with pytest.raises(UnsupportedError, match="needs the unknown chunk CgBI"):
        read_bytes(png(SMALL, before=chunk(b"CgBI", b"1234")), tmp_path)


CHANGED_AS_TEXT = {
    "CR LF to LF": lambda file: file.replace(b"\r\n", b"\n"),
    "LF to CR LF": lambda file: file.replace(b"\n", b"\r\n"),
    "LF to CR": lambda file: file.replace(b"\n", b"\r"),
    "CR to LF": lambda file: file.replace(b"\r", b"\n"),
    "7 bits": lambda file: bytes(byte & 127 for byte in file),
    "ASCII": lambda file: file.decode("ascii", "replace").encode("ascii", "replace"),
    "UTF-8": lambda file: file.decode("utf-8", "replace").encode(),
    "from Latin-1 to UTF-8": lambda file: file.decode("latin-1").encode(),
}


@pytest.mark.parametrize("name", CHANGED_AS_TEXT)
def test_copies_in_text_mode_are_recognised(tmp_path, rich_file, name):
    (tmp_path / "a.png").write_bytes(CHANGED_AS_TEXT[name](rich_file))
    with pytest.raises(UnreadableError, match="was changed in text mode; copy the original again, in binary mode"):
        open_source(tmp_path / "a.png")


@pytest.mark.parametrize("place", range(len(SIGNATURE)))
def test_other_changes_are_not_taken_for_text_mode(tmp_path, rich_file, place):
    changed = bytearray(rich_file)
    changed[place] ^= 0x40
    (tmp_path / "a.png").write_bytes(changed)
    with pytest.raises(UnreadableError, match="is not an image of a known format"):
        open_source(tmp_path / "a.png")


@pytest.mark.parametrize("size", [1, 5, 7])
def test_too_few_bytes_for_any_image(tmp_path, rich_file, size):
    (tmp_path / "a.png").write_bytes(rich_file[:size])
    with pytest.raises(UnreadableError, match=rf"holds no image in its {size} bytes?; get an intact copy"):
        open_source(tmp_path / "a.png")
