"""The command line where all goes well: commands, options, output, help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

import blurfast
from blurfast.cpu.catalogue import Kernel, all_kernels
from blurfast.dtypes import SUPPORTED, sum_dtype
from blurfast.io import png
from blurfast.kernel_shapes import SHAPES
from blurfast_cli import main as program
from blurfast_cli.batch import Job
from blurfast_cli.plans import group_equal
from blurfast_cli.progress import ProgressBar
from tests.cli_runs import command, noise, run, run_process, single_line, write_tiff


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_tiff(tmp_path / "in.tif")


def blurred(path: Path, sigma: object, **options: object) -> np.ndarray:
    return blurfast.gaussian(tifffile.imread(path), sigma, **options)


# ---- gaussian


@pytest.mark.parametrize(
    ("arguments", "sigma", "options"),
    [
        (["--sigma", "2"], 2, {}),
        (["--sigma", "5,0.5"], (5, 0.5), {}),
        (["--sigma", "2", "--mode", "wrap"], 2, {"mode": "wrap"}),
        (["--sigma", "2", "--mode", "constant", "--cval", "-7"], 2, {"mode": "constant", "cval": -7}),
        (["--sigma", "2", "--truncate", "1.5"], 2, {"truncate": 1.5}),
        (["--sigma", "2", "--tolerance", "0.01"], 2, {"tolerance": 0.01}),
        (["--sigma", "2,3", "--method", "separable", "--backend", "cpu", "--threads", "1"], (2, 3), {}),
    ],
)
def test_gaussian_gives_what_the_function_gives(
    image: Path, tmp_path: Path, arguments: list[str], sigma: object, options: dict[str, object]
) -> None:
    assert run("gaussian", image, tmp_path / "out.tif", *arguments).status == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), blurred(image, sigma, **options))


def test_order_takes_derivatives(tmp_path: Path) -> None:
    image = write_tiff(tmp_path / "in.tif", dtype="float32")
    assert run("gaussian", image, tmp_path / "out.tif", "--sigma", "2", "--order", "1,0").status == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), blurred(image, 2, order=(1, 0)))


def test_alpha_is_passed_on(tmp_path: Path) -> None:
    pixels = noise((30, 40, 4))
    Image.fromarray(pixels).save(tmp_path / "in.png")
    for rule in ("weighted", "independent"):
        assert (
            run("gaussian", tmp_path / "in.png", tmp_path / f"{rule}.png", "--sigma", "3", "--alpha", rule).status == 0
        )
    independent = np.asarray(Image.open(tmp_path / "independent.png"))
    np.testing.assert_array_equal(independent, blurfast.gaussian(pixels, 3, channel_axis=-1))


def test_compression_is_passed_on(image: Path, tmp_path: Path) -> None:
    assert run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", "--compression", "zstd:3").status == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.ZSTD


def test_suffix_names_the_format(image: Path, tmp_path: Path) -> None:
    assert run("gaussian", image, tmp_path / "out.png", "--sigma", "1").status == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), blurred(image, 1))


@pytest.mark.parametrize(
    ("name", "options", "is_big"),
    [
        ("out.ome.tf2", (), True),
        ("out.TF8", (), True),
        ("out.btf", ("--bigtiff", "auto"), True),
        ("out.btf", ("--bigtiff", "no"), False),
        ("out.svs", (), False),
    ],
)
def test_suffix_tells_whether_the_output_is_a_bigtiff(
    image: Path, tmp_path: Path, name: str, options: tuple[str, ...], *, is_big: bool
) -> None:
    assert run("gaussian", image, tmp_path / name, "--sigma", "2", *options).status == 0
    with tifffile.TiffFile(tmp_path / name) as tiff:
        assert tiff.is_bigtiff == is_big


def test_success_prints_a_summary_and_nothing_on_stdout(image: Path, tmp_path: Path) -> None:
    done = run("gaussian", image, tmp_path / "out.tif", "--sigma", "1")
    assert done.stdout == ""
    assert single_line(done.stderr).startswith(f"{image} -> {tmp_path / 'out.tif'}: 2,400 pixels in ")


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 1), "1 pixel"), ((3, 20, 30), "1,800 pixels"), ((333, 300), "99,900 pixels"), ((500, 500), "0.2 MP")],
)
def test_sizes_are_told_as_people_tell_them(tmp_path: Path, shape: tuple[int, ...], size: str) -> None:
    image = write_tiff(tmp_path / "in.tif", shape)
    line = single_line(run("gaussian", image, tmp_path / "out.tif", "--sigma", "0").stderr)
    assert line.startswith(f"{image} -> {tmp_path / 'out.tif'}: {size} in ")
    assert ("MP/s" in line) == ("MP in" in line)


def test_quiet_prints_nothing(image: Path, tmp_path: Path) -> None:
    assert run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", "--quiet") == (0, "", "")


def test_notices_name_the_file(tmp_path: Path) -> None:
    Image.fromarray(noise((20, 30))).save(tmp_path / "in.jpg")
    done = run("gaussian", tmp_path / "in.jpg", tmp_path / "out.jpg", "--sigma", "1", "--json")
    notices = json.loads(single_line(done.stdout))["notices"]
    assert [line for line in done.stderr.splitlines() if line.startswith("note: ")] == [
        f"note: {tmp_path / 'in.jpg'}: {notice}" for notice in notices
    ]


def test_input_may_be_the_output_with_overwrite(image: Path) -> None:
    expected = blurred(image, 2)
    assert run("gaussian", image, image, "--sigma", "2", "--overwrite").status == 0
    np.testing.assert_array_equal(tifffile.imread(image), expected)
    assert os.listdir(image.parent) == ["in.tif"]


def test_several_inputs_go_to_the_directory(tmp_path: Path) -> None:
    images = [write_tiff(tmp_path / f"{name}.tif", (20, 30 + index)) for index, name in enumerate("abc")]
    done = run("gaussian", *images, "--out-dir", tmp_path / "new" / "blurred", "--sigma", "2")
    assert done.status == 0
    assert done.stderr.splitlines()[-1].startswith("3 files: 3 done, in ")
    for path in images:
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "new" / "blurred" / path.name), blurred(path, 2))


def test_directory_of_the_inputs_needs_overwrite(image: Path) -> None:
    before, expected = image.read_bytes(), blurred(image, 2)
    assert run("gaussian", image, "--out-dir", image.parent, "--sigma", "2").status == 2
    assert image.read_bytes() == before
    assert run("gaussian", image, "--out-dir", image.parent, "--sigma", "2", "--overwrite").status == 0
    np.testing.assert_array_equal(tifffile.imread(image), expected)


def test_json_is_one_object_per_file_and_line(tmp_path: Path) -> None:
    images = [write_tiff(tmp_path / f"{name}.tif") for name in "ab"]
    done = run_process("gaussian", *images, "--out-dir", tmp_path / "out", "--sigma", "2", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["source"], record["status"], record["pixels"]) for record in records] == [
        (str(path), "ok", 2400) for path in images
    ]
    assert records[0]["target"] == str(tmp_path / "out" / "a.tif")


# ---- explain


def test_explain_prints_the_plan_and_writes_nothing(image: Path) -> None:
    done = run("gaussian", image, "--sigma", "5", "--explain")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image}\n")
    assert "halo" in done.stdout
    assert "taken" in done.stdout
    assert os.listdir(image.parent) == ["in.tif"]


def test_explain_ignores_outputs(image: Path, tmp_path: Path) -> None:
    with_out = run("gaussian", image, tmp_path / "out.tif", "--sigma", "5", "--explain", "--threads", "1")
    with_directory = run("gaussian", image, "--out-dir", tmp_path / "new", "--sigma", "5", "--explain")
    assert (with_out.status, with_directory.status) == (0, 0)
    assert os.listdir(image.parent) == ["in.tif"]


def test_explain_as_json(image: Path) -> None:
    record = json.loads(single_line(run("gaussian", image, "--sigma", "5,0", "--explain", "--json").stdout))
    (plan,) = record["plans"]
    assert (record["source"], record["status"]) == (str(image), "ok")
    assert plan["shape"] == [40, 60, 1]
    assert plan["halo"][0] > 15
    assert plan["halo"][1] == 0


def test_explain_tells_equal_pages_together(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "pages.tif", (3, 40, 60))
    text = run("gaussian", path, "--sigma", "1", "--explain", "--threads", "1", "--max-memory", "8GB").stdout
    assert text.count("images 0-2") == 1
    assert text.count("image      40 x 60 pixels") == 1


# ---- info


def test_info_tells_layout_metadata_and_needs(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise((300, 200), "uint16"),
        tile=(64, 128),
        compression="deflate",
        byteorder=">",
        bigtiff=True,
        resolution=(300, 150),
        resolutionunit="INCH",
        description="two\nlines\x1b[31m",
        metadata=None,
    )
    done = run("info", tmp_path / "in.tif", "--sigma", "7,3", "--max-memory", "8GB")
    assert (done.status, done.stderr) == (0, "")
    for fact in (
        *("300 x 200 pixels, 1 channel, uint16", "tiles of 64 x 128", "compression deflate", "big-endian", "BigTIFF"),
        *("300 x 150 pixels per inch", "two lines [31m", "gaussian 7,3", "MB of memory"),
    ):
        assert fact in done.stdout
    assert "\x1b" not in done.stdout


def test_info_as_json(tmp_path: Path) -> None:
    Image.fromarray(noise((30, 20, 3))).save(tmp_path / "in.png", icc_profile=b"profile", dpi=(100, 100))
    write_tiff(tmp_path / "pages.tif", (3, 40, 60))
    done = run("info", tmp_path / "in.png", tmp_path / "pages.tif", "--json")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["pages"][0]["shape"] == [30, 20, 3]
    assert first["metadata"]["icc_profile_bytes"] == len(b"profile")
    assert first["metadata"]["resolution"] == pytest.approx([3937, 3937], abs=1)
    assert [page["shape"] for page in second["pages"]] == [[40, 60, 1]] * 3
    assert second["gaussian"]["sigma"] == [5, 5]
    assert second["gaussian"]["windows"] == 3
    assert second["gaussian"]["predicted_peak"] > 1e7


def test_info_answers_what_memory_would_do(image: Path) -> None:
    done = run("info", image, "--max-memory", "1MB")
    assert done.status == 0
    assert "use --max-memory " in done.stdout


# ---- warmup, completion, version, help

_WARMUP = """
import sys
from blurfast.cpu import catalogue
from blurfast.io.png import KERNELS
catalogue.all_kernels = lambda: list(KERNELS)
from blurfast_cli.main import main
sys.exit(main(["warmup"]))
"""


def test_warmup_compiles_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "BLURFAST_CACHE_DIR": str(tmp_path)}
    for compiled in (2, 0):
        done = subprocess.run(
            [sys.executable, "-c", _WARMUP], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        assert single_line(done.stderr).startswith(f"2 kernels ready in {tmp_path}, {compiled} of them compiled")


def test_catalogue_holds_every_kernel_that_a_pair_of_types_needs() -> None:
    kernels = all_kernels()
    assert len(set(kernels)) == len(kernels)
    assert set(png.KERNELS) <= set(kernels)
    for pixel in map(np.dtype, SUPPORTED):
        for target in map(np.dtype, SUPPORTED):
            sums = sum_dtype(pixel, target).name
            assert Kernel("separable", "vertical", pixel.name, sums) in kernels
            assert Kernel("separable", "horizontal", target.name, sums) in kernels


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    done = run("completion", shell)
    assert done.status == 0
    assert "_BLURFAST_COMPLETE" in done.stdout


def test_completion_knows_the_values_of_options() -> None:
    words = {"_BLURFAST_COMPLETE": "bash_complete", "COMP_WORDS": "blurfast gaussian --mode ", "COMP_CWORD": "3"}
    assert "plain,mirror" in run_process(**words).stdout


@pytest.mark.parametrize("module", ["blurfast", "blurfast_cli"])
def test_modules_run_as_the_program(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"blurfast {blurfast.__version__}\n"


@pytest.mark.parametrize("arguments", [[], *([name] for name in program.COMMANDS)])
def test_help_fits_into_80_columns(arguments: list[str]) -> None:
    for option in ("-h", "--help"):
        done = run(*arguments, option)
        assert done.status == 0
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_groups_options_and_shows_examples() -> None:
    lines = run("gaussian", "--help").stdout.splitlines()
    headings = ["Filter options:", "Output:", "TIFF and PNG outputs:", "Several files:"]
    headings += ["Resources:", "Messages:", "Examples:"]
    assert [line for line in lines if line in headings] == headings
    options = {line.split()[0] for line in lines if line.startswith("  --")}
    assert options == {
        *("--sigma", "--order", "--truncate", "--tolerance", "--mode", "--cval", "--alpha", "--page"),
        *("--out-dir", "--overwrite", "--compression", "--format", "--backend", "--method", "--fft-planning"),
        *("--region", "--dtype", "--scale"),
        *("--predictor", "--tile", "--bigtiff", "--pyramid", "--cog", "--png-level"),
        *("--jobs", "--skip-existing", "--keep-going", "--manifest"),
        *("--device", "--device-memory"),
        *("--threads", "--max-memory"),
        *("--explain", "--json", "--quiet", "--debug"),
    }
    assert not any("`" in line for line in lines)


@pytest.mark.parametrize("name", program.COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    command = program.blurfast.get_command(click.Context(program.blurfast), name)
    assert command is not None
    unexplained = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert unexplained == []


def test_help_of_convolve_lists_the_named_kernels() -> None:
    lines = run("convolve", "--help").stdout.splitlines()
    listed = lines[lines.index("Kernels by name:") :]
    for shape in SHAPES.values():
        assert any(line.split()[:1] == [shape.spelling] for line in listed)


def test_help_spells_values_as_they_are_given() -> None:
    text = run("gaussian", "--help").stdout
    assert "--device N|all " in text
    assert "2e-6 for floats" in " ".join(text.split())  # the default that the class tells in terms of Python
    assert "--dtype float32" in text  # or the derivative in the examples would lose half of its values


@pytest.mark.parametrize("name", program.COMMANDS)
def test_list_of_commands_says_what_the_commands_say(name: str) -> None:
    result = CliRunner().invoke(program.blurfast, [name, "--help"], prog_name="blurfast")
    assert result.exit_code == 0
    assert result.output.splitlines()[2].strip() == program.COMMANDS[name].summary


_IMPORTS = """
import sys
from blurfast_cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""

