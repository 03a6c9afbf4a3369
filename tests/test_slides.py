"""Slides as scanners write them: the image is filtered, its smaller versions follow it, labels are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from blurfast import Gaussian, filter_file, gaussian
from blurfast.errors import UnsupportedError
from tests.batches import SIGMA, blur, statuses
from tests.pyramid_checks import assert_halves, halved, noise, read_chain

BLUR = Gaussian(1)
APERIO = "Aperio Image Library v12.0.15\n2001x1203 [0,100 2001x1203] (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
SHAPE = (1203, 2001)
LABELS = [(387, 463), (512, 300)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def base_image(shape: tuple[int, int] = SHAPE) -> NDArray[np.uint8]:
    """Return a smooth image, which lossy codecs hardly change."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = [128 + 100 * np.sin(rows / (90 + 40 * channel)) * np.cos(columns / 140) for channel in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def write_aperio(path: Path, compression: Any, exponents: tuple[int, ...] = (2, 4), **options: Any) -> None:
    """Write an image, a thumbnail, smaller versions without a mark, a label and a macro image, as Aperio does."""
    image = base_image()
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
    tiles = {"tile": (256, 256), "compression": compression, **options}
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, **kept, **tiles, description=APERIO)
        writer.write(noise((600, 1000, 3)), **kept, rowsperstrip=16, description=APERIO)
        for times in exponents:
            height, width = SHAPE[0] >> times, SHAPE[1] >> times  # rounded down
            writer.write(noise((height, width, 3)), **kept, **tiles, description=APERIO)
        writer.write(noise((*LABELS[0], 3)), **kept, rowsperstrip=16, compression="lzw", description="Aperio\nlabel")
        writer.write(noise((*LABELS[1], 3)), **kept, rowsperstrip=16, subfiletype=9, description="Aperio\nmacro")


@pytest.mark.parametrize(
    ("compression", "options"), [("deflate", {}), ("jpeg", {}), ("jpeg", {"subsampling": (2, 1)}), (33005, {})]
)
def test_aperio(path: Path, compression: Any, options: dict[str, Any]) -> None:
    write_aperio(path, compression, **options)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert "2 further images of the slide (pages 4-5) are not kept" in report.notices
    assert report.pixels == SHAPE[0] * SHAPE[1]
    with tifffile.TiffFile(path) as before:
        expected = gaussian(before.pages.first.asarray(), 1, channel_axis=-1)
    image, thumbnail, quarter, sixteenth = read_chain(path.with_name("out.tif"))
    smaller = halved(halved(expected))
    smallest = halved(halved(smaller))
    pairs = (image, expected), (quarter, smaller), (sixteenth, smallest), (thumbnail, halved(smallest))
    for result, exact in pairs:
        error = np.abs(result.astype(int) - exact)
        assert error.mean() <= 3 if compression == "jpeg" else not error.any()
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert tiff.pages.first.description == APERIO
        assert [page.tile for page in tiff.pages] == [(256, 256), None, (256, 256), (256, 256)]
        compressions = [page.compression for page in tiff.pages]
        # openslide reads JPEG 2000 under the numbers of Aperio only, and of tiles only.
        assert compressions == [33005, 8, 33005, 33005] if compression == 33005 else len(set(compressions)) == 1
        baseline, of_thumbnail = tiff.series
        assert [level.shape for level in baseline.levels] == [image.shape, quarter.shape, sixteenth.shape]
        assert (of_thumbnail.name, of_thumbnail.shape) == ("Thumbnail", thumbnail.shape)


@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "jpeg", 33005])
def test_openslide_reads_the_result(path: Path, compression: Any) -> None:
    openslide = pytest.importorskip("openslide", reason="openslide-python and openslide-bin are not installed")
    write_aperio(path, compression)
    filter_file(path, path.with_name("out.tif"), BLUR)
    image, _, *levels = read_chain(path.with_name("out.tif"))
    with openslide.OpenSlide(path.with_name("out.tif")) as slide:
        assert (slide.properties["openslide.vendor"], slide.properties["openslide.mpp-x"]) == ("aperio", "0.499")
        assert list(slide.associated_images) == ["thumbnail"]
        assert slide.level_count == 3
        for number, level in enumerate((image, *levels)):
            region = np.asarray(slide.read_region((0, 0), number, slide.level_dimensions[number]))
            np.testing.assert_array_equal(region[..., :3], level)


@pytest.mark.parametrize("compression", ["none", "jpeg", 33005])
def test_thumbnails_in_several_strips(path: Path, compression: Any) -> None:
    """A level of 700 x 63 pixels, in strips as high as the tiles."""
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "compression": compression}
    with tifffile.TiffWriter(path) as writer:
        writer.write(base_image((2800, 252)), **kept, description=APERIO)
        writer.write(noise((90, 10, 3)), photometric="rgb", metadata=None)
        writer.write(base_image((1400, 126)), **kept)
    filter_file(path, path.with_name("out.tif"), BLUR)
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        thumbnail, level = tiff.pages[1].aspage(), tiff.pages[2].asarray()
        assert (thumbnail.shape, thumbnail.rowsperstrip, len(thumbnail.dataoffsets)) == ((700, 63, 3), 64, 11)
        assert np.abs(thumbnail.asarray().astype(int) - halved(level)).mean() <= (3 if compression == "jpeg" else 0)


