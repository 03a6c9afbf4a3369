"""The tags that tell where on Earth an image is, and those of GDAL beside them.

The georeference is that of OGC's GeoTIFF standard 1.1; RPCs are described in GDAL's "RPCs in GeoTIFF".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.io.tiff_tags import ASCII, DOUBLE, GDAL_NODATA, Tag
from blurfast.io.xml_edits import XmlEdits, XmlError, parse_xml
from blurfast.pixels import Window

PIXEL_SCALE, TIE_POINTS, INTERGRAPH_MATRIX, TRANSFORMATION, RPC = 33550, 33922, 33920, 34264, 50844
GDAL_METADATA = 42112

_NUMBERS_PER_TIE_POINT, _NUMBERS_OF_TRANSFORMATION, _NUMBERS_OF_RPC = 6, 16, 92
_LINE_OFFSET, _SAMPLE_OFFSET = 2, 3

_Tags = dict[int, Tag]


def move_georeference(tags: _Tags, region: Window, order: str) -> list[str]:
    """Change the tags of a page so that each pixel of a region keeps its place on Earth; return what is to be said."""
    across, down = float(region.column_start), float(region.row_start)
    _move_tie_points(tags, across, down, order)
    transformation = _doubles(tags.get(TRANSFORMATION), order)
    if transformation is not None and transformation.size == _NUMBERS_OF_TRANSFORMATION:
        matrix = transformation.reshape(4, 4)
        matrix[:, 3] += matrix[:, 0] * across + matrix[:, 1] * down
        tags[TRANSFORMATION] = _with_doubles(tags[TRANSFORMATION], transformation, order)
    coefficients = _doubles(tags.get(RPC), order)
    if coefficients is not None and coefficients.size == _NUMBERS_OF_RPC:
        coefficients[_LINE_OFFSET] -= down
        coefficients[_SAMPLE_OFFSET] -= across
        tags[RPC] = _with_doubles(tags[RPC], coefficients, order)
    if tags.pop(INTERGRAPH_MATRIX, None) is None:
        return []
    return ["the georeference in an Intergraph matrix does not fit a part of the image, and is not kept"]


def _move_tie_points(tags: _Tags, across: float, down: float, order: str) -> None:
    points = _doubles(tags.get(TIE_POINTS), order)
    if points is None or points.size % _NUMBERS_PER_TIE_POINT:
        return
    scale = _doubles(tags.get(PIXEL_SCALE), order)
    if points.size == _NUMBERS_PER_TIE_POINT and scale is not None and scale.size >= 2 and scale[:2].all():
        # Some readers take the only tie point for that of the first pixel without a look at it, so the place on Earth
        # has to move rather than the pixel.
        points[3] += across * scale[0]
        points[4] -= down * scale[1]
    else:
        points[0::_NUMBERS_PER_TIE_POINT] -= across
        points[1::_NUMBERS_PER_TIE_POINT] -= down
    tags[TIE_POINTS] = _with_doubles(tags[TIE_POINTS], points, order)


def _doubles(tag: Tag | None, order: str) -> NDArray[np.float64] | None:
    """Return the numbers of a tag, to be changed; None if they are not of the type that GeoTIFF prescribes."""
    if tag is None or tag.value_type != DOUBLE:
        return None
    return np.frombuffer(tag.value, f"{order}f8").astype(np.float64)


def _with_doubles(tag: Tag, numbers: NDArray[np.float64], order: str) -> Tag:
    return tag._replace(value=numbers.astype(f"{order}f8").tobytes())


def update_gdal_metadata(tags: _Tags, *, is_rescaled: bool) -> list[str]:
    """Take out of GDAL's own metadata what is no longer true of the pixels; return what is to be said about it."""
    tag = tags.get(GDAL_METADATA)
    if tag is None:
        return []
    document = tag.value.rstrip(b"\0")
    try:
        items = parse_xml(document).find("Item")
    except XmlError as error:
        del tags[GDAL_METADATA]
        return [f"GDAL_METADATA is not kept: it {error}"]
    edits = XmlEdits(document)
    notices: dict[str, None] = {}
    removed = 0
    for item in items:
        attributes = item.attributes
        if attributes.get("name", "").startswith("STATISTICS_"):
            notices["statistics in GDAL_METADATA, which are those of the image before the filter, are not kept"] = None
        elif is_rescaled and attributes.get("role") in ("scale", "offset", "unittype"):
            notices["scale, offset and unit in GDAL_METADATA are not kept: the samples mean something else now"] = None
        else:
            continue
        edits.remove(item)
        removed += 1
    if removed and removed == len(items):
        del tags[GDAL_METADATA]
    elif removed:
        changed = edits.applied() + b"\0"
        tags[GDAL_METADATA] = Tag(GDAL_METADATA, ASCII, len(changed), changed)
    return list(notices)


def check_nodata(tags: _Tags, dtype: np.dtype[Any], *, is_rescaled: bool) -> list[str]:
    """Drop the value that stands for missing pixels where there is none any more; return what is to be said."""
    tag = tags.get(GDAL_NODATA)
    if tag is None:
        return []
    text = tag.value.rstrip(b"\0 ").decode("latin-1").strip()
    if is_rescaled or not _is_value_of(text, dtype):
        del tags[GDAL_NODATA]
        return [f"the value {text} for missing pixels (GDAL_NODATA) is none of the output's, and is not kept"]
    return [f"missing pixels (GDAL_NODATA {text}) are filtered like all others, and bleed into their neighbours"]


def _is_value_of(text: str, dtype: np.dtype[Any]) -> bool:
    try:
        value = float(text)
    except ValueError:
        return True  # nobody knows what it stands for
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max
