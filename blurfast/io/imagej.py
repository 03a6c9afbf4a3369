"""ImageJ's description of a stack, and the metadata that it keeps in two tags of its own.

The tags hold a table of what there is, and after it the blocks themselves, whose sizes are in the other tag. The
format is that of ``ij.io.TiffEncoder`` and ``TiffDecoder`` in https://github.com/imagej/ImageJ.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from blurfast.io.stacks import Description, OutdatedError, StackChanges, ordered_sub_stack
from blurfast.io.tiff_tags import BYTE, LONG, Tag

METADATA_SIZES, METADATA = 50838, 50839

_AXES = {"c": "channels", "z": "slices", "t": "frames"}
_ORIGINS = {"xorigin": "column_start", "yorigin": "row_start"}
_RANGE_LINES, _CALIBRATION_LINES = ("min", "max"), ("cf", "vunit", *(f"c{number}" for number in range(10)))

# The same wherever the file keeps what they speak of, so that each is given once.
_RANGES_LOST = "ImageJ's display ranges are not kept, since the samples mean something else now"
_CALIBRATION_LOST = "ImageJ's calibration is not kept, since the samples mean something else now"

_LABELS, _RANGES, _LUTS, _ROI, _OVERLAY = b"labl", b"rang", b"luts", b"roi ", b"over"
_NAMES = {_LABELS: "labels", _RANGES: "display ranges", _LUTS: "colour tables"}


class _Stack(NamedTuple):
    """The planes that a description speaks of: the keys of its axes, slowest first, and their sizes."""

    axes: tuple[str, ...]
    sizes: tuple[int, ...]


def is_imagej(text: bytes) -> bool:
    """Return whether a description is ImageJ's."""
    return text.startswith(b"ImageJ=")


def updated_imagej(text: bytes, changes: StackChanges) -> Description:
    """Return a description that is true of an output.

    Raises
    ------
    OutdatedError
        If it cannot be made true.
    """
    if changes.is_none:
        return Description(text, [])
    lines = text.rstrip(b"\0").decode("latin-1").split("\n")
    values = dict(line.partition("=")[::2] for line in lines)
    replaced: dict[str, str | None] = {}
    if changes.is_excerpt:
        replaced |= _excerpt_lines(values, changes.pages)
    if changes.is_rescaled:
        replaced |= dict.fromkeys((*_RANGE_LINES, *_CALIBRATION_LINES))
    if changes.region is not None:
        for key, edge in _ORIGINS.items():
            if key in values:
                replaced[key] = repr(_number(values[key]) - getattr(changes.region, edge))
    kept = (_replaced_line(line, replaced) for line in lines)
    dropped = {key for key, value in replaced.items() if value is None and key in values}
    notices = [_RANGES_LOST] if dropped.intersection(_RANGE_LINES) else []
    notices += [_CALIBRATION_LOST] if dropped.intersection(_CALIBRATION_LINES) else []
    return Description("\n".join(line for line in kept if line is not None).encode("latin-1") + b"\0", notices)


def _replaced_line(line: str, replaced: dict[str, str | None]) -> str | None:
    key = line.partition("=")[0]
    if key not in replaced:
        return line
    return None if replaced[key] is None else f"{key}={replaced[key]}"


def _excerpt_lines(values: dict[str, str], pages: Sequence[int]) -> dict[str, str | None]:
    """Return the lines that tell the axes of the stack that is left."""
    stack = _stack_of(values)
    kept = ordered_sub_stack(pages, stack.sizes)
    if kept is None:
        raise OutdatedError("the pages that are left are no regular part of its stack")
    sizes = dict(zip(stack.axes, map(len, kept), strict=True))
    return {key: str(value) for key, value in {"images": len(pages), **sizes}.items() if key in values}


def _stack_of(values: dict[str, str]) -> _Stack:
    """Return the stack that the lines of a description tell of."""
    images = int(_number(values.get("images", "1")))
    order = values.get("order", "czt").lower()
    order = order if sorted(order) == sorted(_AXES) else "czt"
    axes = tuple(_AXES[letter] for letter in reversed(order))
    sizes = tuple(int(_number(values.get(axis, "1"))) for axis in axes)
    if min(images, *sizes) < 1:
        raise OutdatedError("its sizes are not possible")
    if math.prod(sizes) == images:
        return _Stack(axes, sizes)
    if len([size for size in sizes if size > 1]) > 1:
        raise OutdatedError("its numbers of channels, slices and frames contradict that of its images")
    return _Stack(("slices",), (images,))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise OutdatedError(f"{text!r} is no number in it") from error
    if not math.isfinite(number):
        raise OutdatedError(f"{text!r} is no number in it")
    return number


class _Block(NamedTuple):
    """Something that ImageJ keeps, and the kind of it."""

    kind: bytes
    data: bytes


