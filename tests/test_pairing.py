"""Names that collide are refused before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from blurfast_cli import pairing
from tests.batches import SIGMA, assert_blurred, blur, posix_only, write_images
from tests.cli_runs import Run, assert_refused, noise, run, write_tiff


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path)


def assert_nothing_written(done: Run, fact: str, tmp_path: Path) -> None:
    assert_refused(done, 2, fact)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("first", "second"), [("caf\u00e9.tif", "cafe\u0301.tif"), ("\u212b.tif", "\u00c5.tif")])
def test_names_that_unicode_takes_for_the_same(tmp_path: Path, first: str, second: str) -> None:
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
    inputs = write_tiff(tmp_path / "one" / first), write_tiff(tmp_path / "two" / second)
    assert_nothing_written(blur(*inputs, out=tmp_path / "out"), f"{inputs[0]} and {inputs[1]} would both", tmp_path)


@pytest.mark.parametrize(("first", "second"), [("in.tif", "IN.tif"), ("stra\u00dfe.tif", "STRASSE.tif")])
def test_names_that_differ_in_case_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
    inputs = write_tiff(tmp_path / "one" / first), write_tiff(tmp_path / "two" / second)
    monkeypatch.setattr(pairing, "ignores_case", lambda _: True)
    assert_nothing_written(blur(*inputs, out=tmp_path / "out"), f"{inputs[0]} and {inputs[1]} would both", tmp_path)
    monkeypatch.setattr(pairing, "ignores_case", lambda _: False)
    assert blur(*inputs, out=tmp_path / "out").status == 0
    assert sorted(os.listdir(tmp_path / "out")) == sorted([first, second])


def test_an_input_is_found_by_another_spelling(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both spellings of the same file have numbers of their own, as in user space on Linux."""
    monkeypatch.setattr(pairing, "ignores_case", lambda _: True)
    (tmp_path / "deep").mkdir()
    other = write_tiff(tmp_path / "deep" / "A.TIF")
    done = run("gaussian", other, images[0], "--out-dir", tmp_path, *SIGMA, "--overwrite")
    assert_refused(done, 2, f"the output of {other} would replace the input {images[0]}")
    done = run("gaussian", images[0], tmp_path / "A.tif", *SIGMA)
    assert_refused(done, 2, f"the output {tmp_path / 'A.tif'} is the input itself; use --overwrite to replace it")


def test_whether_a_file_system_ignores_case_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "name").touch()
    truth = (tmp_path / "NAME").exists()
    assert pairing.ignores_case(str(tmp_path)) == truth
    assert pairing.ignores_case(str(tmp_path / "not" / "yet" / "there")) == truth
    assert os.listdir(tmp_path) == ["name"]


def test_the_same_input_twice(images: list[Path], tmp_path: Path) -> None:
    same = tmp_path / "." / ".." / tmp_path.name / "a.tif"
    assert_nothing_written(blur(images[0], same, out=tmp_path / "out"), "would both become", tmp_path)


@pytest.mark.parametrize("name", ["a.ndpi", "a.NDPI", "a.scn", "a.bif", "a.lsm", "a.stk", "a"])
def test_outputs_are_not_called_what_they_are_not(tmp_path: Path, name: str) -> None:
    """A filtered slide of Hamamatsu, say, is a TIFF file like others, which cannot be read under its old name."""
    image = write_tiff(tmp_path / "plain.tif").rename(tmp_path / name)
    (job,) = pairing.pair_files([str(image)], "out")
    assert job.target == os.path.join("out", "a.tif")
    kind = f"{image.suffix.lower()} files" if image.suffix else "files without a suffix"
    assert pairing.renaming_notes([job]) == [f"outputs of {kind} are named .tif"]


@pytest.mark.parametrize(
    "name", ["a.svs", "a.SVS", "a.qptiff", "a.ome.tif", "a.geotiff", "a.ome.tf2", "a.tf8", "a.btf", "a.png", "a.jpg"]
)
def test_other_outputs_are_called_what_their_inputs_are(tmp_path: Path, name: str) -> None:
    image = write_tiff(tmp_path / "plain.tif").rename(tmp_path / name)
    (job,) = pairing.pair_files([str(image)], "out")
    assert job.target == os.path.join("out", name)
    assert pairing.renaming_notes([job]) == []


