"""OME-XML: the description of the first page of OME-TIFF files, and what becomes of it where the images change.

The format is https://docs.openmicroscopy.org/ome-model/. What stays true is left as it is, byte by byte; positions of
the stage, for instance, tell where the stage was.
"""

from __future__ import annotations

import bisect
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from blurfast.io.stacks import Description, OutdatedError, StackChanges, sub_stack
from blurfast.io.xml_edits import Element, XmlEdits, XmlError, parse_xml
from blurfast.pixels import Window

_TYPES = {
    "int8": "int8", "int16": "int16", "int32": "int32", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32",
    "float32": "float", "float64": "double",
}  # fmt: skip
_MOST_PLANES = 1 << 31

_COORDINATES = {
    "Rectangle": ("X", "Y"),
    "Ellipse": ("X", "Y"),
    "Point": ("X", "Y"),
    "Label": ("X", "Y"),
    "Mask": ("X", "Y"),
    "Line": ("X1", "Y1", "X2", "Y2"),
    "Polygon": (),
    "Polyline": (),
}
"""The shapes that regions of interest are made of, and the attributes that hold their coordinates, across and down."""


def is_ome(text: bytes) -> bool:
    """Return whether a description is OME-XML."""
    return text.rstrip(b"\0 \r\n\t").endswith((b"OME>", b"OME:OME>")) and b"<" in text[:1000]


def updated_ome(text: bytes, changes: StackChanges) -> Description:
    """Return OME-XML that is true of an output.

    Raises
    ------
    OutdatedError
        If it cannot be made true.
    """
    try:
        root = parse_xml(text)
    except XmlError as error:
        if changes.is_none and not changes.is_renumbered:
            return Description(text, [f"the OME-XML {error}: it is kept as it is, and may name another file"])
        raise OutdatedError(f"it {error}") from error
    for element in root.find("BinaryOnly"):
        companion = element.attributes.get("MetadataFile", "another file")
        raise OutdatedError(f"it only refers to {companion}, where the output is not known")
    return _OmeUpdate(text, root, changes).description()