_CODECS = {"tifffile", "imagecodecs", "PIL", "isal"}
_COMPILERS = {"numba", "llvmlite", "scipy", "tqdm", "multiprocessing"}


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"numpy"} | _CODECS | _COMPILERS),
        (["--version"], {"numpy"} | _CODECS | _COMPILERS),
        (["gaussian", "--help"], _CODECS | _COMPILERS),
        (["gaussian", "in.tif", "out.tif", "--sigma", "x"], _CODECS | _COMPILERS),
        (["gaussian", "in.tif", "--sigma", "5", "--explain"], _COMPILERS),
        (["info", "in.tif"], _COMPILERS),
        (["gaussian", "in.tif", "out.tif", "--sigma", "1"], {"numba", "scipy", "tqdm"}),
    ],
)
def test_commands_import_no_more_than_they_need(
    image: Path, tmp_path: Path, arguments: list[str], unwanted: set[str]
) -> None:
    run("gaussian", image, tmp_path / "compiled.tif", "--sigma", "1")
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(done.stderr.splitlines()[-1].split())


# ---- progress


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_progress_bar_is_shown_on_terminals(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    write_tiff(tmp_path / "in.tif", (600, 700))
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    arguments = ("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "9", "--json")
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=stderr, text=True)
    os.close(stderr)
    stdout, _ = process.communicate(timeout=120)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert process.returncode == 0
    assert json.loads(stdout)["status"] == "ok"
    assert "in.tif: " in shown
    assert "MP/s" in shown
    assert shown.endswith("\r\n")


def test_bar_that_nobody_sees_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("work", "MP", scale=1e6, visible=False) as bar:
        bar(1, 2)
    assert capsys.readouterr() == ("", "")


def test_bar_counts_in_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("work", "MP", scale=1e6, visible=True) as bar:
        bar(1_000_000, 4_000_000)
        bar(4_000_000, 4_000_000)
    assert "4 MP" in capsys.readouterr().err


def test_jobs_are_plain_data() -> None:
    assert Job("a.tif") == ("a.tif", None, "")
    assert group_equal([]) == []
