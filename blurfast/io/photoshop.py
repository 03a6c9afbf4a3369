"""Photoshop's image resources, which TIFF and JPEG files hold beside Exif data: IPTC's records, paths, previews.

The format is "Image Resources Section" in Adobe's "Photoshop File Formats Specification".
"""

from __future__ import annotations

import struct

_START = struct.Struct(">4sHB")
_SIZE = struct.Struct(">I")
_PREVIEWS = frozenset({1033, 1036})


def updated_resources(resources: bytes | None) -> tuple[bytes | None, list[str]]:
    """Return image resources as they are true of a filtered image, and what is to be said about them."""
    if resources is None:
        return None, []
    kept = _without_preview(resources)
    if kept == resources:
        return resources, []
    notice = "the preview among Photoshop's resources shows the image before the filter, and is not kept"
    return kept or None, [notice]


def _without_preview(resources: bytes) -> bytes:
    """Return image resources without the small pictures in them; what comes after a damaged resource stays as it is."""
    kept = bytearray()
    position = 0
    while position + _START.size <= len(resources):
        signature, number, name_length = _START.unpack_from(resources, position)
        size_at = position + _START.size - 1 + (name_length + 2) // 2 * 2
        if signature != b"8BIM" or size_at + _SIZE.size > len(resources):
            break
        (size,) = _SIZE.unpack_from(resources, size_at)
        end = size_at + _SIZE.size + size + size % 2
        if number not in _PREVIEWS:
            kept += resources[position:end]
        position = end
    return bytes(kept) + resources[position:]