def test_png_files_without_a_suffix(tmp_path: Path) -> None:
    Image.fromarray(noise((30, 40))).save(tmp_path / "a", format="png")
    done = blur(tmp_path / "a", out=tmp_path / "out", options=(*SIGMA, "--png-level", "0"))
    assert (done.status, os.listdir(tmp_path / "out")) == (0, ["a.png"])


def test_batches_with_suffixes_that_no_output_has(tmp_path: Path) -> None:
    inputs = [write_tiff(tmp_path / "a.tif").rename(tmp_path / f"{name}.lsm") for name in "bcd"]
    (tmp_path / "e.xml").write_text("<no image/>")
    done = blur(*inputs, tmp_path / "e.xml", tmp_path / "f.lsm", out=tmp_path / "out")
    assert (done.status, done.stderr.splitlines()[0]) == (1, "note: outputs of .lsm files are named .tif")
    assert "f.lsm: no such file" in done.stderr
    assert "5 files: 3 done, 2 failed" in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["b.tif", "c.tif", "d.tif"]
    assert_blurred(inputs[0], tmp_path / "out" / "b.tif")
    assert "3 skipped" in blur(*inputs, out=tmp_path / "out", options=(*SIGMA, "--skip-existing")).stderr
    assert "named" not in blur(*inputs, out=tmp_path / "out", options=(*SIGMA, "--overwrite", "--quiet")).stderr


def test_names_that_collide_once_the_suffix_is_another(images: list[Path], tmp_path: Path) -> None:
    other = write_tiff(tmp_path / "other.tif").rename(tmp_path / "a.scn")
    fact = f"{images[0]} and {other} would both become {tmp_path / 'out' / 'a.tif'}"
    assert_nothing_written(blur(images[0], other, out=tmp_path / "out"), fact, tmp_path)
    fact = f"the output of {other} would replace the input {images[0]}"
    assert_refused(blur(other, images[0], out=tmp_path, options=(*SIGMA, "--overwrite")), 2, fact)


@posix_only
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_to_the_same_file_are_that_file(
    images: list[Path], tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "links").mkdir()
    link(images[1], tmp_path / "links" / "a.tif")
    done = run("gaussian", *images[:2], "--out-dir", tmp_path / "links", *SIGMA, "--overwrite")
    assert_refused(done, 2, f"the output of {images[0]} would replace the input {images[1]}")
    link(images[0], tmp_path / "same.tif")
    done = run("gaussian", images[0], tmp_path / "same.tif", *SIGMA)
    assert_refused(done, 2, f"the output {tmp_path / 'same.tif'} is the input itself; use --overwrite to replace it")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "c.tif").write_bytes(b"old")
    link(tmp_path / "both" / "c.tif", tmp_path / "both" / "d.tif")
    done = run("gaussian", *images[2:4], "--out-dir", tmp_path / "both", *SIGMA, "--overwrite")
    assert_refused(done, 2, f"{images[2]} and {images[3]} would both become {tmp_path / 'both' / 'd.tif'}")
    assert (tmp_path / "both" / "c.tif").read_bytes() == b"old"


