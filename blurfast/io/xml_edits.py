"""Changes of an XML document that leave every other byte of it as it was.

The document is parsed for where its elements lie; what changes is spliced into its text. So comments, namespaces,
prefixes, and annotations of any kind survive, which no round trip through a tree of elements would guarantee.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape, unescape
from xml.parsers import expat

_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_GREATEST_DEPTH = 256


class XmlError(ValueError):
    """The document is not well-formed, or of a kind that is not taken: with definitions of its own, or in UTF-16."""


class Element:
    """An element of a document, known by where it lies in it.

    Attributes
    ----------
    name
        Without the namespace's prefix.
    start, content_start, content_end, end
        Where in the document it begins, its content begins and ends, and it ends.
    children
        The elements in it.
    """

    __slots__ = ("_document", "children", "content_end", "content_start", "end", "name", "start")

    def __init__(self, document: bytes, name: str, start: int) -> None:
        self._document = document
        self.name = name
        self.start = self.content_start = self.content_end = self.end = start
        self.children: list[Element] = []

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes."""
        return {name.decode(): unescape(value.decode()) for name, value, *_ in self.attribute_places()}

    def attribute_places(self) -> Iterator[tuple[bytes, bytes, int, int]]:
        """Yield the name and the value of each attribute, and where it begins, blanks included, and ends."""
        place = self.name_end
        while match := _ATTRIBUTE.match(self._document, place):
            yield match[1], match[2][1:-1], match.start(), match.end()
            place = match.end()

    @property
    def name_end(self) -> int:
        """Where a further attribute can be added."""
        match = _TAG_NAME.match(self._document, self.start)
        return self.start if match is None else match.end()

    @property
    def text(self) -> str:
        """The content of an element without others in it."""
        return unescape(self._document[self.content_start : self.content_end].decode()).strip()

    def find(self, *names: str) -> list[Element]:
        """Return the children of these names."""
        return [child for child in self.children if child.name in names]

    def walk(self) -> Iterator[Element]:
        """Yield the element and all in it, in the document's order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)


def parse_xml(document: bytes) -> Element:
    """Return the root of a document in UTF-8 or in a subset of it.

    Raises
    ------
    XmlError
        If it is not well-formed, nested more than 256 deep, in another encoding, or has a document type: entities of
        its own could grow beyond all bounds.
    """
    root = Element(document, "", 0)
    path = [root]

    def start_element(name: str, _attributes: object) -> None:
        if len(path) > _GREATEST_DEPTH:
            raise XmlError("is nested too deeply")
        element = Element(document, name.rpartition(":")[2], parser.CurrentByteIndex)
        last_attribute_end = max((end for *_, end in element.attribute_places()), default=element.name_end)
        element.content_start = document.index(b">", last_attribute_end) + 1
        path[-1].children.append(element)
        path.append(element)

    def end_element(_name: str) -> None:
        element = path.pop()
        is_empty = document[element.content_start - 2 : element.content_start] == b"/>"
        element.content_end = element.content_start if is_empty else parser.CurrentByteIndex
        element.end = element.content_start if is_empty else document.index(b">", element.content_end) + 1

    def refuse_document_type(*_arguments: object) -> None:
        raise XmlError("has a document type")

    _require_utf8(document)
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.StartDoctypeDeclHandler = refuse_document_type
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise XmlError(f"is not well-formed ({error})") from error
    return root.children[0]


def _require_utf8(document: bytes) -> None:
    try:
        document.decode()
    except UnicodeDecodeError as error:
        raise XmlError("is not in UTF-8") from error


class XmlEdits:
    """Changes of a document, which are made together in the end."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._splices: list[tuple[int, int, bytes]] = []

    def set(self, element: Element, values: Mapping[str, object]) -> None:
        """Give attributes of an element other values; None removes them."""
        left = dict(values)
        for raw_name, raw_value, start, end in element.attribute_places():
            name = raw_name.decode()
            if name not in left:
                continue
            value = left.pop(name)
            if value is None:
                self._splices.append((start, end, b""))
            elif _encoded(value) != raw_value:
                self._splices.append((end - 1 - len(raw_value), end - 1, _encoded(value)))
        for name, value in left.items():
            if value is not None:
                place = element.name_end
                self._splices.append((place, place, f" {name}=".encode() + b'"' + _encoded(value) + b'"'))

    def set_text(self, element: Element, text: str) -> None:
        """Give an element another content."""
        self._splices.append((element.content_start, element.content_end, _encoded(text)))

    def remove(self, element: Element) -> None:
        """Take an element out."""
        self._splices.append((element.start, element.end, b""))

    def insert(self, place: int, text: str) -> None:
        """Add text at a place of the document."""
        self._splices.append((place, place, text.encode()))

    def applied(self) -> bytes:
        """Return the changed document. What lies in removed elements is gone, changed or not."""
        pieces = []
        position = 0
        for start, end, replacement in sorted(self._splices, key=lambda splice: splice[:2]):
            if start < position:
                continue
            pieces += [self._document[position:start], replacement]
            position = end
        return b"".join([*pieces, self._document[position:]])


def _encoded(value: object) -> bytes:
    return escape(str(value)).encode("ascii", "xmlcharrefreplace")
