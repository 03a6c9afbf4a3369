"""Outputs of another type than the input: every pair of types and every scaling against the oracle."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import blurfast
from blurfast.conversion import conversion_of
from blurfast.cpu.conversion import Losses, Mapping, convert
from blurfast.editing import LossCounter
from blurfast.errors import UnsupportedError
from blurfast.files import filter_file, plan_file
from blurfast.filters import Convolution, Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.edits import DTYPES, Edits, parse_dtype, parse_scale
from tests import naive, tolerances
from tests.batches import lines_of
from tests.cli_runs import assert_refused, command, run, write_tiff
from tests.pictures import noise

SIGMA = 1.5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def converted(source: Path, filter: object = None, **options: object) -> np.ndarray:
    """Return the pixels of the filtered file."""
    target = source.with_name("out.tif")
    filter_file(source, target, filter or Gaussian(SIGMA), overwrite=True, **options)
    return tifffile.imread(target)


def largest(dtype: np.dtype) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def scaled(exact: np.ndarray, before: np.dtype, after: np.dtype, scale: str | tuple[float, float]) -> np.ndarray:
    """Return what the documentation says of scaling, in float64."""
    if scale == "none":
        return exact
    if scale == "full":
        return exact * (largest(after) / largest(before))
    low, high = scale
    smallest = 0.0 if after.kind == "f" else float(np.iinfo(after).min)
    return (exact - low) / (high - low) * (largest(after) - smallest) + smallest


def pixels_of(dtype: str) -> np.ndarray:
    """Return noise over all of an integer type, or a little more than the range of an image in floats."""
    pixels = noise((37, 41), dtype)
    return (pixels / 150).astype(dtype) if np.dtype(dtype).kind == "f" else pixels


@pytest.mark.parametrize(("before", "after"), [*itertools.product(DTYPES, DTYPES)])
def test_every_pair_of_types(before: str, after: str, source: Path) -> None:
    pixels, target = pixels_of(before), np.dtype(after)
    tifffile.imwrite(source, pixels)
    exact = naive.gaussian(pixels, SIGMA)
    middle = tuple(float(value) for value in np.quantile(exact, (0.2, 0.7)))
    for scale in ("none", "full", middle):
        result = converted(source, dtype=after, scale=scale)
        assert result.dtype == target
        expected = scaled(exact, pixels.dtype, target, scale)
        if target.kind == "f":
            finite = np.abs(expected) < np.finfo(target).max  # float16 is soon infinite
            np.testing.assert_array_equal(np.isfinite(result), finite)
            tolerances.assert_near(result[finite], expected[finite], np.ptp(expected))
        else:
            # The error that the filter may make is a share of the input's range, which the scale may stretch.
            wrong = tolerances.count_wrong(result, naive.as_pixels(expected, target))
            assert wrong <= 10 * tolerances.SHARE_OF_ROUNDED_OTHERWISE * pixels.size


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    sigma=st.tuples(st.just(0) | st.floats(0.3, 4), st.just(0) | st.floats(0.3, 4)),
    mode=st.sampled_from(["reflect", "wrap", "constant"]),
    dtype=st.sampled_from(["uint8", "int16"]),
)
def test_floats_are_not_rounded_before(shape, sigma, mode, dtype, tmp_path_factory) -> None:
    source = tmp_path_factory.mktemp("unrounded") / "in.tif"
    pixels = noise(shape, dtype, seed=shape[0])
    tifffile.imwrite(source, pixels)
    result = converted(source, Gaussian(sigma), dtype="float32", mode=mode, cval=30)
    exact = naive.gaussian(pixels, sigma, mode=mode, cval=30)
    tolerances.assert_near(result.reshape(shape), exact, tolerances.spread(pixels, mode, 30))


@pytest.mark.parametrize("method", ["separable", "multirate", "direct", "fft"])
def test_every_method(method: str, source: Path) -> None:
    pixels, kernel = noise((70, 50), "uint8"), np.random.default_rng(3).random((9, 8))
    tifffile.imwrite(source, pixels)
    if method in ("direct", "fft"):
        filter, exact = (
            Convolution(kernel, normalize=True),
            naive.convolve_kernel(pixels, kernel / kernel.sum(), "reflect"),
        )
    else:
        sigma = 8 if method == "multirate" else SIGMA
        filter, exact = Gaussian(sigma), naive.gaussian(pixels, sigma)
    tolerances.assert_near(converted(source, filter, method=method, dtype="float32"), exact, 255)
    result = converted(source, filter, method=method, dtype="uint16", scale="full")
    assert tolerances.count_wrong(result, naive.as_pixels(exact * 257, "uint16")) <= 0.01 * pixels.size


def test_derivatives_keep_their_sign(source: Path) -> None:
    pixels = noise((40, 50), "uint8")
    tifffile.imwrite(source, pixels)
    exact = naive.gaussian(pixels, 1, order=(0, 1))
    result = converted(source, Gaussian(1, order=(0, 1)), dtype="int16")
    assert tolerances.count_wrong(result, naive.as_pixels(exact, "int16")) <= 2
    result = converted(source, Gaussian(1, order=(0, 1)), dtype="uint8", scale=(-200, 200))
    assert tolerances.count_wrong(result, naive.as_pixels((exact + 200) / 400 * 255, "uint8")) <= 2


# ------------------------------------------------------------------------------------------- what the output is like


def test_nothing_changes_where_nothing_is_asked_for(source: Path) -> None:
    tifffile.imwrite(source, noise((60, 50), "uint16"), compression="deflate")
    filter_file(source, source.with_name("plain.tif"), Gaussian(2))
    for options in ({"dtype": "uint16"}, {"scale": "full"}, {"dtype": np.uint16, "scale": "none"}):
        filter_file(source, source.with_name("out.tif"), Gaussian(2), overwrite=True, **options)
        assert source.with_name("out.tif").read_bytes() == source.with_name("plain.tif").read_bytes()
        assert plan_file(source, Gaussian(2), **options)[0].conversion is None
    assert plan_file(source, Gaussian(2), scale="0,1000")[0].conversion is not None


def test_scaling_within_a_type(source: Path) -> None:
    pixels = noise((60, 50), "uint8")
    tifffile.imwrite(source, pixels)
    expected = naive.as_pixels((naive.gaussian(pixels, SIGMA) - 100) / 50 * 255, "uint8")
    assert tolerances.count_wrong(converted(source, scale="100,150"), expected) <= 10


def test_planes_and_pages(source: Path) -> None:
    planes, page = noise((3, 40, 50), "uint16"), noise((30, 20), "float32")
    with tifffile.TiffWriter(source) as writer:
        writer.write(planes, planarconfig="separate", photometric="rgb")
        writer.write(page)
    filter_file(source, source.with_name("out.tif"), Gaussian(SIGMA), dtype="float64")
    with tifffile.TiffFile(source.with_name("out.tif")) as tiff:
        first, second = (page.asarray() for page in tiff.pages)
    assert (first.shape, first.dtype, second.dtype) == (planes.shape, np.float64, np.float64)
    for result, before in zip((*first, second), (*planes, page), strict=True):
        tolerances.assert_near(result, naive.gaussian(before, SIGMA), np.ptp(before.astype(float)))


def weighted(pixels: np.ndarray) -> np.ndarray:
    """Return the filtered colours, weighted by the opacity, and the filtered opacity."""
    opacity = naive.gaussian(pixels[..., 3], SIGMA)
    colours = [
        naive.gaussian(pixels[..., channel].astype(float) * pixels[..., 3], SIGMA) / opacity for channel in range(3)
    ]
    return np.dstack([*colours, opacity])


def test_opacity_in_a_plane_of_its_own_is_scaled_alike(source: Path) -> None:
    planes = noise((4, 40, 50), "uint16")
    tifffile.imwrite(source, planes, photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"])
    exact = np.stack([naive.gaussian(plane, SIGMA) for plane in planes])
    result = converted(source, dtype="uint8", scale=(20000, 40000))
    assert tolerances.count_wrong(result[:3], _rounded((exact[:3] - 20000) / 20000 * 255)) <= 20
    assert tolerances.count_wrong(result[3], _rounded(exact[3] / 257)) <= 20


def test_opacity_is_scaled_from_full_range_to_full_range(source: Path) -> None:
    pixels = noise((40, 50, 4), "uint16")
    tifffile.imwrite(source, pixels, photometric="rgb", extrasamples=["unassalpha"])
    exact = weighted(pixels)
    colours, opacity = (exact[..., :3] - 20000) / 20000 * 255, exact[..., 3] / 257
    result = converted(source, dtype="uint8", scale=(20000, 40000))
    assert tolerances.count_wrong(result[..., :3], _rounded(colours)) <= 20
    assert tolerances.count_wrong(result[..., 3], _rounded(opacity)) <= 20
    tolerances.assert_near(converted(source, dtype="float32"), exact, 65535)


def _rounded(exact: np.ndarray) -> np.ndarray:
    return naive.as_pixels(exact.reshape(len(exact), -1), "uint8").reshape(exact.shape)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_floats_for_formats_of_integers(suffix: str, source: Path) -> None:
    pixels = (noise((40, 50), "float32") + 100) / 255
    tifffile.imwrite(source, pixels.astype("float32"))
    target = source.with_name(f"out{suffix}")
    with pytest.raises(UnsupportedError, match="float32"):
        filter_file(source, target, Gaussian(SIGMA))
    filter_file(source, target, Gaussian(SIGMA), dtype="uint8", scale="full")
    expected = naive.as_pixels(naive.gaussian(pixels, SIGMA) * 255, "uint8")
    with Image.open(target) as image:
        result = np.asarray(image)
    if suffix == ".jpg":
        assert np.abs(result.astype(int) - expected).mean() < 2
    else:
        assert tolerances.count_wrong(result, expected) <= 2


def test_what_the_codec_cannot_hold(source: Path) -> None:
    tifffile.imwrite(source, noise((64, 64, 3), "uint8"), photometric="rgb", compression="jpeg")
    report = filter_file(source, source.with_name("out.tif"), Gaussian(SIGMA), dtype="float32")
    assert report.notices == ("jpeg cannot hold the result: deflate compression is used",)
    with tifffile.TiffFile(source.with_name("out.tif")) as tiff:
        assert (tiff.pages.first.dtype, tiff.pages.first.predictor) == (np.float32, 3)


def test_windows_do_not_show(source: Path) -> None:
    pixels = noise((20000, 700), "uint8")
    tifffile.imwrite(source, pixels, tile=(64, 64))
    (plan,) = plan_file(source, Gaussian(2), dtype="uint16", scale="full")
    assert len(list(plan.windows())) > 1
    assert plan.bands.parts["filtered"] == plan.bands.rows * plan.bands.columns * 8
    assert "float64: taken, float32 is too coarse to be rounded to uint16" in plan.explain()
    whole = converted(source, Gaussian(2), dtype="uint16", scale="full")
    for region in ((0, 0, 700, 300), (33, 4001, 601, 777)):
        part = converted(source, Gaussian(2), dtype="uint16", scale="full", region=region)
        column, row, width, height = region
        np.testing.assert_array_equal(part, whole[row : row + height, column : column + width])


# --------------------------------------------------------------------------------------------------- what gets lost


def test_clipped_samples_are_counted(source: Path) -> None:
    pixels = np.zeros((300, 200), "float32")
    pixels[:, :50], pixels[:3, 60:65] = 255.4, 255.6  # the first rounds to 255
    pixels[10:14, 70:73], pixels[20, 80], pixels[21, 81:83] = -0.6, np.inf, np.nan
    tifffile.imwrite(source, pixels)
    report = filter_file(source, source.with_name("out.tif"), Gaussian(0), dtype="uint8")
    assert report.notices == (
        "28 samples lay outside the range of uint8 and were clipped",
        "2 samples were not a number and became 0",
    )
    result = tifffile.imread(source.with_name("out.tif"))
    assert (result == np.nan_to_num(np.clip(np.rint(pixels), 0, 255))).all()
    quiet = filter_file(source, source.with_name("out.tif"), Gaussian(0), dtype="float64", overwrite=True)
    assert quiet.notices == ()


def test_floats_that_become_infinite_are_counted(source: Path) -> None:
    pixels = np.array([[65504.0, 65519.9, 65520.0, -1e5, np.inf, np.nan, 65519.99]])
    tifffile.imwrite(source, pixels)
    report = filter_file(source, source.with_name("out.tif"), Gaussian(0), dtype="float16")
    assert report.notices == ("2 samples lay outside the range of float16 and became infinite",)
    expected = np.array([[65504.0, 65504, np.inf, -np.inf, np.inf, np.nan, 65504]], "float16")
    np.testing.assert_array_equal(tifffile.imread(source.with_name("out.tif")), expected)


@pytest.mark.parametrize(
    ("dtype", "filter", "output", "notices"),
    [
        ("uint8", Gaussian(1, order=(0, 1)), {}, ["since uint8 has none; --dtype float32 keeps"]),
        ("uint16", Gaussian((1, 2), order=(2, 0)), {}, ["since uint16 has none; --dtype float32 keeps"]),
        ("uint32", Convolution("laplacian"), {}, ["since uint32 has none; --dtype float64 keeps"]),
        ("uint8", Convolution([[-1, 0, 0.5]]), {"region": "3,2,20,10"}, ["since uint8 has none"]),
        ("uint8", Gaussian(1, order=1), {"scale": (-100, 100)}, []),
        ("uint8", Gaussian(1, order=1), {"dtype": "float32"}, []),
        ("int16", Gaussian(1, order=1), {}, []),
        ("float32", Gaussian(1, order=1), {}, []),
        ("uint8", Gaussian(1), {}, []),
        ("uint8", Convolution("sharpen"), {}, []),
        ("uint8", Convolution([[0.0]]), {}, []),
    ],
)
def test_signs_that_get_lost_are_told(dtype, filter, output, notices, source: Path) -> None:
    tifffile.imwrite(source, noise((2, 30, 40), dtype), photometric="minisblack")
    report = filter_file(source, source.with_name("out.tif"), filter, **output)
    assert len(report.notices) == len(notices)
    for notice, part in zip(report.notices, notices, strict=True):
        assert notice.startswith(f"negative results became 0, {part}")


@given(
    samples=st.lists(st.floats(-300, 300, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.5, 254.5, 255.5])),
    filtered=st.sampled_from(["float32", "float64"]),
    target=st.sampled_from(DTYPES),
    channel=st.none() | st.integers(0, 2),
)
def test_conversion(samples, filtered, target, channel) -> None:
    if target in ("int32", "uint32", "float64"):
        filtered = "float64"  # no other is asked for
    pixels = np.array([*samples, *[7.25] * (-len(samples) % 3)], filtered).reshape(1, -1, 3)
    result = np.full(pixels.shape, 77, target)
    losses = convert(pixels, result, Mapping(10.0, 2.0, 1.0), channel)
    chosen = slice(None) if channel is None else slice(channel, channel + 1)
    exact = (pixels[..., chosen].astype(float) - 10) * 2 + 1
    if np.dtype(target).kind == "f":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(result[..., chosen], exact.astype(filtered).astype(target))
        assert losses == Losses(0, 0)
    else:
        rounded, limits = np.rint(exact), np.iinfo(target)
        expected = np.clip(np.nan_to_num(rounded), limits.min, limits.max)
        np.testing.assert_array_equal(result[..., chosen].astype(float), expected)
        outside = (rounded < limits.min) | (rounded > limits.max)
        assert losses == Losses(int(outside.sum()), int(np.isnan(exact).sum()))
    untouched = np.delete(result, np.arange(3)[chosen], axis=-1)
    assert (untouched == np.full_like(untouched, 77)).all()


@pytest.mark.parametrize(
    ("description", "names"),
    [
        ({"min": 0, "max": 100}, ["display ranges"]),
        ({"Ranges": (0.0, 100.0)}, ["display ranges"]),
        ({"min": 0, "max": 100, "Ranges": (0.0, 100.0)}, ["display ranges"]),
        ({"max": 100, "cf": 0, "c0": -32768, "Ranges": (0.0, 100.0)}, ["display ranges", "calibration"]),
        ({"cf": 0, "vunit": "mm"}, ["calibration"]),
        ({"spacing": 2}, []),
    ],
)
def test_what_imagej_says_of_values_is_dropped_with_one_notice(
    description: dict, names: list[str], source: Path
) -> None:
    tifffile.imwrite(source, noise((3, 20, 30), "uint16"), imagej=True, metadata={"axes": "ZYX", **description})
    report = filter_file(source, source.with_name("out.tif"), Gaussian(1), dtype="float32", scale="full")
    assert [re.fullmatch(r"ImageJ's (.*) (?:is|are) not kept, .*", notice)[1] for notice in report.notices] == names
    with tifffile.TiffFile(source.with_name("out.tif")) as tiff:
        assert not {"min", "max", "cf", "c0", "vunit", "Ranges"} & tiff.imagej_metadata.keys()


def test_losses_of_several_types() -> None:
    counter = LossCounter()
    image = ImageSpec(1, 1, 1, np.dtype("float32"), Grain(1, 1))
    for dtype in ("uint8", "int16", "uint8"):
        conversion = conversion_of(image, Edits(dtype=np.dtype(dtype)))
        counter.add(conversion, Losses(1000, 0))
    assert counter.notices == [
        "2,000 samples lay outside the range of uint8 and were clipped",
        "1,000 samples lay outside the range of int16 and were clipped",
    ]


# ------------------------------------------------------------------------------------------- arguments, command line


@pytest.mark.parametrize("dtype", ["uint7", "bool", "int64", "complex64", "U3", 17, object])
def test_no_type_of_samples(dtype: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"dtype is {dtype!r}; it must be one of uint8, int8")):
        parse_dtype(dtype)


def test_types_of_samples() -> None:
    assert parse_dtype(">u2") == parse_dtype(np.uint16) == parse_dtype("uint16") == np.dtype("uint16")
    assert parse_dtype(float) == np.float64


@pytest.mark.parametrize("scale", ["half", "1", "1,2,3", "1,b", "nan,1", "0,inf", "5,5", "2,1", 3, (1, "x"), ()])
def test_no_scale(scale: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"scale is {scale!r}; ")):
        parse_scale(scale)


def test_scales() -> None:
    assert [parse_scale(scale) for scale in ("none", "full", "-1,1e3", (np.float32(0.5), 2))] == [
        "none", "full", (-1.0, 1000.0), (0.5, 2.0),
    ]  # fmt: skip
    assert not Edits.parse(dtype="uint8").is_rescaled
    assert Edits.parse(scale="0,1").is_rescaled


def test_command(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif", (80, 90), "uint16"), tmp_path / "out.png"
    arguments = ("--sigma", "2", "--dtype", "uint8", "--scale", "-0,100")
    done = run("gaussian", source, target, *arguments, "--manifest", tmp_path / "log")
    assert done.status == 0, done.stderr
    assert re.search(r"note: .*in\.tif: [0-9,]+ samples lay outside the range of uint8 and were clipped", done.stderr)
    exact = naive.gaussian(tifffile.imread(source), 2) * 2.55
    with Image.open(target) as image:
        result = np.asarray(image)
    assert tolerances.count_wrong(result, naive.as_pixels(exact, "uint8")) <= 10
    (line,) = lines_of(tmp_path / "log")
    assert (line["parameters"]["dtype"], line["parameters"]["scale"]) == ("uint8", "-0,100")
    piped = subprocess.run(
        command("gaussian", "-", "-", *arguments, "--format", "png"),
        input=source.read_bytes(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert piped.stdout == target.read_bytes()
    explained = run("gaussian", source, *arguments, "--explain")
    assert "output     uint8, from unrounded float32 results" in explained.stdout
    (plan,) = json.loads(run("gaussian", source, *arguments, "--explain", "--json").stdout)["plans"]
    assert (plan["dtype"], plan["output_dtype"]) == ("uint16", "uint8")
    assert plan["memory"]["filtered"] > 0


def test_batch(tmp_path: Path) -> None:
    sources = [write_tiff(tmp_path / f"{number}.tif", (40, 50 + number), "uint16") for number in range(4)]
    done = run("gaussian", *sources, "--out-dir", tmp_path / "out", "--sigma", "1", "--jobs", "2", "--dtype", "float32")
    assert done.status == 0, done.stderr
    for source in sources:
        result = tifffile.imread(tmp_path / "out" / source.name)
        tolerances.assert_near(result, naive.gaussian(tifffile.imread(source), 1), 200)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("--dtype", "uint7"), "'--dtype': 'uint7' is not one of 'uint8', 'int8'"),
        (("--scale", "5"), "'--scale': '5'; it must be none, full, or two numbers such as 0,4095"),
        (("--scale", "5,1"), "'--scale': '5,1'; the first number must be less than the second one"),
    ],
)
def test_command_errors(arguments: tuple[str, ...], fact: str, image: Path, tmp_path: Path) -> None:
    done = run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", *arguments)
    assert_refused(done, 2, fact)
    assert not (tmp_path / "out.tif").exists()


def test_png_does_not_hold_floats(image: Path, tmp_path: Path) -> None:
    done = run("gaussian", image, tmp_path / "out.png", "--sigma", "1", "--dtype", "float32")
    assert_refused(done, 4, "PNG holds uint8 and uint16, not float32")


def test_unknown_keywords(image: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'dtypes'"):
        blurfast.filter_file(image, tmp_path / "out.tif", Gaussian(1), dtypes="uint8")