def test_an_output_that_is_an_input_of_another(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    other = write_tiff(tmp_path / "deep" / "b.tif")
    before = images[1].read_bytes()
    done = run("gaussian", other, *images[:2], "--out-dir", tmp_path, *SIGMA, "--overwrite")
    assert_refused(done, 2, f"the output of {other} would replace the input {images[1]}")
    assert images[1].read_bytes() == before


def test_an_input_is_not_skipped_for_its_own_output(images: list[Path]) -> None:
    before = images[0].read_bytes()
    done = run("gaussian", images[0], images[0], *SIGMA, "--overwrite", "--skip-existing")
    assert_refused(done, 2, "is the input itself")
    assert images[0].read_bytes() == before


@pytest.mark.parametrize("name", ["a.tif", "out/a.tif"])
def test_the_manifest_is_no_image(images: list[Path], tmp_path: Path, name: str) -> None:
    done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--manifest", tmp_path / name))
    assert_nothing_written(done, f"the manifest {tmp_path / name} is an input or an output, too", tmp_path)


def test_missing_inputs_collide_with_nothing(images: list[Path], tmp_path: Path) -> None:
    done = run("gaussian", tmp_path / "missing.tif", images[0], "--out-dir", tmp_path, *SIGMA, "--overwrite")
    assert done.status == 1
    assert "no such file" in done.stderr
    assert "1 done, 1 failed" in done.stderr


def test_an_output_beside_a_directory_for_outputs(images: list[Path], tmp_path: Path) -> None:
    """All paths are inputs then, as the hint says where one is not there."""
    new, out = tmp_path / "new.tif", tmp_path / "out"
    hint = (
        f"blurfast: warning: {new} does not exist, and with --out-dir all paths are inputs; "
        "if it is to be the output, leave --out-dir out"
    )
    done = blur(images[0], new, out=out)
    assert (done.status, done.stderr.splitlines()[0]) == (1, hint)
    assert f"blurfast: error: {new}: no such file; check the name" in done.stderr
    for inputs, status in (
        ((new, images[1]), 1),
        ((tmp_path / "other", new), 1),
        ((*images[1:3], new), 1),
        (images, 0),
    ):
        done = blur(*inputs, out=out, options=(*SIGMA, "--overwrite"))
        assert (done.status, "warning" in done.stderr) == (status, False)
    (out / "new.tif").write_bytes(b"made before its input was removed")
    done = blur(images[0], new, out=out, options=(*SIGMA, "--skip-existing"))
    assert (done.status, "warning" in done.stderr) == (0, False)


@posix_only
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("swapped", [False, True])
def test_input_and_output_may_be_names_of_the_same_file(
    images: list[Path], tmp_path: Path, link: Callable[[Path, Path], None], *, swapped: bool
) -> None:
    original = write_tiff(tmp_path / "original.tif", (40, 60))
    assert original.read_bytes() == images[0].read_bytes()
    name = tmp_path / "name.tif"
    link(images[0], name)
    source, target = (name, images[0]) if swapped else (images[0], name)
    assert run("gaussian", source, target, *SIGMA, "--overwrite").status == 0
    assert_blurred(original, target)
    assert name.is_symlink() == (link is os.symlink)
    if link is os.link:  # each name is a file of its own now, and the other's is untouched
        assert source.read_bytes() == original.read_bytes()


@posix_only
def test_links_to_nothing(images: list[Path], tmp_path: Path) -> None:
    """An output is made where a link points; never is the link replaced."""
    link, lost, loop = (tmp_path / f"{name}.tif" for name in ("link", "lost", "loop"))
    link.symlink_to(tmp_path / "later.tif")
    lost.symlink_to(tmp_path / "missing" / "later.tif")
    loop.symlink_to(loop)
    assert run("gaussian", images[0], link, *SIGMA).status == 0
    assert_blurred(images[0], tmp_path / "later.tif")
    for bad, fact in ((lost, "its directory does not exist"), (loop, "is a symbolic link that leads in a circle")):
        assert_refused(run("gaussian", images[0], bad, *SIGMA, "--overwrite"), 2, f"{bad}: {fact}")
    assert all(path.is_symlink() for path in (link, lost, loop))
    (tmp_path / "same").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "same" / name).symlink_to(tmp_path / "one.tif")
    done = run("gaussian", *images[:2], "--out-dir", tmp_path / "same", *SIGMA)
    assert_refused(done, 2, f"{images[0]} and {images[1]} would both become {tmp_path / 'same' / 'b.tif'}")


@posix_only
def test_a_link_stays_one_when_its_target_is_replaced(images: list[Path], tmp_path: Path) -> None:
    """As with cp and editors: what is named is the file that the link stands for, wherever it is."""
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.tif", tmp_path / "link.tif"
    real.write_bytes(b"old")
    link.symlink_to(real)
    assert run("gaussian", images[0], link, *SIGMA).status == 2
    assert run("gaussian", images[0], link, *SIGMA, "--overwrite").status == 0
    assert link.readlink() == real
    assert_blurred(images[0], real)
    assert os.listdir(tmp_path / "elsewhere") == ["real.tif"]
