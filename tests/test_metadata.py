"""Nothing lost: every tag and chunk of a corpus before and after a filter, and what edits make of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from blurfast import Gaussian, filter_file
from blurfast.io.tiff_tags import LONG, ByteLayout, Tag
from tests.metadata_corpus import (
    DROPPED_CHUNKS,
    GDAL_XML,
    HEIGHT,
    LAYOUT_TAGS,
    MAKER_NOTE,
    PNG_CHUNKS,
    RESOURCES,
    TIE_POINT,
    TIFF_CASES,
    WIDTH,
    chunks_in,
    imagej_values,
    write_geotiff,
    write_imagej,
    write_photo,
    write_png,
    write_scan,
)
from tests.tiff_corpus import MINISBLACK, HandMadePage, noise, strip_page, write_by_hand

REGION = (8, 4, 24, 16)


def tags_in(path: Path) -> list[dict[int, tuple[int, int, Any]]]:
    """Return type, number and value of the tags of each page, as tifffile reads them."""
    with tifffile.TiffFile(path) as tiff:
        return [
            {
                int(tag.code): (int(tag.dtype), tag.count, _plain(tag.value))
                for tag in page.tags
                if tag.code not in LAYOUT_TAGS
            }
            for page in tiff.pages
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def filtered(path: Path, name: str = "out.tif", **options: Any) -> tuple[Path, tuple[str, ...]]:
    """Filter a file, and return the output and the notices."""
    target = path.with_name(name)
    report = filter_file(path, target, Gaussian(1), overwrite=True, **options)
    return target, report.notices


def is_pointer(code: int) -> bool:
    return code in (34665, 34853, 40965)


@pytest.mark.parametrize("name", TIFF_CASES)
def test_every_tag(tmp_path: Path, name: str) -> None:
    case = TIFF_CASES[name]
    path = tmp_path / "in.tif"
    case.write(path)
    target, notices = filtered(path)
    before, after = tags_in(path), tags_in(target)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        changed = {code for code in old if code in new and not _same(code, old[code], new[code])}
        assert changed == case.changed.keys() & old.keys()
        assert old.keys() - new.keys() == case.dropped.keys() & old.keys()
        assert new.keys() <= old.keys()
    for part in case.notices:
        assert sum(part in notice for notice in notices) == 1
    assert len(notices) == len(case.notices)


def _same(code: int, old: tuple[int, int, Any], new: tuple[int, int, Any]) -> bool:
    """Return whether tags are the same; of those that lead to a directory, their contents."""
    return old[2] == new[2] if is_pointer(code) else old == new


def test_what_tifffile_makes_of_the_corpus(tmp_path: Path) -> None:
    """Tell the corpus' own tags from tags that never made it into the files."""
    counts = {}
    for name, case in TIFF_CASES.items():
        case.write(tmp_path / "in.tif")
        counts[name] = sum(map(len, tags_in(tmp_path / "in.tif")))
    assert counts["all types, little-endian BigTIFF"] >= 24
    assert counts["photo"] >= 12
    assert counts["scan"] >= 27


# --------------------------------------------------------------------------------------------- directories


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_private_directories_are_kept(tmp_path: Path, order: str, big: bool) -> None:
    layout = ByteLayout(order, big)
    inner = (Tag(65001, 2, 7, b"deeper\0"), layout.integers(65002, LONG, [7, 8, 9]))
    pointers = [
        Tag(65000, 18 if big else 13, 1, b"", (inner,)),
        Tag(65003, 18 if big else 13, 2, b"", (inner, (Tag(65004, 13, 1, b"", (inner,)),))),
    ]
    pixels = noise((HEIGHT, WIDTH)).tobytes()
    shape = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 1, 262: 1, 273: 16, 277: 1, 278: HEIGHT, 279: len(pixels)}
    plain = [layout.integers(code, LONG, [value]) for code, value in shape.items()]
    start = 16 + len(pixels)
    header = layout.header(start).ljust(16, b"\0")
    (tmp_path / "in.tif").write_bytes(header + pixels + layout.directories([[*plain, *pointers]], start))
    target, notices = filtered(tmp_path / "in.tif")
    assert notices == ()
    data = target.read_bytes()
    assert data.count(b"deeper\0") == 3
    with tifffile.TiffFile(target) as tiff:
        offset = tiff.pages.first.tags[65000].value
        offset = offset[0] if isinstance(offset, tuple) else offset
    count_form, entry_bytes = ("Q", 20) if big else ("H", 12)
    assert struct.unpack_from(f"{order}{count_form}", data, offset) == (2,)
    first_entry = offset + struct.calcsize(f"={count_form}")
    codes = [struct.unpack_from(f"{order}H", data, first_entry + entry_bytes * number)[0] for number in (0, 1)]
    assert codes == [65001, 65002]


