"""OME-XML of outputs: true, valid, and with all that a user has put into it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from blurfast import Gaussian, filter_file, gaussian
from blurfast.io.stacks import sub_stack
from blurfast.io.xml_edits import XmlEdits, XmlError, parse_xml
from tests.metadata_corpus import HEIGHT, WIDTH, write_ome
from tests.tiff_corpus import noise

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
NAMES = {"o": NAMESPACE}
REGION = (8, 4, 24, 16)


def filtered(path: Path, name: str = "out.ome.tif", **options: Any) -> tuple[Path, tuple[str, ...]]:
    target = path.with_name(name)
    report = filter_file(path, target, Gaussian(1), overwrite=True, **options)
    return target, report.notices


def xml_in(path: Path) -> str:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.description


def root_of(path: Path) -> ET.Element:
    return ET.fromstring(xml_in(path))


def pixels_of(root: ET.Element) -> list[ET.Element]:
    return root.findall("o:Image/o:Pixels", NAMES)


def write_with(path: Path, xml: str, pages: int = 6, **options: Any) -> np.ndarray:
    """Write pages of noise, of which the first one has a description."""
    pixels = noise((pages, HEIGHT, WIDTH), 4000)
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pixels):
            writer.write(page, metadata=None, description=xml.encode() if number == 0 else None, **options)
    return pixels


def document(*images: str, more: str = "", uuid: str = ' UUID="urn:uuid:11111111-1111-1111-1111-111111111111"') -> str:
    return f'<OME xmlns="{NAMESPACE}"{uuid}>{"".join(images)}{more}</OME>'


def image(number: int, places: str, sizes: str = 'SizeZ="3" SizeC="2" SizeT="1"', more: str = "") -> str:
    channels = "".join(f'<Channel ID="Channel:{number}:{channel}" SamplesPerPixel="1"/>' for channel in range(2))
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="{WIDTH}" SizeY="{HEIGHT}" {sizes}>{channels}{places}</Pixels>{more}</Image>'
    )


# ------------------------------------------------------------------------------------- what tifffile makes of it


@pytest.mark.parametrize(
    ("options", "shape", "axes", "dtype"),
    [
        ({}, (2, 3, 2, HEIGHT, WIDTH), "TZCYX", "uint16"),
        ({"region": REGION}, (2, 3, 2, 16, 24), "TZCYX", "uint16"),
        ({"dtype": "float32"}, (2, 3, 2, HEIGHT, WIDTH), "TZCYX", "float32"),
        ({"page": "1,3,5,7,9,11"}, (2, 3, HEIGHT, WIDTH), "TZYX", "uint16"),
        ({"page": "6-11"}, (3, 2, HEIGHT, WIDTH), "ZCYX", "uint16"),
        ({"page": "10,4", "dtype": "uint8", "region": REGION}, (2, 16, 24), "TYX", "uint8"),
        ({"page": 7}, (HEIGHT, WIDTH), "YX", "uint16"),
    ],
)
def test_series(tmp_path: Path, options: dict[str, Any], shape: tuple[int, ...], axes: str, dtype: str) -> None:
    write_ome(tmp_path / "in.ome.tif")
    target, notices = filtered(tmp_path / "in.ome.tif", **options)
    assert not any("OME" in notice for notice in notices)
    with tifffile.TiffFile(target) as tiff:
        (series,) = tiff.series
        assert (series.kind, series.shape, series.axes, series.dtype) == ("ome", shape, axes, np.dtype(dtype))


@pytest.mark.parametrize(
    "options", [{}, {"region": REGION, "dtype": "float64"}, {"page": "1,3,5"}, {"page": "9,5,3,11"}]
)
def test_schema(tmp_path: Path, options: dict[str, Any]) -> None:
    xmlschema = pytest.importorskip("xmlschema")
    package = importlib.util.find_spec("ome_types")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("ome-types, which has the schema, is not installed")
    schema = xmlschema.XMLSchema(str(Path(package.submodule_search_locations[0]) / "ome-2016-06.xsd"))
    write_ome(tmp_path / "in.ome.tif")
    assert list(schema.iter_errors(xml_in(tmp_path / "in.ome.tif"))) == []
    target, _ = filtered(tmp_path / "in.ome.tif", **options)
    assert list(schema.iter_errors(xml_in(target))) == []


def test_planes_go_where_the_description_says(tmp_path: Path) -> None:
    """Pages in an order of their own, of which some are left."""
    order = [3, 0, 5, 1, 4, 2]
    places = "".join(
        f'<TiffData FirstZ="{plane % 3}" FirstC="{plane // 3}" IFD="{page}" PlaneCount="1"/>'
        for page, plane in enumerate(order)
    )
    pixels = write_with(tmp_path / "in.ome.tif", document(image(0, places)))
    target, _ = filtered(tmp_path / "in.ome.tif", page="0,2,4,5")  # planes 3, 5, 4, 2: no regular part
    assert xml_in(target) == ""
    target, _ = filtered(tmp_path / "in.ome.tif", page="0,2,1,5")  # planes 3, 5, 0, 2: slices 0 and 2
    with tifffile.TiffFile(target) as tiff:
        (series,) = tiff.series
        result = series.asarray()
    assert (series.kind, series.axes) == ("ome", "CZYX")
    expected = [[gaussian(pixels[order.index(3 * channel + z)], 1) for z in (0, 2)] for channel in (0, 1)]
    np.testing.assert_array_equal(result, expected)


# ------------------------------------------------------------------------------------------- what is updated


def test_names_of_the_file(tmp_path: Path) -> None:
    write_ome(tmp_path / "in.ome.tif")
    old = root_of(tmp_path / "in.ome.tif").attrib["UUID"]
    place = f'<TiffData IFD="0" PlaneCount="6"><UUID FileName="in.ome.tif">{old}</UUID></TiffData>'
    write_with(tmp_path / "in.ome.tif", document(image(0, place), uuid=f' UUID="{old}"'))
    target, notices = filtered(tmp_path / "in.ome.tif", "out & ü.ome.tif")
    assert notices == ()
    root = root_of(target)
    (named,) = root.findall(".//o:UUID", NAMES)
    assert named.attrib["FileName"] == "out & ü.ome.tif"
    assert named.text == root.attrib["UUID"] != old
    assert re.fullmatch("urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", root.attrib["UUID"])
    again, _ = filtered(tmp_path / "in.ome.tif")
    assert root_of(again).attrib["UUID"] != root.attrib["UUID"]


def test_a_file_that_was_renamed_is_still_itself(tmp_path: Path) -> None:
    place = '<TiffData IFD="0" PlaneCount="6"><UUID FileName="before.ome.tif">urn:uuid:1</UUID></TiffData>'
    write_with(tmp_path / "in.ome.tif", document(image(0, place), uuid=""))
    target, notices = filtered(tmp_path / "in.ome.tif")
    assert notices == ()
    (named,) = root_of(target).findall(".//o:UUID", NAMES)
    assert named.attrib["FileName"] == "out.ome.tif"


def test_all_else_stays_byte_by_byte(tmp_path: Path) -> None:
    strange = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- a comment with <OME> in it -->\n'
        f'<ome:OME xmlns:ome="{NAMESPACE}" xmlns:a=\'urn:a\' Creator = "me > you">'
        '<ome:Image ID="Image:0"><ome:Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="56" SizeY="40"'
        ' SizeZ="6" SizeC="1" SizeT="1"><ome:Channel ID="Channel:0:0"/><ome:TiffData/></ome:Pixels></ome:Image>'
        '<ome:StructuredAnnotations><ome:XMLAnnotation ID="Annotation:0"><ome:Value><a:deep b="1"><![CDATA[<x>&]]>'
        "</a:deep><!-- here, too --></ome:Value></ome:XMLAnnotation></ome:StructuredAnnotations></ome:OME>"
    )
    write_with(tmp_path / "in.ome.tif", strange)
    target, _ = filtered(tmp_path / "in.ome.tif")
    assert xml_in(target) == strange
    target, _ = filtered(tmp_path / "in.ome.tif", region=REGION, page="1-3")
    expected = strange.replace('SizeX="56" SizeY="40"', 'SizeX="24" SizeY="16"').replace('SizeZ="6"', 'SizeZ="3"')
    assert xml_in(target) == expected.replace("<ome:TiffData/>", '<ome:TiffData IFD="0" PlaneCount="3"/>')


def test_regions_move_regions_of_interest(tmp_path: Path) -> None:
    shapes = (
        '<Rectangle ID="Shape:0" X="10" Y="5.5" Width="3" Height="2"/><Line ID="Shape:1" X1="8" Y1="4" X2="9" Y2="6"/>'
        '<Polygon ID="Shape:2" Points="8,4 10.5,6 9,7"/><Ellipse ID="Shape:3" X="1" Y="2" RadiusX="3" RadiusY="4">'
        '<Transform A00="2" A10="0" A01="0" A11="2" A02="20" A12="10"/></Ellipse>'
    )
    more = f'<ROI ID="ROI:0"><Union>{shapes}</Union></ROI>'
    write_with(tmp_path / "in.ome.tif", document(image(0, '<TiffData IFD="0" PlaneCount="6"/>'), more=more))
    target, notices = filtered(tmp_path / "in.ome.tif", region=REGION)
    assert notices == ()
    rectangle, line, polygon, ellipse = next(iter(root_of(target).iter(f"{{{NAMESPACE}}}Union")))
    assert {key: float(rectangle.attrib[key]) for key in ("X", "Y", "Width")} == {"X": 2, "Y": 1.5, "Width": 3}
    assert [float(line.attrib[key]) for key in ("X1", "Y1", "X2", "Y2")] == [0, 0, 1, 2]
    assert polygon.attrib["Points"] == "0.0,0.0 2.5,2.0 1.0,3.0"
    assert (ellipse.attrib["X"], ellipse.attrib["RadiusX"]) == ("1", "3")
    assert [float(ellipse[0].attrib[key]) for key in ("A00", "A02", "A12")] == [2, 12, 6]


def test_hashes_of_planes_are_removed(tmp_path: Path) -> None:
    plane = '<Plane TheZ="0" TheC="0" TheT="0" ExposureTime="3"><HashSHA1>00</HashSHA1></Plane>'
    write_with(tmp_path / "in.ome.tif", document(image(0, f'<TiffData IFD="0" PlaneCount="6"/>{plane}')))
    target, _ = filtered(tmp_path / "in.ome.tif")
    (kept,) = root_of(target).findall(".//o:Plane", NAMES)
    assert (kept.attrib["ExposureTime"], len(kept)) == ("3", 0)


def test_images_without_pages_go(tmp_path: Path) -> None:
    places = ['<TiffData IFD="0" PlaneCount="3"/>', '<TiffData IFD="3" PlaneCount="3"/>']
    sizes = 'SizeZ="3" SizeC="1" SizeT="1"'
    wells = '<Plate ID="Plate:0"><Well ID="Well:0" Column="0" Row="0"><WellSample ID="WellSample:0" Index="0">{}'
    wells += "</WellSample></Well></Plate>"
    references = "".join(wells.format(f'<ImageRef ID="Image:{number}"/>') for number in (0, 1))
    text = document(*(image(number, place, sizes) for number, place in enumerate(places)), more=references)
    write_with(tmp_path / "in.ome.tif", text)
    target, _ = filtered(tmp_path / "in.ome.tif", page="3-5")
    root = root_of(target)
    assert [found.attrib["ID"] for found in root.findall("o:Image", NAMES)] == ["Image:1"]
    assert [found.attrib["ID"] for found in root.iter(f"{{{NAMESPACE}}}ImageRef")] == ["Image:1"]
    assert root.find(".//o:TiffData", NAMES).attrib == {"IFD": "0", "PlaneCount": "3"}  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------- several files


def test_files_of_a_set_become_files_of_their_own(tmp_path: Path) -> None:
    uuids = [f"urn:uuid:{digit * 8}-1111-1111-1111-111111111111" for digit in "12"]
    places = "".join(
        f'<TiffData FirstC="{number}" IFD="0" PlaneCount="3"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for number, (name, uuid) in enumerate(zip(("in.ome.tif", "other.ome.tif"), uuids, strict=True))
    )
    write_with(tmp_path / "in.ome.tif", document(image(0, places), uuid=f' UUID="{uuids[0]}"'), pages=3)
    target, notices = filtered(tmp_path / "in.ome.tif")
    assert notices == ("the OME-XML no longer speaks of planes in other files: other.ome.tif",)
    (pixels,) = pixels_of(root_of(target))
    assert (pixels.attrib["SizeZ"], pixels.attrib["SizeC"]) == ("3", "1")
    with tifffile.TiffFile(target) as tiff:
        assert (tiff.series[0].kind, tiff.series[0].shape) == ("ome", (3, HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("xml", "options", "reason"),
    [
        (
            f'<OME xmlns="{NAMESPACE}"><BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:1"/></OME>',
            {},
            "a.companion",
        ),
        ('<!DOCTYPE OME [<!ENTITY a "b">]><OME>&a;</OME>', {"page": 0}, "document type"),
        ("<OME><Image></OME>", {"page": 0}, "not well-formed"),
        (document(image(0, "")), {}, "on which pages"),
        (document(image(0, "<TiffData/>")), {"dtype": "float16"}, "type float16"),
        (document(image(0, '<TiffData IFD="x"/>')), {"page": 0}, "no number"),
        (document(image(0, "<TiffData/>", 'SizeZ="-3" SizeC="2" SizeT="1"')), {"page": 0}, "not possible"),
        (document(image(0, '<TiffData FirstZ="9"/>')), {"page": 0}, "outside"),
        (document(image(0, '<TiffData IFD="0" PlaneCount="6"/>')), {"page": "0,1,3"}, "no regular part"),
        (document(image(0, '<TiffData IFD="0" PlaneCount="3"/>')), {"page": "3,4"}, "no page of the output"),
        (document(image(0, "<TiffData/>"), more="<A>" * 300 + "</A>" * 300), {"page": 0}, "nested"),
    ],
)
def test_what_cannot_be_true_is_dropped_with_a_notice(
    tmp_path: Path, xml: str, options: dict[str, Any], reason: str
) -> None:
    write_with(tmp_path / "in.ome.tif", xml)
    target, notices = filtered(tmp_path / "in.ome.tif", **options)
    assert xml_in(target) == ""
    assert len(notices) == 1
    assert notices[0].startswith("OME-XML is not kept: ")
    assert reason in notices[0]


def test_what_is_not_understood_stays_where_nothing_changes(tmp_path: Path) -> None:
    write_with(tmp_path / "in.ome.tif", "<OME><Image></OME>")
    target, notices = filtered(tmp_path / "in.ome.tif")
    assert xml_in(target) == "<OME><Image></OME>"
    assert any("not well-formed" in notice for notice in notices)


def test_huge_numbers_of_planes_take_no_time(tmp_path: Path) -> None:
    text = document(image(0, '<TiffData IFD="0" PlaneCount="2000000000"/>', 'SizeZ="1000000000" SizeC="2" SizeT="1"'))
    write_with(tmp_path / "in.ome.tif", text)
    target, _ = filtered(tmp_path / "in.ome.tif", page="1-2")
    (pixels,) = pixels_of(root_of(target))
    assert pixels.attrib["SizeZ"] == "2"


# -------------------------------------------------------------------------------------------------- parts


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_sub_stacks(sizes: list[int], data: st.DataObject) -> None:
    planes = np.arange(np.prod(sizes)).reshape(sizes)
    chosen = [sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))) for size in sizes]
    numbers = planes[np.ix_(*chosen)].ravel().tolist()
    assert sub_stack(numbers, sizes) == chosen
    missing = [plane for plane in planes.ravel().tolist() if plane not in numbers]
    if missing and len(numbers) > 1:
        others = sub_stack([*numbers[:-1], missing[0]], sizes)
        assert others is None or planes[np.ix_(*others)].size == len(numbers)


def test_edits_of_documents() -> None:
    text = b"""<a x = '1' y="a>b" ><b/><c z="2">old</c><b/></a>"""
    root = parse_xml(text)
    first, middle, last = root.children
    edits = XmlEdits(text)
    edits.set(root, {"x": "a&b", "new": 5})
    edits.set(middle, {"z": None})
    edits.set_text(middle, "<new>")
    edits.remove(first)
    edits.insert(last.start, "<d/>")
    edits.remove(last)
    assert edits.applied() == b"""<a new="5" x = 'a&amp;b' y="a>b" ><c>&lt;new&gt;</c><d/></a>"""


@pytest.mark.parametrize("text", [b"", b"<a>", b"<a></b>", "<a/>".encode("utf-16"), b"<a>\xff</a>", b"<a b=1/>"])
def test_damaged_documents(text: bytes) -> None:
    with pytest.raises(XmlError):
        parse_xml(text)
