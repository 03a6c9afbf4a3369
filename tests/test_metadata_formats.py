"""What is kept from one format to another: the tables of docs/metadata.md against what is found in files."""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from blurfast import Gaussian, filter_file
from blurfast.io.exif import parse_exif, updated_exif, with_tags
from blurfast.io.photoshop import updated_resources
from blurfast.io.shared_tags import text_tag
from tests.cli_runs import run
from tests.metadata_corpus import DROPPED_CHUNKS, IPTC, MAKER_NOTE, PREVIEW, RESOURCES, XMP, exif_of_photo, resource
from tests.png_files import SMALL, chunk, png
from tests.tiff_corpus import noise

PAGE = Path(__file__).parent.parent / "docs" / "metadata.md"
SUFFIXES = {"TIFF": ".tif", "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "BMP": ".bmp"}
ABSENT = "\N{EN DASH}"
THUMBNAIL = b"\xff\xd8 how it was before \xff\xd9"
PIXELS = noise((40, 56, 3))


def tables() -> dict[str, dict[str, dict[str, str]]]:
    """Return the cells of the page by input format, kind of metadata and output format."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for section in re.split(r"^### From ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        source = section.split("\n", 1)[0]
        rows = [
            [cell.strip() for cell in line.strip("| ").split("|")] for line in section.split("\n## ")[0].split("\n")
            if line.startswith("|")
        ]  # fmt: skip
        outputs = [name for name in rows[0] if name]
        found[source] = {row[0]: dict(zip(outputs, row[1:], strict=True)) for row in rows[2:]}
    return found


TABLES = tables()


# -------------------------------------------------------------------------------------------------- inputs


def block_with_preview() -> bytes:
    """Return Exif data whose last part is a small picture."""
    exif = exif_of_photo()
    del exif[315], exif[33432]
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block.startswith(b"II") else ">"
    (main,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, main)
    struct.pack_into(f"{order}I", block, main + 2 + 12 * count, len(block))
    start = len(block) + 2 + 2 * 12 + 4
    entries = struct.pack(f"{order}HHII", 513, 4, 1, start) + struct.pack(f"{order}HHII", 514, 4, 1, len(THUMBNAIL))
    return bytes(block) + struct.pack(f"{order}H", 2) + entries + bytes(4) + THUMBNAIL


def write_tiff(path: Path) -> None:
    exif = exif_of_photo()
    exif[270], exif[700], exif[34377] = "a description", XMP, RESOURCES
    Image.fromarray(PIXELS).save(path, exif=exif.tobytes(), dpi=(240, 240), icc_profile=b"profile")


def write_png(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    for keyword, text in {"Description": "a description", "Author": "Somebody", "Comment": "more"}.items():
        info.add_text(keyword, text)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options: dict[str, Any] = {"pnginfo": info, "dpi": (240, 240), "icc_profile": b"profile"}
    Image.fromarray(PIXELS).save(path, exif=block_with_preview(), **options)


def write_jpeg(path: Path) -> None:
    exif = with_author(block_with_preview())
    resources = b"Photoshop 3.0\0" + PREVIEW + RESOURCES
    extra = b"\xff\xed" + struct.pack(">H", len(resources) + 2) + resources
    options: dict[str, Any] = {"comment": b"a description", "dpi": (240, 240), "icc_profile": b"profile", "xmp": XMP}
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + exif, extra=extra, **options)


def write_webp(path: Path) -> None:
    exif = Image.Exif()
    exif.load(with_author(block_with_preview()))
    block = with_author(block_with_preview(), {270: "a description"}, resolution=240)
    Image.fromarray(PIXELS).save(path, exif=block, icc_profile=b"profile", xmp=XMP)


def with_author(block: bytes, texts: dict[int, str] | None = None, resolution: int | None = None) -> bytes:
    tags = [text_tag(code, text) for code, text in {315: "Somebody", **(texts or {})}.items()]
    if resolution is not None:
        ratio = struct.pack("<II", resolution, 1)
        unit = text_tag(296, "")._replace(value_type=3, value_count=1, value=b"\2\0")
        tags += [*(text_tag(code, "")._replace(value_type=5, value_count=1, value=ratio) for code in (282, 283)), unit]
    changed = with_tags(block, tags)
    assert changed is not None
    return changed


def write_bmp(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, dpi=(240, 240))


WRITERS: dict[str, Callable[[Path], None]] = {
    "TIFF": write_tiff,
    "PNG": write_png,
    "JPEG": write_jpeg,
    "WebP": write_webp,
    "BMP": write_bmp,
}


# ------------------------------------------------------------------------------------------- what is in a file


def found_in(path: Path) -> dict[str, bool]:
    """Return which of the kinds of metadata Pillow finds in a file, with the values that the inputs have."""
    with Image.open(path) as image:
        exif, info = image.getexif(), image.info
        tags = dict(getattr(image, "tag_v2", {}))
        main = {**exif, **tags}
        camera, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        per_inch = 2.54 if main.get(296) == 3 else 1
        dpi = info.get("dpi") or [float(main.get(code, 0)) * per_inch for code in (282, 283)]
        photoshop = info.get("photoshop") or {}
        resources = bytes(tags.get(34377, b""))
    raw = path.read_bytes()
    is_whole = float(camera.get(33434, 0)) == 1 / 250 and camera.get(37500) == MAKER_NOTE
    return {
        "orientation": main.get(274) == 6,
        "Exif: exposure, dates, MakerNote": is_whole and camera.get(36867) == "2024:05:06 07:08:09",
        "Exif: GPS": place.get(1) == "N" and [float(n) for n in place.get(2, ())] == [47, 30, 15],
        "Exif: preview": THUMBNAIL in raw,
        "colour profile (ICC)": info.get("icc_profile") == b"profile",
        "resolution": max(abs(float(value) - 240) for value in dpi) < 0.5,
        "description": "a description" in (main.get(270), info.get("Description"))
        or info.get("comment") == b"a description",
        "author, copyright, software, title": "Somebody" in (main.get(315), info.get("Author")),
        "date": "2024:05:06 07:08:09" in (main.get(306), info.get("Creation Time")),
        "texts by other keywords": info.get("Comment") == "more",
        "XMP": XMP in (info.get("xmp"), tags.get(700)),
        "IPTC, Photoshop's resources": photoshop.get(0x0404) == IPTC or resources == RESOURCES,
    }


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_tables_of_the_page(tmp_path: Path, source: str, target: str) -> None:
    before, after = tmp_path / f"in{SUFFIXES[source]}", tmp_path / f"out{SUFFIXES[target]}"
    WRITERS[source](before)
    report = filter_file(before, after, Gaussian(0.5))
    there, kept = found_in(before), found_in(after)
    table = TABLES[source]
    observed = {kind: ABSENT if not there[kind] else "kept" if kept[kind] else "dropped" for kind in table}
    assert observed == {kind: row[target] for kind, row in table.items()}
    assert not [kind for kind in there if there[kind] and kind not in table]
    if "dropped" in observed.values():
        assert any("not kept" in notice for notice in report.notices)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("TIFF", "BMP", ["the colour profile", "Exif data", "XMP", "Photoshop's resources", "Description"]),
        ("TIFF", "PNG", ["Photoshop's resources"]),
        ("PNG", "JPEG", ["preview in Exif data", "Comment"]),
        ("JPEG", "WebP", ["preview in Exif data", "Photoshop's resources"]),
        ("JPEG", "JPEG", ["preview in Exif data", "preview among Photoshop's resources"]),
        ("JPEG", "TIFF", ["preview in Exif data", "preview among Photoshop's resources"]),
    ],
)
def test_notices_name_what_is_lost(tmp_path: Path, source: str, target: str, words: list[str]) -> None:
    before, after = tmp_path / f"in{SUFFIXES[source]}", tmp_path / f"out{SUFFIXES[target]}"
    WRITERS[source](before)
    said = " ".join(filter_file(before, after, Gaussian(1)).notices)
    assert [word for word in words if word not in said] == []


def test_the_page_names_all_chunks_that_are_dropped() -> None:
    section = PAGE.read_text().split("## From PNG to PNG")[1]
    for kind in DROPPED_CHUNKS:
        assert kind == b"prVT" or kind.decode() in section


def test_tables_have_all_pairs() -> None:
    assert list(TABLES) == list(SUFFIXES)
    assert all(list(row) == list(SUFFIXES) for table in TABLES.values() for row in table.values())


# ------------------------------------------------------------------------------------ TIFF files without Exif data

PLAIN: dict[str, Any] = {
    "description": "a description", "software": "a program", "datetime": "2024:05:06 07:08:09",
    "resolution": (300, 200), "resolutionunit": "INCH", "metadata": None,
}  # fmt: skip
CAMERA_TAGS = ((271, 2, 0, "Maker", True), (272, 2, 0, "Model", True), (274, 3, 1, 6, True))


def write_plain_tiff(path: Path, byteorder: Any = "<", tags: tuple[Any, ...] = (), **options: Any) -> None:
    tifffile.imwrite(path, PIXELS, photometric="rgb", byteorder=byteorder, extratags=tags, **{**PLAIN, **options})


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_plain_tags_become_no_exif_data(tmp_path: Path, byteorder: str) -> None:
    upright = (274, 3, 1, 1, True)
    write_plain_tiff(tmp_path / "in.tif", byteorder, (upright,))
    described = json.loads(run("info", tmp_path / "in.tif", "--json").stdout)
    assert described["metadata"]["exif_bytes"] == 0
    filter_file(tmp_path / "in.tif", tmp_path / "out.png", Gaussian(1))
    with Image.open(tmp_path / "out.png") as image:
        assert "exif" not in image.info
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.1)
        texts = {"Description": "a description", "Software": "a program", "Creation Time": "2024-05-06T07:08:09"}
        assert image.text == texts
    filter_file(tmp_path / "out.png", tmp_path / "back.tif", Gaussian(1))
    with tifffile.TiffFile(tmp_path / "back.tif") as tiff:
        tags = {code: tiff.pages.first.tags[code].value for code in (270, 305, 306)}
    assert tags == {270: "a description", 305: "a program", 306: "2024:05:06 07:08:09"}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_tags_with_no_other_place_become_exif_data(tmp_path: Path, suffix: str, byteorder: str) -> None:
    write_plain_tiff(tmp_path / "in.tif", byteorder, CAMERA_TAGS)
    filter_file(tmp_path / "in.tif", tmp_path / f"out{suffix}", Gaussian(1))
    with Image.open(tmp_path / f"out{suffix}") as image:
        exif = dict(image.getexif())
    assert [exif.pop(code, None) for code in (271, 272, 274)] == ["Maker", "Model", 6]
    in_exif = {".png": set(), ".jpg": {305, 306}, ".webp": {270, 282, 283, 296, 305, 306}}
    assert exif.keys() == in_exif[suffix]
    assert exif.get(306) in (None, "2024:05:06 07:08:09")
    report = filter_file(tmp_path / "in.tif", tmp_path / "out.bmp", Gaussian(1))
    lost = "Make, Model, Orientation, Description, Software, Creation Time"
    assert report.notices == (f"metadata that are not kept in BMP: {lost}",)


@pytest.mark.parametrize(("resolution", "expected"), [((1, 1), {}), ((0, 0), {}), ((2, 3), {282: 2, 283: 3, 296: 1})])
def test_a_ratio_without_a_unit_becomes_exif_data(tmp_path: Path, resolution: Any, expected: dict[int, int]) -> None:
    write_plain_tiff(tmp_path / "in.tif", resolution=resolution, resolutionunit="NONE")
    filter_file(tmp_path / "in.tif", tmp_path / "out.png", Gaussian(1))
    with Image.open(tmp_path / "out.png") as image:
        assert dict(image.getexif()) == expected


def test_a_resolution_that_png_cannot_hold_is_said_to_be_lost(tmp_path: Path) -> None:
    write_plain_tiff(tmp_path / "in.tif", resolution=((1, 1000), (1, 1000)))
    report = filter_file(tmp_path / "in.tif", tmp_path / "out.png", Gaussian(1))
    assert report.notices == ("metadata that are not kept in PNG: the resolution",)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-05-06T07:08:09", "2024:05:06 07:08:09"),
        ("2024-05-06 07:08:09.5+02:00", "2024:05:06 07:08:09"),
        ("Mon, 06 May 2024 07:08:09 GMT", "2024:05:06 07:08:09"),
        ("2024:05:06 07:08:09", "2024:05:06 07:08:09"),
        ("0999-05-06", "0999:05:06 00:00:00"),
        ("in spring", None),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_dates_of_png_files(tmp_path: Path, text: str, date: str | None) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Creation Time", text)
    Image.fromarray(PIXELS).save(tmp_path / "in.png", pnginfo=info)
    for name in ("out.tif", "out.jpg"):
        report = filter_file(tmp_path / "in.png", tmp_path / name, Gaussian(1))
        with Image.open(tmp_path / name) as image:
            assert image.getexif().get(306) == date
        lost = [f"metadata that are not kept in {'TIFF' if name == 'out.tif' else 'JPEG'}: Creation Time"]
        assert list(report.notices) == ([] if date else lost)


@pytest.mark.parametrize(
    ("date", "text"),
    [(b"    :  :     :  :  \0", None), (b"0000:00:00 00:00:00\0", None), (b"May 2024\0", "May 2024")],
)
def test_odd_dates_of_tiff_files(tmp_path: Path, date: bytes, text: str | None) -> None:
    write_plain_tiff(tmp_path / "in.tif", tags=((306, 2, len(date), date, True),), datetime=None)
    filter_file(tmp_path / "in.tif", tmp_path / "out.png", Gaussian(1))
    with Image.open(tmp_path / "out.png") as image:
        assert image.text.get("Creation Time") == text
        assert "exif" not in image.info


# ---------------------------------------------------------------------------------------------- Exif blocks


def test_orientation_survives_a_round_through_all_formats(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "0.jpg")
    names = ["0.jpg", "1.tif", "2.png", "3.webp", "4.png", "5.tif", "6.jpg"]
    for before, after in itertools.pairwise(names):
        filter_file(tmp_path / before, tmp_path / after, Gaussian(0))
        found = found_in(tmp_path / after)
        assert all(found[kind] for kind in ("orientation", "Exif: GPS", "colour profile (ICC)", "resolution", "XMP"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_previews_leave_nothing_behind(order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHII", 274, 4, 1, 6)
    start = 8 + 2 + 12 + 4
    preview = struct.pack(f"{order}H", 2)
    preview += struct.pack(f"{order}HHII", 273, 4, 1, start + 30) + struct.pack(f"{order}HHII", 279, 4, 1, 9)
    block = mark + struct.pack(f"{order}IH", 8, 1) + entry + struct.pack(f"{order}I", start) + preview + bytes(4)
    whole = block + b"the image" + b"and more"
    changed, notices = updated_exif(whole, 5, 6)
    assert b"the image" not in changed
    assert changed.endswith(b"and more")
    assert len(changed) == len(whole)
    assert len(notices) == 1
    with_order = Image.Exif()
    with_order.load(changed)
    assert (with_order[274], dict(with_order.get_ifd(ExifTags.IFD.IFD1))) == (6, {})
    assert updated_exif(changed, 5, 6) == (changed, [])


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_damaged_blocks_harm_nothing(cut: int) -> None:
    block = block_with_preview()
    for damaged in (block[:cut], block[:cut] + b"\xff" * 40 + block[cut + 40 :]):
        parse_exif(damaged)
        updated, _ = updated_exif(damaged, 5, 6)
        assert len(updated) <= len(damaged)
        assert with_tags(damaged, [text_tag(305, "program")]) is not None


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WebP"])
def test_sizes_in_exif_become_those_of_a_region(tmp_path: Path, source: str) -> None:
    before = tmp_path / f"in{SUFFIXES[source]}"
    WRITERS[source](before)
    for name in ("out.png", "out.jpg", "out.webp", "out.tif"):
        filter_file(before, tmp_path / name, Gaussian(1), region=(3, 4, 20, 10))
        with Image.open(tmp_path / name) as image:
            camera = image.getexif().get_ifd(ExifTags.IFD.Exif)
        assert (camera[40962], camera[40963]) == (20, 10)


def test_maker_notes_stay_where_they_were(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "in.jpg")
    filter_file(tmp_path / "in.jpg", tmp_path / "out.png", Gaussian(1))
    with Image.open(tmp_path / "in.jpg") as before, Image.open(tmp_path / "out.png") as after:
        blocks = [image.info["exif"].removeprefix(b"Exif\0\0") for image in (before, after)]
    assert blocks[0].index(MAKER_NOTE) == blocks[1].index(MAKER_NOTE)


def test_what_jpeg_files_hold_beside(tmp_path: Path) -> None:
    extra = b"".join(
        marker + struct.pack(">H", len(data) + 2) + data
        for marker, data in {
            b"\xff\xeb": b"a signature",
            b"\xff\xe1": b"http://ns.adobe.com/xmp/extension/\0more",
        }.items()
    )
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", extra=extra)
    report = filter_file(tmp_path / "in.jpg", tmp_path / "out.jpg", Gaussian(1))
    assert report.notices == ("metadata that are not kept in JPEG: APP11, the further parts of XMP",)


def test_further_images_are_said_to_be_lost(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise((20, 30), seed=number)) for number in range(3)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    report = filter_file(tmp_path / "in.gif", tmp_path / "out.png", Gaussian(1))
    assert "only the first image of the file is kept" in report.notices


def test_resources_that_are_damaged_stay() -> None:
    whole = resource(1, b"first") + PREVIEW + resource(2, b"second")
    assert updated_resources(whole)[0] == resource(1, b"first") + resource(2, b"second")
    for damaged in (b"8BIM", whole[:-3] + b"", resource(1, b"first") + b"XXXX" + PREVIEW, b""):
        kept, _ = updated_resources(damaged)
        assert (kept or b"").startswith(damaged[:4])


def test_large_resources_are_split(tmp_path: Path) -> None:
    large = RESOURCES + resource(1, np.random.default_rng(0).bytes(150_001))
    exif = Image.Exif()
    exif[34377] = large
    Image.fromarray(PIXELS).save(tmp_path / "in.tif", exif=exif.tobytes())
    filter_file(tmp_path / "in.tif", tmp_path / "out.jpg", Gaussian(1))
    filter_file(tmp_path / "out.jpg", tmp_path / "back.tif", Gaussian(1))
    with Image.open(tmp_path / "back.tif") as image:
        assert bytes(image.tag_v2[34377]) == large


def test_damaged_chunks_are_left_out_with_a_notice(tmp_path: Path) -> None:
    chunks = chunk(b"iTXt", b"key\0\0") + chunk(b"tEXt", b"Title\0kept")
    (tmp_path / "in.png").write_bytes(png(SMALL, before=chunks))
    report = filter_file(tmp_path / "in.png", tmp_path / "out.tif", Gaussian(1))
    assert report.notices == ("metadata that are not kept in TIFF: iTXt (damaged)",)
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert tiff.pages.first.tags["DocumentName"].value == "kept"
