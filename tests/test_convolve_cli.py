"""Convolutions of files: `blurfast convolve`, kernels by name and from files, streams, plans, colours, errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

import blurfast
from blurfast import Convolution, UnsupportedError, convolve, correlate
from blurfast.io.array import describe
from blurfast.kernel_shapes import SHAPES
from blurfast.planning import plan_array
from tests import naive
from tests.cli_runs import assert_refused, noise, run, run_process, single_line, write_tiff

METHODS = ["direct", "separable"]
MATRIX = np.array([[1.0, 2.0, 0.0], [0.0, 4.0, 1.0]])


def result_of(image: Path, *arguments: str | os.PathLike[str], suffix: str = ".tif") -> np.ndarray:
    """Run `blurfast convolve`, and return the pixels that it wrote."""
    output = image.with_name(f"out{suffix}")
    done = run("convolve", image, output, "--overwrite", *arguments)
    assert (done.status, done.stdout) == (0, ""), done.stderr
    return tifffile.imread(output) if suffix == ".tif" else imagecodecs.png_decode(output.read_bytes())


def write_kernel(path: Path, kernel: np.ndarray = MATRIX) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, kernel)
        case ".csv":
            np.savetxt(path, kernel, delimiter=",")
        case ".txt":
            np.savetxt(path, kernel)
        case ".png":
            path.write_bytes(imagecodecs.png_encode(kernel.astype("uint8")))
        case ".tif":
            tifffile.imwrite(path, kernel.astype("float32"), photometric="minisblack")
    return path


# ---- kernels and options


@pytest.mark.parametrize(
    "name",
    [*("box:3", "box:2x5", "disk:2.5", "emboss", "gaussian:2", "gaussian:0,1.5", "identity", "laplacian", "motion:9"),
     *("motion:9,30deg", "motion:9,-30", "sharpen", "sharpen:0.5", "sobel-x", "sobel-y")],
)  # fmt: skip
def test_names_give_what_the_function_gives(image: Path, name: str) -> None:
    assert name.partition(":")[0] in SHAPES
    expected = convolve(tifffile.imread(image), name, method="direct")
    np.testing.assert_array_equal(result_of(image, "--kernel", name, "--method", "direct"), expected)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt", ".png", ".tif"])
def test_kernels_from_files(image: Path, tmp_path: Path, suffix: str) -> None:
    path = write_kernel(tmp_path / f"kernel{suffix}")
    pixels = tifffile.imread(image)
    np.testing.assert_array_equal(result_of(image, "--kernel", path), convolve(pixels, MATRIX))
    np.testing.assert_array_equal(convolve(pixels, path), convolve(pixels, MATRIX))
    np.testing.assert_array_equal(convolve(pixels, str(path)), convolve(pixels, MATRIX))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--normalize"], {"normalize": True}),
        (["--normalize", "--origin", "-1,1"], {"normalize": True, "origin": (-1, 1)}),
        (["--origin=0,-1"], {"origin": (0, -1)}),
        (["--origin", "-1"], {"origin": -1}),
        (["--exact"], {"exact": True}),
        (["--mode", "constant", "--cval", "-7", "--normalize"], {"mode": "constant", "cval": -7, "normalize": True}),
        (["--mode", "wrap", "--method", "direct", "--threads", "1"], {"mode": "wrap"}),
        (["--method", "separable", "--backend", "cpu"], {"method": "separable"}),
    ],
)
def test_options_are_passed_on(image: Path, tmp_path: Path, arguments: list[str], options: dict[str, object]) -> None:
    kernel, pixels = write_kernel(tmp_path / "kernel.npy"), tifffile.imread(image)
    np.testing.assert_array_equal(result_of(image, "--kernel", kernel, *arguments), convolve(pixels, MATRIX, **options))
    correlated = result_of(image, "--kernel", kernel, "--correlate", *arguments)
    np.testing.assert_array_equal(correlated, correlate(pixels, MATRIX, **options))
    assert (correlated != convolve(pixels, MATRIX, **options)).any()


def test_a_file_may_be_called_like_a_shape(tmp_path: Path) -> None:
    write_tiff(tmp_path / "in.tif")
    write_kernel(tmp_path / "box.npy").rename(tmp_path / "box")
    done = run_process("convolve", "in.tif", "out.tif", "--kernel", "./box", directory=tmp_path)
    assert (done.status, "suffix" in single_line(done.stderr)) == (4, True)
    done = run_process("convolve", "in.tif", "out.tif", "--kernel", "box", directory=tmp_path)
    assert (done.status, "box:HEIGHT" in single_line(done.stderr)) == (2, True)


def test_several_inputs_go_to_the_directory(tmp_path: Path) -> None:
    images = [write_tiff(tmp_path / f"{name}.tif", (20, 30 + index)) for index, name in enumerate("abc")]
    (tmp_path / "bad.tif").write_bytes(b"no image")
    kernel = write_kernel(tmp_path / "kernel.csv")
    for inputs, status in ((images, 0), ([*images, tmp_path / "bad.tif"], 1)):
        done = run(
            "convolve",
            *inputs,
            "--out-dir",
            tmp_path / "new",
            "--kernel",
            kernel,
            "--normalize",
            "--json",
            "--overwrite",
        )
        assert done.status == status
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record["status"] for record in records] == ["ok", "ok", "ok", "failed"][: len(inputs)]
        assert f"{len(inputs)} files: 3 done" in done.stderr
        for path in images:
            expected = convolve(tifffile.imread(path), MATRIX, normalize=True)
            np.testing.assert_array_equal(tifffile.imread(tmp_path / "new" / path.name), expected)


# ---- explain


@pytest.mark.parametrize("method", ["direct", "separable"])
def test_explain_names_every_candidate(image: Path, method: str) -> None:
    before = os.listdir(image.parent)
    done = run("convolve", image, "--kernel", "box:15", "--explain", "--method", method)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image}\n")
    lines = [line for line in done.stdout.splitlines() if re.match(r"  method +\w+: ", line)]
    assert [line.split()[1] for line in lines if ": taken, asked for" in line] == [f"{method}:"]
    assert {line.split()[1] for line in lines} >= {"direct:", "separable:", "multirate:"}
    assert all(re.search(r"taken, \w.{10}", line) for line in lines)
    assert os.listdir(image.parent) == before


def test_explain_as_json(image: Path) -> None:
    arguments = ("--kernel", "motion:9,30deg", "--explain", "--json", "--method", "direct")
    record = json.loads(single_line(run("convolve", image, *arguments).stdout))
    (plan,) = record["plans"]
    assert (record["source"], record["status"]) == (str(image), "ok")
    assert (plan["filter"], plan["method"], plan["shape"]) == ("convolve", "direct", [40, 60, 1])
    assert plan["halo"] == [2, 4]
    (separable,) = [choice for choice in plan["choices"] if choice["candidate"] == "separable"]
    assert (separable["taken"], "not a sum of three products" in separable["reason"]) == (False, True)


@pytest.mark.parametrize(
    ("kernel", "method"),
    [(np.outer(np.arange(1.0, 32), np.arange(3.0, 34)), "separable"), ("box:101", "separable"),
     ("gaussian:9", "separable"), ("disk:1", "direct"), (np.eye(4), "direct")],
)  # fmt: skip
def test_the_cheapest_method_is_chosen_and_explained(kernel: np.ndarray | str, method: str) -> None:
    image = np.zeros((2000, 3000, 1), "float32")
    for asked in ("auto", "direct", method):
        plan = plan_array(Convolution(kernel), describe(image), image.dtype, 1, method=asked)
        assert plan.method == (method if asked == "auto" else asked)
        choices = json.loads(json.dumps(plan.as_dict()))["choices"]
        methods = [choice for choice in choices if choice["subject"] == "method"]
        assert {"separable", "multirate", "direct"} <= {choice["candidate"] for choice in methods}
        assert [choice["candidate"] for choice in methods if choice["taken"]] == [plan.method]
        for choice in methods:
            verb = "taken" if choice["taken"] else "not taken"
            assert choice["reason"]
            assert f"{choice['candidate']}: {verb}, {choice['reason']}" in plan.explain()


# ---- streams


@pytest.mark.parametrize(
    ("kernel", "method", "mode"),
    [("disk:4.5", "direct", "reflect"), ("box:41x6", "separable", "wrap"), ("laplacian", "separable", "mirror")],
)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_streams_in_little_memory_equal_arrays(
    tmp_path: Path, suffix: str, kernel: str, method: str, mode: str
) -> None:
    pixels = np.tile(noise((500, 300, 3)), (12, 4, 1))
    pixels[::7, ::5] = 0
    path = tmp_path / f"in{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=16)
    else:
        path.write_bytes(imagecodecs.png_encode(pixels, level=1))
    arguments = ("--kernel", kernel, "--method", method, "--mode", mode, "--threads", "1")
    refused = run("convolve", path, tmp_path / f"none{suffix}", *arguments, "--max-memory", "1MB")
    assert (refused.status, (tmp_path / f"none{suffix}").exists()) == (5, False)
    least = int(re.search(r"use --max-memory (\d+)MB or more", single_line(refused.stderr))[1])
    arguments = (*arguments, "--max-memory", f"{least + 8}MB")
    (plan,) = json.loads(run("convolve", path, *arguments, "--explain", "--json").stdout)["plans"]
    assert plan["band"][0] < 3000
    result = result_of(path, *arguments, suffix=suffix)
    np.testing.assert_array_equal(result, convolve(pixels, kernel, method=method, mode=mode, channel_axis=-1))


def test_tiles_of_a_tiff_equal_arrays(tmp_path: Path) -> None:
    pixels = noise((300, 500), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", pixels, tile=(32, 48), photometric="minisblack")
    for kernel, method in (("disk:6", "direct"), ("emboss", "separable"), ("gaussian:3", "separable")):
        result = result_of(tmp_path / "in.tif", "--kernel", kernel, "--method", method)
        np.testing.assert_array_equal(result, convolve(pixels, kernel, method=method))


# ---- colours


def filter_png(directory: Path, pixels: np.ndarray, kernel: object, **options: object) -> tuple[np.ndarray, list[str]]:
    """Return the filtered pixels, and what was chosen about opacity."""
    source, target = directory / "in.png", directory / "out.png"
    source.write_bytes(imagecodecs.png_encode(pixels))
    report = blurfast.filter_file(source, target, Convolution(kernel), overwrite=True, **options)
    chosen = [choice.candidate for choice in report.plans[0].choices if choice.subject == "alpha"]
    return imagecodecs.png_decode(target.read_bytes()), chosen


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kernel", ["box:4x3", "disk:2.5", [[0.1, 0.2], [0.3, 0.4]], [[0, 0, 1]]])
def test_averages_weight_colours_by_opacity(tmp_path: Path, kernel: object, dtype: str, channels: int) -> None:
    largest = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, largest, (70, 150, channels), endpoint=True).astype(dtype)
    pixels[10:30, 20:60, -1] = 0
    weights = Convolution(kernel, correlate=True).weights
    exact, opacity = pixels.astype(float), pixels[..., -1].astype(float)
    sums = naive.convolve_kernel(opacity, weights, "reflect")
    for channel in range(channels - 1):
        product = naive.convolve_kernel(exact[..., channel] * opacity, weights, "reflect")
        exact[..., channel] = product / np.maximum(sums, 1e-12)
    exact[..., -1] = sums
    visible = sums > largest / 100
    for method in METHODS[: 1 if np.linalg.matrix_rank(weights) > 1 else 2]:
        result, chosen = filter_png(tmp_path, pixels, kernel, method=method)
        assert chosen == []
        assert np.abs(result - np.rint(exact))[visible].max() <= 1
        assert np.abs(result - np.rint(exact))[..., -1].max() <= 1


def test_sums_of_products_cannot_weight_colours(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="separable method cannot serve: colours are weighted by opacity"):
        filter_png(tmp_path, noise((9, 9, 4)), [[0.1, 0.2], [0.3, 0.4]], method="separable")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kernel", ["emboss", "sobel-x", "laplacian", "box:3"])
def test_other_kernels_filter_all_channels_alike(tmp_path: Path, kernel: str, method: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    options = {"alpha": "independent"} if kernel == "box:3" else {}
    result, chosen = filter_png(tmp_path, pixels, kernel, method=method, **options)
    np.testing.assert_array_equal(result, convolve(pixels, kernel, channel_axis=-1, method=method))
    assert chosen == ([] if kernel == "box:3" else ["independent"])


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "Missing option '--kernel'"),
        (["--kernel"], "'--kernel' requires an argument"),
        (["--kernel", "disk"], "Invalid value for '--kernel': 'disk'; it must be disk:RADIUS"),
        (["--kernel", "disk:x"], "Invalid value for '--kernel': 'disk:x'; it must be disk:RADIUS"),
        (["--kernel", "disk:0"], "from 0.5 to 2000"),
        (["--kernel", "box:2.5"], "HEIGHT a whole number"),
        (["--kernel", "box:3x3x3"], "Invalid value for '--kernel'"),
        (["--kernel", "emboss:1"], "Invalid value for '--kernel': 'emboss:1'; it must be emboss"),
        (["--kernel", "motion:9,up"], "Invalid value for '--kernel'"),
        (["--kernel", "box:3", "--origin", "2"], "Invalid value for '--origin': 2; it must lie inside the kernel"),
        (["--kernel", "box:3", "--origin", "0,-2"], "from -1,-1 to 1,1"),
        (["--kernel", "box:3", "--origin", "0.5"], "Invalid value for '--origin': '0.5' is not one integer"),
        (["--kernel", "box:3", "--origin", "1,1,1"], "more than two numbers"),
        (["--kernel", "laplacian", "--normalize"], "sum to zero"),
        (["--kernel", "box:3", "--normalize=2"], "'--normalize' does not take a value"),
        (["--kernel", "box:3", "--method", "magic"], "Invalid value for '--method'"),
        (["--kernel", "box:3", "--sigma", "2"], "No such option '--sigma'"),
    ],
)
def test_wrong_usage_names_the_option(image: Path, tmp_path: Path, arguments: list[str], fact: str) -> None:
    done = run("convolve", image, tmp_path / "out.tif", *arguments)
    assert_refused(done, 2, fact)
    assert os.listdir(tmp_path) == ["in.tif"]


@pytest.mark.parametrize(
    ("name", "content", "status", "fact"),
    [
        ("missing.npy", None, 3, "neither a file nor a kernel of this name"),
        ("dsik:7", None, 3, "did you mean 'disk'"),
        ("kernel.npy", b"no array", 3, "not a NumPy array"),
        ("kernel.npy", b"", 3, "empty"),
        ("kernel.csv", b"1,2\n3,x\n", 3, "line 2"),
        ("kernel.csv", b"1,2\n3\n", 3, "kernel.csv"),
        ("kernel.csv", b"1,nan\n", 3, "row 1, column 2 is nan"),
        ("kernel.png", b"\x89PNG\r\n\x1a\n", 3, "kernel.png"),
        ("kernel.jpg", b"...", 4, "'.jpg'"),
        ("kernel", b"1,2", 4, "without a suffix"),
    ],
)
def test_kernels_that_cannot_be_read(
    image: Path, tmp_path: Path, name: str, content: bytes | None, status: int, fact: str
) -> None:
    kernel = tmp_path / "kernels" / name
    kernel.parent.mkdir()
    if content is not None:
        kernel.write_bytes(content)
    done = run("convolve", image, tmp_path / "out.tif", "--kernel", name if ":" in name else kernel)
    assert_refused(done, status, fact)
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--kernel", "disk:5", "--method", "separable"], "the separable method cannot serve"),
        (["--kernel", "box:5", "--method", "multirate"], "the multirate method cannot serve: it is for Gaussians only"),
        (["--kernel", "disk:5", "--exact"], "exact needs an integer image, integer weights"),
        (["--kernel", "laplacian", "--exact", "--method", "separable"], "exact"),
        (["--kernel", "box:5", "--backend", "cuda"], "NVIDIA driver"),
    ],
)
def test_what_cannot_be_had_is_refused(image: Path, tmp_path: Path, arguments: list[str], fact: str) -> None:
    for more in ([], ["--explain"]):
        done = run("convolve", image, tmp_path / "out.tif", *arguments, *more)
        assert_refused(done, 4, fact)
        assert str(image) in single_line(done.stderr)
        assert os.listdir(tmp_path) == ["in.tif"]


# ---- help and imports


def test_help_lists_names_and_options() -> None:
    done = run("convolve", "--help")
    text = " ".join(done.stdout.split())
    for name in SHAPES:
        assert re.search(rf" {name}[:\[ ]", text), name
    options = {line.split()[0].rstrip(",") for line in done.stdout.splitlines() if line.startswith("  --")}
    assert options >= {"--kernel", "--origin", "--correlate", "--normalize", "--exact", "--mode", "--cval", "--alpha"}
    assert "[required]" in text
    assert "`" not in text
    assert max(map(len, done.stdout.splitlines())) <= 80


_IMPORTS = """
import sys
from blurfast_cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""

_COMPILERS = {"numba", "llvmlite", "scipy", "tqdm", "multiprocessing"}
_CODECS = {"tifffile", "imagecodecs", "PIL", "isal"}


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["convolve", "--help"], _CODECS | _COMPILERS),
        (["convolve", "in.tif", "out.tif", "--kernel", "box:3", "--origin", "x"], _CODECS | _COMPILERS),
        (["convolve", "in.tif", "out.tif", "--kernel", "disk"], _CODECS | _COMPILERS),
        (["convolve", "in.tif", "--kernel", "box:3", "--explain"], _COMPILERS),
        (["convolve", "in.tif", "--kernel", "disk:3", "--explain"], _COMPILERS),
        (["convolve", "in.tif", "out.tif", "--kernel", "disk:3"], {"numba", "scipy", "tqdm"}),
    ],
)
def test_commands_import_no_more_than_they_need(
    image: Path, tmp_path: Path, arguments: list[str], unwanted: set[str]
) -> None:
    result_of(image, "--kernel", "disk:3")
    (tmp_path / "out.tif").unlink()
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(done.stderr.splitlines()[-1].split())