def test_aperio_ycbcr(path: Path) -> None:
    """The compression alone tells that these are the colours."""
    write_aperio(path, 33003)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert "2 further images of the slide (pages 4-5) are not kept" in report.notices
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert [page.compression for page in tiff.pages] == [33003, 8, 33003, 33003]
        assert {(page.photometric, page.subsampling) for page in tiff.pages} == {(6, (1, 1))}
    twice = filter_file(path.with_name("out.tif"), path.with_name("deflate.tif"), BLUR, compression="deflate")
    assert [notice for notice in twice.notices if "not kept" in notice] == []
    with tifffile.TiffFile(path.with_name("deflate.tif")) as tiff:
        assert {(page.compression, page.photometric) for page in tiff.pages} == {(8, 6)}
    with pytest.raises(UnsupportedError, match="cannot hold YCbCr"):
        filter_file(path, path.with_name("out.png"), BLUR)


def test_the_result_of_a_slide_is_taken_for_one_again(path: Path) -> None:
    write_aperio(path, "deflate", (1, 2, 3))
    filter_file(path, path.with_name("once.tif"), BLUR)
    report = filter_file(path.with_name("once.tif"), path.with_name("twice.tif"), BLUR)
    assert report.notices == ()
    levels = read_chain(path.with_name("twice.tif"))
    assert len(levels) == 5
    assert_halves(levels[0], levels[2])


def test_batches_of_slides_keep_their_names(tmp_path: Path) -> None:
    paths = [tmp_path / "a.svs", tmp_path / "B.SVS", tmp_path / "a.tif"]
    for path in paths:
        write_aperio(path, "jpeg")
    log, options = tmp_path / "log.jsonl", ("--compression", "deflate")
    done = blur(*paths, out=tmp_path / "out", options=(*SIGMA, *options, "--skip-existing", "--manifest", log))
    assert done.status == 0, done.stderr
    assert "named" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["B.SVS", "a.svs", "a.tif"]
    for path in paths:
        with tifffile.TiffFile(tmp_path / "out" / path.name) as tiff:
            assert tiff.is_svs
            assert tiff.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert [series.name for series in tiff.series] == ["Baseline", "Thumbnail"]
    (tmp_path / "out" / "a.svs").unlink()
    done = blur(*paths, out=tmp_path / "out", options=(*SIGMA, *options, "--skip-existing", "--manifest", log))
    assert (done.status, statuses(log)) == (0, ["done"] * 4 + ["skipped"] * 2)


def test_labels_can_be_selected(path: Path) -> None:
    write_aperio(path, "deflate")
    filter_file(path, path.with_name("out.tif"), BLUR, page="4-5")
    label, macro = read_chain(path.with_name("out.tif"))
    assert (label.shape[:2], macro.shape[:2]) == (LABELS[0], LABELS[1])
    np.testing.assert_array_equal(label, gaussian(noise((*LABELS[0], 3)), 1, channel_axis=-1))


@pytest.mark.parametrize("option", ["pyramid", "cog"])
def test_slides_become_pyramids_of_other_kinds(path: Path, option: str) -> None:
    write_aperio(path, "deflate")
    filter_file(path, path.with_name("out.tif"), BLUR, **{option: True})
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        first = tiff.pages.first
        levels = [page.shape for page in (first.pages if option == "pyramid" else tiff.pages[1:])]
    assert levels == [(602, 1001, 3), (301, 501, 3), (151, 251, 3)]


def test_focal_planes_are_images_of_their_own(path: Path) -> None:
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "description": APERIO}
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise((200, 300, 3), seed=1), **kept)
        writer.write(noise((90, 100, 3)), photometric="rgb", metadata=None)
        for seed, shape in ((2, (200, 300, 3)), (3, (100, 150, 3)), (4, (100, 150, 3))):
            writer.write(noise(shape, seed=seed), **kept)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ()
    first, thumbnail, second, first_half, second_half = read_chain(path.with_name("out.tif"))
    assert_halves(first, thumbnail, times=3)
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert [level.shape[:3] for level in tiff.series[0].levels] == [(2, 200, 300), (2, 100, 150)]
    np.testing.assert_array_equal(second, gaussian(noise((200, 300, 3), seed=2), 1, channel_axis=-1))
    assert_halves(first, first_half)
    assert_halves(second, second_half)