def updated_metadata(
    sizes: Tag, metadata: Tag, order: str, description: bytes, changes: StackChanges
) -> tuple[list[Tag], list[str]]:
    """Return the two tags of ImageJ's metadata as they are true of an output, and what is to be said about it.

    Parameters
    ----------
    sizes, metadata
        The tags.
    order
        The file's byte order.
    description
        That of the input.
    changes
        What the output shows.
    """
    if changes.is_none:
        return [sizes, metadata], []
    blocks = _blocks(sizes, metadata, order)
    if blocks is None:
        return [], ["ImageJ's metadata are damaged, and not kept"]
    kept, dropped, notices = blocks, dict[str, None](), []
    if changes.is_excerpt or changes.region is not None:
        kept = [block for block in kept if block.kind not in (_ROI, _OVERLAY)]
        if len(kept) < len(blocks):
            dropped["regions of interest and overlays"] = None
    if changes.is_rescaled and any(block.kind == _RANGES for block in kept):
        kept = [block for block in kept if block.kind != _RANGES]
        notices.append(_RANGES_LOST)
    if changes.is_excerpt:
        kept, lost = _of_pages(kept, description, changes.pages, order)
        dropped |= dict.fromkeys(lost)
    notices += [f"ImageJ's {name} no longer fit the image, and are not kept" for name in dropped]
    return (_tags(kept, order) if kept else []), notices


def _blocks(sizes: Tag, metadata: Tag, order: str) -> list[_Block] | None:
    """Return what ImageJ's metadata consist of, in their order; None if they are damaged."""
    data = metadata.value
    if sizes.value_type != LONG or sizes.value_count < 1 or data[:4] != _in_order(b"IJIJ", order):
        return None
    header_size, *block_sizes = struct.unpack(f"{order}{sizes.value_count}I", sizes.value)
    if header_size + sum(block_sizes) > len(data) or header_size % 8 != 4:
        return None
    kinds: list[bytes] = []
    for kind, count in struct.iter_unpack(f"{order}4sI", data[4:header_size]):
        if count > len(block_sizes):
            return None
        kinds += [_in_order(kind, order)] * count
    if len(kinds) != len(block_sizes):
        return None
    blocks = []
    start = header_size
    for kind, size in zip(kinds, block_sizes, strict=True):
        blocks.append(_Block(kind, data[start : start + size]))
        start += size
    return blocks


def _of_pages(
    blocks: Sequence[_Block], description: bytes, pages: Sequence[int], order: str
) -> tuple[list[_Block], list[str]]:
    """Leave out what speaks of pages or channels that are not in the output, and name what cannot be divided."""
    channels = _channels_of(description, pages)
    kept: list[_Block] = []
    lost = []
    for kind, of_kind in _grouped(blocks).items():
        chosen: Sequence[_Block] | None = of_kind
        if kind == _LABELS:
            chosen = _chosen(of_kind, pages)
        elif kind == _LUTS:
            chosen = _chosen(of_kind, channels)
        elif kind == _RANGES:
            chosen = _chosen_ranges(of_kind[0], channels, order)
        if chosen is None:
            lost.append(_NAMES[kind])
        kept += chosen or []
    return kept, lost


def _channels_of(description: bytes, pages: Sequence[int]) -> Sequence[int]:
    """Return which channels are left; none where that cannot be told."""
    values = dict(line.partition("=")[::2] for line in description.rstrip(b"\0").decode("latin-1").split("\n"))
    try:
        stack = _stack_of(values)
    except OutdatedError:
        return []
    indices = ordered_sub_stack(pages, stack.sizes)
    if indices is None:
        return []
    return indices[stack.axes.index("channels")] if "channels" in stack.axes else [0]


def _grouped(blocks: Sequence[_Block]) -> dict[bytes, list[_Block]]:
    """Return the blocks of each kind."""
    grouped: dict[bytes, list[_Block]] = {}
    for block in blocks:
        grouped.setdefault(block.kind, []).append(block)
    return grouped


def _chosen(blocks: Sequence[_Block], indices: Sequence[int]) -> list[_Block] | None:
    """Return some of the blocks; None where they do not go so far."""
    return [blocks[index] for index in indices] if indices and max(indices) < len(blocks) else None


def _chosen_ranges(block: _Block, channels: Sequence[int], order: str) -> list[_Block] | None:
    """Return the display ranges of some channels; None where there are none for them."""
    if not channels or len(block.data) % 16 or len(block.data) < 16 * (max(channels) + 1):
        return None
    ranges = list(struct.iter_unpack(f"{order}2d", block.data))
    return [_Block(_RANGES, b"".join(struct.pack(f"{order}2d", *ranges[channel]) for channel in channels))]


def _tags(blocks: Sequence[_Block], order: str) -> list[Tag]:
    """Return the tags that hold blocks, those of a kind together."""
    header, data = _in_order(b"IJIJ", order), b""
    sizes = [0]
    for kind, of_kind in _grouped(blocks).items():
        header += struct.pack(f"{order}4sI", _in_order(kind, order), len(of_kind))
        data += b"".join(block.data for block in of_kind)
        sizes += [len(block.data) for block in of_kind]
    sizes[0] = len(header)
    packed = struct.pack(f"{order}{len(sizes)}I", *sizes)
    return [Tag(METADATA_SIZES, LONG, len(sizes), packed), Tag(METADATA, BYTE, len(header + data), header + data)]


def _in_order(kind: bytes, order: str) -> bytes:
    """Return four letters as a file holds them, which takes them for a number."""
    return kind if order == ">" else kind[::-1]