class _OmeUpdate:
    """One document on its way to the output."""

    def __init__(self, text: bytes, root: Element, changes: StackChanges) -> None:
        self._text = text
        self._root = root
        self._changes = changes
        self._edits = XmlEdits(text)
        self._old_uuid = root.attributes.get("UUID")
        named = {element.text for element in root.walk() if element.name == "UUID"}
        # A single file that has been renamed and does not tell its own UUID is still the only one.
        self._own_uuids = named if self._old_uuid is None and len(named) == 1 else {self._old_uuid}
        self._new_uuid = f"urn:uuid:{uuid.uuid4()}"
        self._other_files: dict[str, None] = {}

    def description(self) -> Description:
        """Return the document with all changes."""
        if self._old_uuid is not None:
            self._edits.set(self._root, {"UUID": self._new_uuid})
        self._update_images()
        for element in self._root.walk():
            if element.name == "HashSHA1":  # of the pixels of a plane, before they were filtered
                self._edits.remove(element)
            elif element.name in _COORDINATES and self._changes.region is not None:
                self._move_shape(element, self._changes.region)
        notices = []
        if self._other_files:
            names = ", ".join(self._other_files)
            notices.append(f"the OME-XML no longer speaks of planes in other files: {names}")
        return Description(self._edits.applied(), notices)

    def _update_images(self) -> None:
        images = self._root.find("Image")
        removed = [image for image in images if not self._update_image(image)]
        if len(removed) == len(images):
            raise OutdatedError("it speaks of no page of the output")
        names = {image.attributes.get("ID") for image in removed}
        for image in removed:
            self._edits.remove(image)
        if removed:
            for element in self._root.walk():
                if element.name == "ImageRef" and element.attributes.get("ID") in names:
                    self._edits.remove(element)

    def _update_image(self, image: Element) -> bool:
        """Make what is said of an image true; return whether anything of it is left."""
        planes = 0
        for pixels in image.find("Pixels"):
            planes += self._update_planes(pixels)
            self._update_pixels(pixels)
        return planes > 0

    def _update_pixels(self, pixels: Element) -> None:
        values: dict[str, object] = {}
        if self._changes.region is not None:
            values |= {"SizeX": self._changes.region.columns, "SizeY": self._changes.region.rows}
        if self._changes.dtype not in _TYPES:
            raise OutdatedError(f"OME knows no pixels of type {self._changes.dtype}")
        stated = pixels.attributes.get("Type")
        if stated is not None and stated != _TYPES[self._changes.dtype]:
            values["Type"] = _TYPES[self._changes.dtype]
        if self._changes.has_dtype or "Type" in values:
            values["SignificantBits"] = None
        self._edits.set(pixels, values)

    def _update_planes(self, pixels: Element) -> int:
        """Let the TIFF data of an image lead to pages of the output; return how many of its planes are left."""
        places = pixels.find("TiffData")
        if not places:
            raise OutdatedError("it does not say on which pages the planes are")
        is_foreign = [self._is_foreign(place) for place in places]
        if not (self._changes.is_excerpt or self._changes.is_renumbered or any(is_foreign)):
            for place in places:
                self._rename(place)
            return 1
        stack = _Stack.of(pixels)
        own = [place for place, foreign in zip(places, is_foreign, strict=True) if not foreign]
        pages = dict(self._pages_of_planes(own, stack))
        if not pages:
            return 0
        kept = sub_stack(sorted(pages), stack.sizes)
        if kept is None:
            raise OutdatedError("the pages that are left are no regular part of its stack")
        self._keep(pixels, stack, kept)
        self._replace_places(pixels, places, stack.ordered_pages(kept, pages), [len(indices) for indices in kept])
        return len(pages)

    def _is_foreign(self, place: Element) -> bool:
        """Return whether the planes are in another file, and remember its name."""
        for named in place.find("UUID"):
            name = named.attributes.get("FileName", "")
            if named.text in self._own_uuids or name.lower() == self._changes.source_name.lower():
                return False
            self._other_files[name or named.text] = None
            return True
        return False

    def _rename(self, place: Element) -> None:
        for named in place.find("UUID"):
            self._edits.set(named, {"FileName": self._changes.file_name})
            self._edits.set_text(named, self._new_uuid)

    def _pages_of_planes(self, places: Sequence[Element], stack: _Stack) -> Iterator[tuple[int, int]]:
        """Yield the number of each plane that is left, and that of its page in the output."""
        by_old_number = sorted(zip(self._changes.pages, self._changes.numbers, strict=True))
        for place in places:
            attributes = place.attributes
            first_page = _integer(attributes, "IFD", 0)
            first_plane = stack.plane({axis: _integer(attributes, f"First{axis}", 0) for axis in "ZCT"})
            default = 1 if "IFD" in attributes else stack.planes - first_plane
            count = _integer(attributes, "PlaneCount", _integer(attributes, "NumPlanes", default))
            for old, new in by_old_number[bisect.bisect_left(by_old_number, (first_page, 0)) :]:
                if old >= first_page + count:
                    break
                yield first_plane + old - first_page, new

    def _keep(self, pixels: Element, stack: _Stack, kept: Sequence[Sequence[int]]) -> None:
        """Let sizes, channels and planes be those that are left."""
        indices = dict(zip(stack.axes, kept, strict=True))
        is_divided = any(element.name.startswith("ModuloAlong") for element in self._root.walk())
        if is_divided and list(map(len, kept)) != list(stack.sizes):
            raise OutdatedError("it divides the axes of its stack further")
        samples = {"Z": 1, "C": stack.samples, "T": 1}
        self._edits.set(pixels, {f"Size{axis}": len(indices[axis]) * samples[axis] for axis in "ZCT"})
        for number, channel in enumerate(pixels.find("Channel")):
            if number not in indices["C"]:
                self._edits.remove(channel)
        new_indices = {axis: {old: new for new, old in enumerate(indices[axis])} for axis in "ZCT"}
        for plane in pixels.find("Plane"):
            attributes = plane.attributes
            place = {axis: new_indices[axis].get(_integer(attributes, f"The{axis}", 0)) for axis in "ZCT"}
            if None in place.values():
                self._edits.remove(plane)
            else:
                self._edits.set(plane, {f"The{axis}": place[axis] for axis in "ZCT"})

    def _replace_places(
        self, pixels: Element, places: Sequence[Element], pages: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """Write anew on which pages the planes are, these in the order of their stack."""
        prefix = self._text[places[0].start + 1 : places[0].name_end].decode().removesuffix("TiffData")
        axes = _axes_of(pixels)
        if all(page == pages[0] + number for number, page in enumerate(pages)):
            written = [f'<{prefix}TiffData IFD="{pages[0]}" PlaneCount="{len(pages)}"/>']
        else:
            written = []
            for number, page in enumerate(pages):
                firsts = zip(axes, _indices_of(number, sizes), strict=True)
                attributes = " ".join(f'First{axis}="{index}"' for axis, index in firsts)
                written.append(f'<{prefix}TiffData {attributes} IFD="{page}" PlaneCount="1"/>')
        self._edits.insert(places[0].start, "".join(written))
        for place in places:
            self._edits.remove(place)

    def _move_shape(self, shape: Element, region: Window) -> None:
        """Let a shape be where it was on the image, now that the image begins elsewhere."""
        across, down = region.column_start, region.row_start
        attributes = shape.attributes
        for transform in shape.find("Transform"):  # the shape's coordinates go through it
            values = transform.attributes
            self._edits.set(transform, {"A02": _moved(values.get("A02", "0"), across)})
            self._edits.set(transform, {"A12": _moved(values.get("A12", "0"), down)})
            return
        if attributes.get("Transform", "none") != "none":
            raise OutdatedError("it has regions of interest whose transformations are not understood")
        moved: dict[str, object] = {
            name: _moved(attributes[name], across if name.startswith("X") else down)
            for name in _COORDINATES[shape.name]
            if name in attributes
        }
        if "Points" in attributes:
            moved["Points"] = " ".join(_moved_points(attributes["Points"], across, down))
        self._edits.set(shape, moved)


@dataclass(frozen=True)
class _Stack:
    """The planes of an image: their axes but for those within a plane, slowest first, and the sizes of these.

    `samples` is how many samples of each pixel make up one of the channels.
    """

    axes: str
    sizes: tuple[int, ...]
    samples: int

    @classmethod
    def of(cls, pixels: Element) -> _Stack:
        """Return the stack of an image."""
        attributes = pixels.attributes
        axes = _axes_of(pixels)
        samples = {_integer(channel.attributes, "SamplesPerPixel", 1) for channel in pixels.find("Channel")} or {1}
        if len(samples) > 1 or sorted(axes) != ["C", "T", "Z"]:
            raise OutdatedError("its channels have different numbers of samples, or the order of its axes is unknown")
        (each,) = samples
        sizes = {axis: _integer(attributes, f"Size{axis}", 0) for axis in axes}
        sizes["C"] //= max(each, 1)
        stack = cls(axes, tuple(sizes[axis] for axis in axes), each)
        if not 0 < stack.planes <= _MOST_PLANES or min(stack.sizes) < 1:
            raise OutdatedError("its sizes are not possible")
        return stack

    @property
    def planes(self) -> int:
        """The number of planes."""
        return math.prod(self.sizes)

    def plane(self, place: Mapping[str, int]) -> int:
        """Return the number of a plane."""
        number = 0
        for axis, size in zip(self.axes, self.sizes, strict=True):
            if not 0 <= place[axis] < size:
                raise OutdatedError("it speaks of planes outside of its stack")
            number = number * size + place[axis]
        return number

    def ordered_pages(self, kept: Sequence[Sequence[int]], pages: Mapping[int, int]) -> list[int]:
        """Return the pages of the kept planes, in the order of the stack that these make up."""
        sizes = [len(indices) for indices in kept]
        return [
            pages[self.plane({a: kept[i][index] for i, (a, index) in enumerate(zip(self.axes, place, strict=True))})]
            for place in (_indices_of(number, sizes) for number in range(math.prod(sizes)))
        ]


def _axes_of(pixels: Element) -> str:
    """Return the axes of a stack of planes, slowest first."""
    return pixels.attributes.get("DimensionOrder", "")[:1:-1]


def _indices_of(number: int, sizes: Sequence[int]) -> list[int]:
    """Return the indices of a plane along each axis, the last one counted fastest."""
    indices: list[int] = []
    for size in reversed(sizes):
        number, index = divmod(number, size)
        indices.insert(0, index)
    return indices


def _integer(attributes: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(attributes.get(name, default))
    except ValueError as error:
        raise OutdatedError(f"{name} is no number in it") from error


def _moved(coordinate: str, offset: int) -> str:
    """Return a coordinate after the origin has moved by `offset`."""
    try:
        return repr(float(coordinate) - offset)
    except ValueError as error:
        raise OutdatedError("it has regions of interest whose coordinates are not understood") from error


def _moved_points(points: str, across: int, down: int) -> Iterator[str]:
    for point in points.split():
        coordinates = point.split(",")
        if len(coordinates) != 2:
            raise OutdatedError("it has regions of interest whose coordinates are not understood")
        yield f"{_moved(coordinates[0], across)},{_moved(coordinates[1], down)}"