@pytest.mark.parametrize("offset", [0, 10**9, 8])
def test_directories_that_lead_astray_are_left_out_with_a_notice(tmp_path: Path, offset: int) -> None:
    page = strip_page(noise((45, 61)), 8, MINISBLACK, more={34665: ("I", [offset])})
    write_by_hand(tmp_path / "in.tif", page)
    target, notices = filtered(tmp_path / "in.tif")
    assert 34665 not in tags_in(target)[0]
    assert notices == ("tags that cannot be kept are left out: ExifTag (damaged)",)


def test_a_directory_that_contains_itself(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    write_by_hand(path, strip_page(noise((45, 61)), 8, MINISBLACK, more={34665: ("I", [0])}))
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<HHI", 34665, 4, 1)) + 8
    inner = struct.pack("<HHHIIHHIII", 2, 34665, 4, 1, len(data), 36864, 7, 4, 0x30333230, 0)
    struct.pack_into("<I", data, place, len(data))
    path.write_bytes(bytes(data) + inner)
    target, notices = filtered(path)
    assert notices == ("tags that cannot be kept are left out: ExifTag (damaged)",)
    assert tags_in(target)[0][34665][2] == {"ExifVersion": "0230"}


def test_directories_that_many_pages_share_do_not_make_a_copy_huge(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    count = 100
    pages: list[HandMadePage] = [
        strip_page(noise((4, 4)), 8, MINISBLACK, more={34665: ("I", [1])}) for _ in range(count)
    ]
    write_by_hand(path, *pages)
    data = path.read_bytes()
    mark = struct.pack("<HHII", 34665, 4, 1, 1)
    size = 2 << 20
    assert data.count(mark) == count
    data = data.replace(mark, struct.pack("<HHII", 34665, 4, 1, len(data)))
    inner = struct.pack("<HHHIII", 1, 37500, 7, size, len(data) + 18, 0)
    path.write_bytes(data + inner + bytes(size))
    target, notices = filtered(path)
    assert any("ExifTag (damaged)" in notice for notice in notices)
    assert target.stat().st_size < 2 * path.stat().st_size + (64 << 20)


# --------------------------------------------------------------------------------------------------- edits


def test_regions_keep_every_pixel_in_its_place(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "in.tif")
    target, _ = filtered(tmp_path / "in.tif", region=REGION)
    tags = tags_in(target)[0]
    moved = (0.0, 0.0, 0.0, TIE_POINT[3] + 8 * 10, TIE_POINT[4] - 4 * 20, 0.0)
    assert tuple(tags[33922][2]) == moved
    assert tags[50844][2][:5] == [0.0, 1.0, 2.0 - 4, 3.0 - 8, 4.0]


def test_regions_of_images_with_several_tie_points_or_a_matrix(tmp_path: Path) -> None:
    points = (0.0, 0.0, 0.0, 7.0, 8.0, 0.0, 50.0, 30.0, 0.0, 9.0, 10.0, 0.0)
    matrix = (2.0, 0.5, 0.0, 100.0, -0.25, -3.0, 0.0, 200.0, *(0.0,) * 7, 1.0)
    tags: list[Any] = [
        (33922, "d", 12, points, True),
        (34264, "d", 16, matrix, True),
        (33920, "d", 17, (1.0,) * 17, True),
    ]
    tifffile.imwrite(tmp_path / "in.tif", noise((HEIGHT, WIDTH)), metadata=None, extratags=tags)
    target, notices = filtered(tmp_path / "in.tif", region=REGION)
    after = tags_in(target)[0]
    assert after[33922][2] == [-8.0, -4.0, *points[2:6], 42.0, 26.0, *points[8:]]
    assert after[34264][2][3] == 100.0 + 2.0 * 8 + 0.5 * 4
    assert after[34264][2][7] == 200.0 - 0.25 * 8 - 3.0 * 4
    assert 33920 not in after
    assert any("Intergraph" in notice for notice in notices)


@pytest.mark.parametrize("order", ["<", ">"])
def test_regions_as_gdal_sees_them(tmp_path: Path, order: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "in.tif", order)
    target, _ = filtered(tmp_path / "in.tif", region=REGION)
    with rasterio.open(tmp_path / "in.tif") as before, rasterio.open(target) as after:
        assert after.transform @ (0, 0) == before.transform @ REGION[:2]
        assert (after.crs, after.nodata) == (before.crs, before.nodata)
        assert after.tags() == before.tags()
        assert after.rpcs.line_off == before.rpcs.line_off - REGION[1]
        assert before.tags(1)["STATISTICS_MAXIMUM"] == "255"
        assert "STATISTICS_MAXIMUM" not in after.tags(1)


def test_gdal_metadata_keep_their_other_items_as_they_were(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "in.tif")
    target, _ = filtered(tmp_path / "in.tif")
    lines = [line for line in GDAL_XML.split("\n") if "STATISTICS" not in line]
    kept = tags_in(target)[0][42112][2]
    assert [line for line in kept.split("\n") if line.strip()] == [line for line in lines if line]
    target, notices = filtered(tmp_path / "in.tif", dtype="uint8", scale="0,200")
    assert "SCALE" not in tags_in(target)[0][42112][2]
    assert any("scale, offset and unit" in notice for notice in notices)


@pytest.mark.parametrize(
    ("nodata", "options", "is_kept"),
    [
        ("-9999", {}, True),
        ("-9999", {"dtype": "int16"}, True),
        ("-9999", {"dtype": "uint8"}, False),
        ("0", {"dtype": "uint8"}, True),
        ("nan", {"dtype": "int16"}, False),
        ("nan", {"dtype": "float16"}, True),
        ("0", {"dtype": "uint8", "scale": "full"}, False),
    ],
)
def test_value_of_missing_pixels(tmp_path: Path, nodata: str, options: dict[str, Any], is_kept: bool) -> None:
    path = tmp_path / "in.tif"
    pixels = noise((HEIGHT, WIDTH), 200).astype(np.float32) / 256
    tifffile.imwrite(path, pixels, metadata=None, extratags=[(42113, "s", 0, nodata, True)])
    target, notices = filtered(path, **options)
    assert (42113 in tags_in(target)[0]) == is_kept
    expected = "filtered like all others" if is_kept else "is not kept"
    assert sum("GDAL_NODATA" in notice and expected in notice for notice in notices) == 1


def test_regions_move_images_on_their_page(tmp_path: Path) -> None:
    write_scan(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", region=REGION)
    assert notices == ()
    for number, tags in enumerate(tags_in(target)):
        numerator, denominator = tags[286][2]
        assert numerator / denominator == pytest.approx(number / 2 + 8 / (300 + number), rel=1e-6)


def test_regions_of_photos(tmp_path: Path) -> None:
    write_photo(tmp_path / "in.tif")
    target, _ = filtered(tmp_path / "in.tif", region=REGION)
    exif = tags_in(target)[0][34665][2]
    assert (exif["PixelXDimension"], exif["PixelYDimension"]) == (24, 16)
    assert bytes(exif["MakerNote"]) == MAKER_NOTE


def test_pages_are_counted_anew(tmp_path: Path) -> None:
    write_scan(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", page="1-2")
    assert notices == ()
    tags = tags_in(target)
    assert [page[297][2] for page in tags] == [[0, 2], [1, 2]]
    assert [page[270][2] for page in tags] == ["scan 1", "scan 2"]


# -------------------------------------------------------------------------------- ImageJ, and tifffile's shapes


def imagej_of(path: Path) -> dict[str, Any]:
    with tifffile.TiffFile(path) as tiff:
        return dict(tiff.imagej_metadata or {})


def test_imagej_metadata_stay(tmp_path: Path) -> None:
    write_imagej(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", dtype="float32")
    before, after = imagej_of(tmp_path / "in.tif"), imagej_of(target)
    assert notices == ()
    assert after.keys() == before.keys()
    assert after["Labels"] == imagej_values()["Labels"]
    assert after["max"] == 4000


@pytest.mark.parametrize("order", ["<", ">"])
def test_imagej_metadata_of_one_channel(tmp_path: Path, order: str) -> None:
    write_imagej(tmp_path / "in.tif", order)
    target, notices = filtered(tmp_path / "in.tif", page="1,3,5,7,9,11")
    after = imagej_of(target)
    assert (after["images"], after["channels"], after["slices"], after["frames"]) == (6, 1, 3, 2)
    assert after["Labels"] == [f"plane {number}" for number in range(1, 12, 2)]
    assert after["Ranges"] == (20.0, 3000.0)
    np.testing.assert_array_equal(after["LUTs"], imagej_values()["LUTs"][1])
    assert not {"ROI", "Overlays"} & after.keys()
    assert notices == ("ImageJ's regions of interest and overlays no longer fit the image, and are not kept",)
    with tifffile.TiffFile(target) as tiff:
        assert tiff.series[0].shape == (2, 3, HEIGHT, WIDTH)


def test_imagej_metadata_of_a_region(tmp_path: Path) -> None:
    write_imagej(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", region=REGION)
    after = imagej_of(target)
    assert (after["xorigin"], after["images"]) == (-3.0, 12)
    assert len(after["LUTs"]) == 2
    assert not {"ROI", "Overlays"} & after.keys()
    assert len(notices) == 1


def test_imagej_metadata_of_other_values(tmp_path: Path) -> None:
    write_imagej(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", dtype="uint8", scale="0,4095")
    after = imagej_of(target)
    assert not {"min", "max", "Ranges"} & after.keys()
    assert {"ROI", "Overlays", "LUTs", "Labels", "spacing"} <= after.keys()
    assert [notice.partition(" are not kept")[0] for notice in notices] == ["ImageJ's display ranges"]


@pytest.mark.parametrize("pages", ["0,1,2", "2,0"])
def test_imagej_metadata_of_an_irregular_part(tmp_path: Path, pages: str) -> None:
    write_imagej(tmp_path / "in.tif")
    target, notices = filtered(tmp_path / "in.tif", page=pages)
    assert 270 not in tags_in(target)[0]
    assert any("ImageJ's description is not kept" in notice for notice in notices)


@pytest.mark.parametrize(
    ("shape", "options", "edits", "expected"),
    [
        ((4, 3, HEIGHT, WIDTH), {}, {"region": REGION}, [4, 3, 16, 24]),
        ((4, HEIGHT, WIDTH, 3), {"photometric": "rgb"}, {"region": REGION}, [4, 16, 24, 3]),
        ((3, HEIGHT, WIDTH), {"photometric": "rgb", "planarconfig": "separate"}, {"region": REGION}, [3, 16, 24]),
        ((4, 3, HEIGHT, WIDTH), {}, {"page": "0,2,6,8"}, [2, 2, HEIGHT, WIDTH]),
        ((4, 3, HEIGHT, WIDTH), {}, {"page": "5"}, [1, 1, HEIGHT, WIDTH]),
    ],
)
def test_shapes_of_tifffile(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], edits: dict[str, Any], expected: list[int]
) -> None:
    path = tmp_path / "in.tif"
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, noise(shape), metadata={"of the user": 5}, **options)
    target, notices = filtered(path, **edits)
    assert notices == ()
    assert json.loads(tags_in(target)[0][270][2]) == {"shape": expected, "of the user": 5}
    with tifffile.TiffFile(target) as tiff:
        assert not any(series.keyframe.shape != tiff.series[0].keyframe.shape for series in tiff.series)


# --------------------------------------------------------------------------------------------------- PNG


def test_every_chunk(tmp_path: Path) -> None:
    write_png(tmp_path / "in.png")
    assert chunks_in(tmp_path / "in.png") == PNG_CHUNKS
    target, notices = filtered(tmp_path / "in.png", "out.png")
    assert chunks_in(target) == {kind: data for kind, data in PNG_CHUNKS.items() if kind not in DROPPED_CHUNKS}
    assert any("animation is not kept" in notice for notice in notices)
    assert any(notice.endswith(": hIST, sPLT, tIME, prVT") for notice in notices)
    assert len(notices) == 2


def test_chunks_of_a_region(tmp_path: Path) -> None:
    write_png(tmp_path / "in.png")
    target, notices = filtered(tmp_path / "in.png", "out.png", region=REGION)
    assert b"oFFs" not in chunks_in(target)
    assert any(notice.endswith(": oFFs") for notice in notices)


def test_photoshop_resources_lose_only_their_preview(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    TIFF_CASES["retouched"].write(path)
    target, _ = filtered(path)
    assert tags_in(target)[0][34377][2] == RESOURCES
