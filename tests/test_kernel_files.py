"""Kernels from files: all formats there and back, and files that are damaged, hostile or something else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from blurfast.errors import BlurfastError, UnreadableError, UnsupportedError
from blurfast.kernel_files import load_kernel, read_kernel
from blurfast.kernel_shapes import SHAPES, parse_shape

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MATRICES = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE)
MATRIX = np.array([[0.5, -1.0, 2.0], [3.25, 1e-300, 7.0]])
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12

same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def npy_header(description: str) -> bytes:
    header = description.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def png(width: int, height: int, data: bytes = b"") -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


# ------------------------------------------------------------------------------------------------------- NumPy arrays


@same_directory
@given(matrix=MATRICES)
def test_npy_there_and_back(tmp_path, matrix):
    path = tmp_path / "k.npy"
    np.save(path, matrix)
    np.testing.assert_array_equal(read_kernel(path), matrix)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">i4", "u8", "f2", ">f4", "<f8", ">f8", "g"])
def test_npy_of_all_dtypes(tmp_path, dtype, order):
    matrix = np.array([[0, 1, 1], [1, 0, 1]], dtype=dtype, order=order)
    np.save(tmp_path / "k.npy", matrix)
    kernel = read_kernel(tmp_path / "k.npy")
    assert kernel.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert type(kernel) is np.ndarray
    assert kernel.dtype == np.float64
    assert kernel.flags.c_contiguous
    assert kernel.flags.writeable


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2), (0, 3), (3, 0)])
def test_npy_of_other_shapes(tmp_path, shape):
    np.save(tmp_path / "k.npy", np.ones(shape))
    with pytest.raises(UnreadableError, match="not a matrix's"):
        read_kernel(tmp_path / "k.npy")


@pytest.mark.parametrize("dtype", ["c16", "U3", "S3", "M8[s]", "m8[s]", "V4", [("a", "f8")]])
def test_npy_of_other_dtypes(tmp_path, dtype):
    np.save(tmp_path / "k.npy", np.zeros((2, 2), dtype=dtype))
    with pytest.raises(UnsupportedError, match="its numbers are"):
        read_kernel(tmp_path / "k.npy")


def test_npy_of_objects_is_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "k.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="not a NumPy array of numbers"):
        read_kernel(tmp_path / "k.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\x07\x00\x10\x00",
        b"\x80\x04K\x01.",  # a pickle
        b"PK\x03\x04 a zip file",
        b"1,2\n3,4\n",
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3)}") + bytes(71),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3), "),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -3)}") + bytes(72),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3.0, 3)}") + bytes(72),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (4000, 4000)}") + bytes(80),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 2)}"),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 2)}"),
        npy_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (3, 3)}") + bytes(72),
        npy_header("(" * 5000),
        npy_header("[" * 150 + "]" * 150),
        npy_header("__import__('os').abort()"),
        npy_header("\0"),
    ],
)
def test_npy_that_is_damaged(tmp_path, content):
    path = write(tmp_path / "k.npy", content)
    with pytest.raises(UnreadableError, match="damaged") as refusal:
        read_kernel(path)
    assert refusal.value.path == str(path)
    assert refusal.value.remedy


@same_directory
@given(data=st.data())
def test_npy_with_flipped_bytes_is_read_or_refused(tmp_path, data):
    path = tmp_path / "k.npy"
    np.save(path, MATRIX)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    read_or_refused(path)


def read_or_refused(path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernel = read_kernel(path)
    except (UnreadableError, UnsupportedError) as error:
        refusal = error
    else:
        assert kernel.ndim == 2
        assert np.isfinite(kernel).all()
        return
    assert refusal.path == str(path)
    assert refusal.remedy


def test_npy_of_numbers_beyond_float64(tmp_path):
    np.save(tmp_path / "k.npy", np.array([[1, np.finfo(np.longdouble).max]], dtype=np.longdouble))
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        with pytest.raises(UnreadableError, match="row 1, column 2 is inf"):
            read_kernel(tmp_path / "k.npy")


# --------------------------------------------------------------------------------------------------------------- text


@same_directory
@given(
    matrix=MATRICES,
    separator=st.sampled_from([",", ";", "\t", " ", ", ", "   "]),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    suffix=st.sampled_from([".csv", ".txt", ".tsv", ".CSV"]),
)
def test_text_there_and_back(tmp_path, matrix, separator, end, suffix):
    text = end.join(separator.join(map(repr, row)) for row in matrix.tolist())
    np.testing.assert_array_equal(read_kernel(write(tmp_path / f"k{suffix}", text)), matrix)


def test_text_of_savetxt(tmp_path):
    np.savetxt(tmp_path / "k.txt", MATRIX, header="a kernel")
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.txt"), MATRIX)


@pytest.mark.parametrize(
    "text",
    [
        "# title\n\n1 2 # first\n   # nothing\n3 4",
        "\ufeff1,2\n3,4\n",
        "  1 2  \n3\t 4\n\n",
        "1;2\r\n3 ; 4\r\n",
        "+1,2e0\n.3e1,4.",
    ],
)
def test_text_with_comments_and_blanks(tmp_path, text):
    assert read_kernel(write(tmp_path / "k.csv", text)).tolist() == [[1, 2], [3, 4]]


def test_text_of_a_single_number(tmp_path):
    assert read_kernel(write(tmp_path / "k.txt", "3")).tolist() == [[3]]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1 2\n\n# three:\n3\n", "line 4 has 1 numbers where the lines before it have 2"),
        ("1 2\n1 2 3\n", "line 2 has 3 numbers"),
        ("1,2\n3,x\n", "line 2 holds 'x'"),
        ("1,,2\n", "line 1 holds ''"),
        ("1,2,\n", "line 1 holds ''"),
        ("[[1, 2]]\n", "line 1 holds '[[1'"),
        ("0,5;0,25\n", "line 1 has both commas and semicolons"),
        ("0x10 2\n", "line 1 holds '0x10'"),
        ("1 2\n3 nan\n", "row 2, column 2 is nan"),
        ("1 inf\n", "row 1, column 2 is inf"),
        ("1 1e999\n", "row 1, column 2 is inf"),
        ("# nothing but this\n\n", "holds no numbers"),
        ("   \n", "holds no numbers"),
        ("1 2\n3 4\0\n", "line 2 holds"),
        ("a" * 1000, "line 1 holds '" + "a" * 40 + "',"),
    ],
)
def test_text_that_is_no_matrix(tmp_path, text, fact):
    path = write(tmp_path / "k.txt", text)
    with pytest.raises(UnreadableError) as refusal:
        read_kernel(path)
    assert fact in refusal.value.fact
    assert refusal.value.path == str(path)
    assert refusal.value.remedy


@pytest.mark.parametrize("content", [b"\xff\xfe1\0 \0002\0", b"1 2\n\x80\n", b"\x89PNG\r\n\x1a\n" + bytes(range(256))])
def test_text_that_is_no_text(tmp_path, content):
    with pytest.raises(UnreadableError, match="not text in UTF-8"):
        read_kernel(write(tmp_path / "k.csv", content))


@same_directory
@given(content=st.binary(min_size=1, max_size=60) | st.text("0123456789.,;\t\n -+e#nainf", min_size=1).map(str.encode))
def test_any_text_is_read_or_refused(tmp_path, content):
    read_or_refused(write(tmp_path / "k.txt", content))


# ------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_grey_images_there_and_back(tmp_path, suffix, dtype):
    pixels = GREY.astype(dtype) * (257 if dtype == "uint16" else 1)
    Image.fromarray(pixels).save(tmp_path / f"k{suffix}")
    kernel = read_kernel(tmp_path / f"k{suffix}")
    np.testing.assert_array_equal(kernel, pixels)
    assert kernel.dtype == np.float64


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"compression": "lzw"}])
def test_tiff_of_other_dtypes(tmp_path, dtype, options):
    pixels = (GREY.astype(np.float64) - 100).clip(0 if dtype[0] == "u" else -100).astype(dtype)
    if dtype == "float16":
        options = {}
    tifffile.imwrite(tmp_path / "k.tif", pixels, **options)
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.tif"), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_equal_channels_count_as_grey(tmp_path, suffix):
    Image.fromarray(np.repeat(GREY[..., np.newaxis], 3, axis=2)).save(tmp_path / f"k{suffix}")
    np.testing.assert_array_equal(read_kernel(tmp_path / f"k{suffix}"), GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("channels", "fact"), [(3, "has colours"), (4, "has 4 channels"), (2, "has 2 channels")]
)  # fmt: skip
def test_colours_and_opacity_are_refused(tmp_path, suffix, channels, fact):
    pixels = np.stack([np.roll(GREY, channel) for channel in range(channels)], axis=2)
    Image.fromarray(pixels).save(tmp_path / f"k{suffix}")
    with pytest.raises(UnsupportedError, match=fact):
        read_kernel(tmp_path / f"k{suffix}")


def test_bits_and_palettes_are_read_as_blurfast_reads_them(tmp_path):
    bits = GREY > 100
    Image.fromarray(bits).save(tmp_path / "k.png")
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.png"), 255.0 * bits)
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_kernel(tmp_path / "p.png"), GREY)


def test_stacks_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "k.tif", np.stack([GREY, GREY]), photometric="minisblack")
    with pytest.raises(UnsupportedError, match="holds 2 images"):
        read_kernel(tmp_path / "k.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(tmp_path, value):
    tifffile.imwrite(tmp_path / "k.tif", np.array([[1, 2], [value, 3]], dtype=np.float32))
    with pytest.raises(UnreadableError, match="row 2, column 1 is"):
        read_kernel(tmp_path / "k.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("content", [b"x", b"not an image", b"\x89PNG\r\n\x1a\n", b"II*\0", b"II*\0\x08\0\0\0\x01\0"])
def test_images_that_are_none(tmp_path, content, suffix):
    with pytest.raises(UnreadableError):
        read_kernel(write(tmp_path / f"k{suffix}", content))


@pytest.mark.parametrize("content", [png(5, 5), png(5, 5, b"nonsense"), png(5, 5, zlib.compress(bytes(7)))])
def test_png_that_is_damaged(tmp_path, content):
    with pytest.raises(UnreadableError, match="damaged"):
        read_kernel(write(tmp_path / "k.png", content))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@same_directory
@given(data=st.data())
def test_images_with_flipped_bytes_are_read_or_refused(tmp_path, suffix, data):
    path = tmp_path / f"k{suffix}"
    if suffix == ".png":
        Image.fromarray(GREY).save(path)
    else:
        tifffile.imwrite(path, GREY, compression="zlib")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    read_or_refused(path)


# ----------------------------------------------------------------------------------------------------- sizes and names


def test_sizes_up_to_the_largest(tmp_path):
    row = np.arange(4001, dtype=np.uint16)[np.newaxis]
    np.save(tmp_path / "k.npy", row.T)
    np.savetxt(tmp_path / "k.csv", row, fmt="%.17g", delimiter=",")
    Image.fromarray(row).save(tmp_path / "k.png")
    tifffile.imwrite(tmp_path / "k.tif", row)
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.npy"), row.T)
    for suffix in ["csv", "png", "tif"]:
        np.testing.assert_array_equal(read_kernel(tmp_path / f"k.{suffix}"), row)


@pytest.mark.parametrize("shape", [(1, 4002), (4002, 1)])
@pytest.mark.parametrize("suffix", ["npy", "csv", "png", "tif"])
def test_sizes_beyond_the_largest(tmp_path, suffix, shape):
    path = tmp_path / f"k.{suffix}"
    matrix = np.ones(shape, dtype=np.uint8)
    match suffix:
        case "npy":
            np.save(path, matrix)
        case "csv":
            np.savetxt(path, matrix, fmt="%d")
        case "png":
            Image.fromarray(matrix).save(path)
        case "tif":
            tifffile.imwrite(path, matrix)
    with pytest.raises(UnsupportedError, match="more than 4001 rows or columns"):
        read_kernel(path)


@pytest.mark.parametrize("side", [5000, 12_000, 60_000])
def test_large_images_are_refused_by_their_headers(tmp_path, side):
    # There are no pixels in the file, which nothing but decoding it would find out.
    long_enough = png(side, side, zlib.compress(b"")) + bytes(side * side // 1000)
    with pytest.raises(UnsupportedError, match="more than 4001"):
        read_kernel(write(tmp_path / "k.png", long_enough))


def test_large_npy_is_refused_by_its_header(tmp_path):
    path = tmp_path / "k.npy"
    header = npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000)}")
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + 10**10)  # takes no room on the disk
    with pytest.raises(UnsupportedError, match="more than 4001"):
        read_kernel(path)


def test_endless_line_is_not_read_to_its_end(tmp_path):
    with open(tmp_path / "k.txt", "wb") as file:
        file.truncate(10**10)
    with pytest.raises(UnsupportedError, match="line 1 is longer than 4001 numbers"):
        read_kernel(tmp_path / "k.txt")


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt", ".tsv", ".png", ".tif", ".tiff"])
def test_files_that_cannot_be_read(tmp_path, suffix):
    path = tmp_path / f"k{suffix}"
    with pytest.raises(UnreadableError, match="cannot be read") as refusal:
        read_kernel(path)
    assert refusal.value.path == str(path)
    path.touch()
    with pytest.raises(UnreadableError, match="empty"):
        read_kernel(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_kernel(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "k.csv")
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_kernel(tmp_path / "k.csv")


@pytest.mark.parametrize(("name", "fact"), [("k.mat", "the suffix '.mat'"), ("kernel", "without a suffix")])
def test_other_suffixes(tmp_path, name, fact):
    path = write(tmp_path / name, "1 2")
    with pytest.raises(UnsupportedError, match=fact) as refusal:
        read_kernel(path)
    assert ".npy" in str(refusal.value)


def test_load_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "disk.csv", "1 2")
    np.testing.assert_array_equal(load_kernel("disk:3"), parse_shape("disk:3"))
    assert load_kernel("disk.csv").tolist() == [[1, 2]]
    assert load_kernel(Path("disk.csv")).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="kernel is 'disk:x'"):
        load_kernel("disk:x")
    with pytest.raises(UnreadableError, match="cannot be read"):
        load_kernel(Path("disk:3"))


@pytest.mark.parametrize("text", ["dsik:3", "missing.csv", "a\0b", "x" * 5000, ""])
def test_load_neither_name_nor_path(text):
    with pytest.raises(UnreadableError, match="neither a file nor a kernel") as refusal:
        load_kernel(text)
    assert refusal.value.remedy is not None
    assert all(name in refusal.value.remedy for name in SHAPES)
    assert ("did you mean 'disk'" in refusal.value.remedy) == (text == "dsik:3")


def test_errors_have_exit_statuses():
    assert issubclass(UnreadableError, BlurfastError)
    with pytest.raises(UnreadableError) as refusal:
        load_kernel("missing.csv")
    assert refusal.value.exit_status == 3


def test_import_brings_no_readers_of_images():
    check = "import sys, blurfast.kernel_files; print(*{'PIL', 'tifffile', 'numba', 'llvmlite'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert found.strip() == ""