def ndpi_tags(magnification: float) -> list[tuple[int, Any, int, Any, bool]]:
    """Return tags of a Hamamatsu slide, offsets into the file among them."""
    return [
        (271, "s", 0, "Hamamatsu", True),
        (65420, "I", 1, 1, True),
        (65421, "f", 1, magnification, True),
        (65427, "s", 0, "reference", True),
        (65432, "I", 2, (12345, 99), True),
    ]


@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_hamamatsu(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "in.tif"  # with the suffix ndpi, offsets would have 64 bits
    image = base_image((640, 800))
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
    with tifffile.TiffWriter(path) as writer:
        for times in range(3):
            level = np.ascontiguousarray(image[:: 1 << times, :: 1 << times])
            strips = {"rowsperstrip": 640 >> times, "compression": compression}
            writer.write(level, **kept, **strips, extratags=ndpi_tags(20 / 2**times))
        writer.write(noise((200, 900, 3)), **kept, extratags=ndpi_tags(-1))
        writer.write(noise((80, 100)), photometric="minisblack", metadata=None, extratags=ndpi_tags(-2))
    report = filter_file(path, tmp_path / "out.tif", BLUR)
    assert "2 further images of the slide (pages 3-4) are not kept" in report.notices
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert [page.shape[:2] for page in tiff.pages] == [(640, 800), (320, 400), (160, 200)]
        assert not any(65420 <= tag.code < 65536 for page in tiff.pages for tag in page.aspage().tags)
        expected = gaussian(image, 1, channel_axis=-1)
        assert np.abs(tiff.pages.first.asarray().astype(int) - expected).max() <= (12 if compression else 0)


def test_perkin_elmer(path: Path) -> None:
    """The channels are images of their own, which come before all smaller versions."""
    kept: dict[str, Any] = {"metadata": None, "software": "PerkinElmer-QPI", "tile": (64, 64)}
    channels = [noise((512, 768), seed=seed) for seed in range(3)]
    with tifffile.TiffWriter(path) as writer:
        for channel in channels:
            writer.write(channel, photometric="minisblack", description="<x/>", **kept)
        writer.write(noise((100, 150, 3)), photometric="rgb", metadata=None)
        for times in (1, 2):
            for channel in channels:
                writer.write(channel[:: 1 << times, :: 1 << times].copy(), subfiletype=1, **kept)
        writer.write(noise((80, 90, 3)), photometric="rgb", metadata=None)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ("1 further image of the slide (page 10) is not kept",)
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        full, half, quarter = (level.asarray() for level in tiff.series[0].levels)
        assert tiff.series[1].name == "Thumbnail"
    for channel, *levels in zip(channels, full, half, quarter, strict=True):
        np.testing.assert_array_equal(levels[0], gaussian(channel, 1))
        assert_halves(levels[0], levels[1])
        assert_halves(levels[1], levels[2])


def test_ventana(path: Path) -> None:
    iscan: list[tuple[int, Any, int, Any, bool]] = [(700, "B", 8, b"<iScan/>", True)]
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "extratags": iscan, "software": "ScanOutputManager"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(noise((300, 100, 3)), **kept, description="Label_Image")
        writer.write(noise((512, 768, 3)), **kept, tile=(128, 128), description="level=0 mag=40 quality=95")
        writer.write(noise((256, 384, 3)), **kept, tile=(128, 128), description="level=1 mag=20 quality=95")
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ("1 further image of the slide (page 0) is not kept",)
    image, half = read_chain(path.with_name("out.tif"))
    np.testing.assert_array_equal(image, gaussian(noise((512, 768, 3)), 1, channel_axis=-1))
    assert_halves(image, half)


def test_leica(path: Path) -> None:
    scn = '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection/></scn>'
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "tile": (64, 64)}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(noise((150, 50, 3)), **kept, description=scn)
        for times in (0, 2):
            writer.write(noise((800 >> times, 600 >> times, 3)), **kept)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ("1 further image of the slide (page 0) is not kept",)
    image, quarter = read_chain(path.with_name("out.tif"))
    assert_halves(image, quarter, times=2)
    with pytest.raises(ValueError, match="page"):
        filter_file(path, path.with_name("other.tif"), BLUR, page="first")


@pytest.mark.parametrize(
    ("software", "ending"), [("Philips DP v1.0", "<DataObject>huge</DataObject>"), ("PerkinElmer-QPI", "<x/>")]
)
def test_descriptions_that_hold_other_images_are_left_out(path: Path, software: str, ending: str) -> None:
    kept: dict[str, Any] = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "software": software}
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise((400, 600, 3)), **kept, description=ending)
        writer.write(noise((200, 300, 3)), **kept)
        writer.write(noise((90, 110, 3)), photometric="rgb", metadata=None, description="Label")
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    is_philips = software.startswith("Philips")
    assert any("description" in notice for notice in report.notices) == is_philips
    with tifffile.TiffFile(path.with_name("out.tif")) as tiff:
        assert len(tiff.pages) == 2
        assert tiff.pages.first.description == ("" if is_philips else ending)
