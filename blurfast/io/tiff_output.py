"""How the pages of a TIFF output are laid out: as the input, as far as its codec and what is asked for allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import tifffile
from tifffile import PHOTOMETRIC

from blurfast.errors import UnsupportedError
from blurfast.io.base import ImageSpec
from blurfast.io.edits import Edits
from blurfast.io.tiff_codecs import APERIO_JPEG2000, CODEC_OF_TAG, CODECS, Codec
from blurfast.io.tiff_layout import UNASSOCIATED_ALPHA, PageLayout
from blurfast.io.tiff_levels import PageLevels, full_pyramid, halved, possible_exponents, thumbnail_exponent
from blurfast.io.tiff_options import PREDICTOR_NUMBERS, PREDICTORS, TiffOptions
from blurfast.io.tiff_samples import StoredSamples
from blurfast.io.tiff_source import TiffSource
from blurfast.io.tiff_tags import NATIVE_ORDER, ByteLayout

_LEVEL_TILE, _COG_TILE = (256, 256), (512, 512)

_STRIP_BYTES = 1 << 18
_GREATEST_STRIP_BYTES = 1 << 22

# Offsets of a classic file end at 4 GiB. Compression can make noise larger, LZW up to one and a half times.
CLASSIC_LIMIT = 2**32
_CLASSIC_BYTES = 3_900_000_000
_CLASSIC_BYTES_COMPRESSED = 2_700_000_000

_CHROMA_SUBSAMPLINGS = frozenset({(1, 1), (2, 1), (2, 2)})
_REMEDY = "choose another one with --compression, such as deflate"
_STAND_IN = "deflate"


class OutputPage(NamedTuple):
    """How a page will be written.

    Parameters
    ----------
    layout
        Of its pixels.
    codec, level
        Name of the codec, and what it is told.
    obstacle
        Why the output does not have the input's compression; None where it has, or another one is asked for.
    levels
        Its smaller versions, a thumbnail among them.
    thumbnail
        How often the page is halved for the thumbnail, None if there is none.
    """

    layout: PageLayout
    codec: str
    level: int | None = None
    obstacle: str | None = None
    levels: PageLevels = PageLevels()
    thumbnail: int | None = None


class OutputPages(NamedTuple):
    """How all pages will be written, and whether the file is laid out as a cloud-optimised GeoTIFF.

    `notices` holds what the user may not expect of it.
    """

    pages: list[OutputPage]
    is_cog: bool
    notices: list[str]


def output_pages(
    images: Sequence[ImageSpec], like: TiffSource | None, options: TiffOptions, edits: Edits, path: str
) -> OutputPages:
    """Return how to write images: as in the input `like`, as far as nothing else is asked for.

    Raises
    ------
    ValueError
        If the images are not those of `like`.
    UnsupportedError
        If the codec cannot hold the pixels, or a cloud-optimised GeoTIFF not these images.
    """
    layouts = [default_layout(image) for image in images] if like is None else layouts_like(like, images, edits)
    numbers = range(len(layouts)) if like is None else like.page_numbers
    is_cog, notices = _is_cog(layouts, like, options, path)
    pages = []
    for number, layout, levels in zip(numbers, layouts, _levels(layouts, like, options, is_cog=is_cog), strict=True):
        own_options = options
        if is_cog and options.tile is None and not _is_regular(layout.tile):
            own_options = options._replace(tile=_COG_TILE)
        pages.append(_with_levels(output_page(layout, own_options, number, path), levels))
    return OutputPages(pages, is_cog, notices)


def _is_cog(
    layouts: Sequence[PageLayout], like: TiffSource | None, options: TiffOptions, path: str
) -> tuple[bool, list[str]]:
    """Return whether the output is a cloud-optimised GeoTIFF, and what is to be said if it is none any more."""
    if options.cog is False or not (options.cog or (like is not None and like.is_cog)):
        return False, []
    obstacle = _obstacle_to_cog(layouts, options)
    if obstacle is None:
        return True, []
    fact, remedy = obstacle
    if options.cog:
        raise UnsupportedError(f"a cloud-optimised GeoTIFF {fact}", path=path, remedy=remedy)
    return False, [f"the output is no cloud-optimised GeoTIFF, which {fact}"]


def _obstacle_to_cog(layouts: Sequence[PageLayout], options: TiffOptions) -> tuple[str, str] | None:
    """Return why the output cannot be a cloud-optimised GeoTIFF, and what to do."""
    if len(layouts) != 1:
        return f"holds one image, not {len(layouts)}", "choose one with --page"
    if options.tile == "strips":
        return "consists of tiles", "leave out --tile strips"
    if layouts[0].planes > 1:
        return "has interleaved channels, not planes", "interleave the channels of the input first"
    return None


def _levels(
    layouts: Sequence[PageLayout], like: TiffSource | None, options: TiffOptions, *, is_cog: bool
) -> list[PageLevels]:
    """Return the smaller versions of each page: those of the input, or all if they are asked for."""
    if options.pyramid is False or (options.pyramid is None and not options.cog and like is None):
        return [PageLevels()] * len(layouts)
    if options.pyramid or options.cog or like is None:
        return [PageLevels(full_pyramid(layout.height, layout.width), is_cog) for layout in layouts]
    found = [
        levels._replace(exponents=possible_exponents(levels.exponents, layout.height, layout.width))
        for levels, layout in zip(like.levels, layouts, strict=True)
    ]
    return [PageLevels(levels.exponents, are_chained=True) for levels in found] if is_cog else found


def _with_levels(page: OutputPage, levels: PageLevels) -> OutputPage:
    """Return how a page is written together with smaller versions of it."""
    if not (levels.has_thumbnail and levels.exponents):
        return page._replace(levels=levels)
    _, columns = _level_tile(page.layout)
    thumbnail = thumbnail_exponent(levels.exponents, page.layout.width, columns)
    return page._replace(levels=levels._replace(exponents=(*levels.exponents, thumbnail)), thumbnail=thumbnail)


def level_page(page: OutputPage, exponent: int) -> OutputPage:
    """Return how a smaller version of a page is written: in tiles, and otherwise alike, unless it is a thumbnail."""
    layout = replace(
        page.layout,
        height=halved(page.layout.height, exponent),
        width=halved(page.layout.width, exponent),
        tile=_level_tile(page.layout),
        rows_per_strip=0,
    )
    level = page._replace(layout=layout, levels=PageLevels(), thumbnail=None)
    return _as_thumbnail(level) if exponent == page.thumbnail else level


def _as_thumbnail(page: OutputPage) -> OutputPage:
    """Return how a level no wider than a tile is written in strips, by which readers tell it, as high as the tile was.

    Those who read JPEG 2000 expect it in tiles only.
    """
    rows, _ = _level_tile(page.layout)
    layout = replace(page.layout, tile=None, rows_per_strip=min(rows, page.layout.height))
    if page.codec not in ("jpeg2000", "jpegxl", "webp"):
        return page._replace(layout=layout)
    return OutputPage(replace(layout, compression=CODECS[_STAND_IN].tag), _STAND_IN)


def _level_tile(layout: PageLayout) -> tuple[int, int]:
    return layout.tile or _LEVEL_TILE


def output_page(layout: PageLayout, options: TiffOptions, page_number: int, path: str) -> OutputPage:
    """Return how to write a page of which the input, or the default, has the given layout.

    Raises
    ------
    UnsupportedError
        If the codec cannot hold the pixels, or not with such a predictor or such segments.
    """
    own_codec = CODEC_OF_TAG.get(layout.compression)
    codec_name, level = options.compression or (own_codec, None)
    obstacle_to_own = None
    obstacle = None if codec_name is None else _obstacle(codec_name, layout)
    if codec_name is None or (obstacle and options.compression is None):
        is_unknown = codec_name is None and layout.stored is None
        name = tifffile.COMPRESSION(layout.compression).name.lower()
        obstacle_to_own = f"{name} {'cannot be written' if is_unknown else 'cannot hold the result'}"
        codec_name, obstacle = _STAND_IN, None
    if obstacle:
        raise UnsupportedError(f"page {page_number}: {obstacle}", path=path, remedy=_REMEDY)
    codec = CODECS[codec_name]
    keeps_codec = codec_name == own_codec and layout.stored is None
    layout = _layout_for(codec, replace(layout, stored=None), options, keeps_codec=keeps_codec)
    _refuse_predictor(codec_name, codec, layout, page_number, path)
    if max(layout.segment) > codec.greatest_side:
        fact = f"page {page_number}: {codec_name} cannot hold more than {codec.greatest_side} columns"
        raise UnsupportedError(fact, path=path, remedy=_REMEDY)
    return OutputPage(layout, codec_name, level, obstacle_to_own)


def _obstacle(name: str, layout: PageLayout) -> str | None:
    """Return why a codec cannot hold the pixels; None if it can."""
    codec = CODECS[name]
    if codec.dtypes and layout.dtype.name not in codec.dtypes:
        return f"{name} cannot hold {layout.dtype} samples"
    is_jpeg_alpha = name == "jpeg" and layout.channels == 4 and layout.photometric != PHOTOMETRIC.SEPARATED
    if is_jpeg_alpha or (codec.channels and layout.channels not in codec.channels):
        return f"{name} cannot hold these {layout.channels} channels"
    return None


def _refuse_predictor(name: str, codec: Codec, layout: PageLayout, page_number: int, path: str) -> None:
    predictor = PREDICTORS[layout.predictor - 1]
    if layout.predictor != 1 and not codec.has_predictor:
        able = ", ".join(other for other, codec in CODECS.items() if codec.has_predictor)
        fact = f"page {page_number}: there is no predictor with {name} compression"
        raise UnsupportedError(fact, path=path, remedy=f"choose one of {able} with --compression")
    if layout.predictor == PREDICTOR_NUMBERS["float"] and layout.dtype.kind != "f":
        fact = f"page {page_number}: predictor {predictor} is not for {layout.dtype} samples"
        raise UnsupportedError(fact, path=path, remedy="choose --predictor horizontal")


def _layout_for(codec: Codec, layout: PageLayout, options: TiffOptions, *, keeps_codec: bool) -> PageLayout:
    """Return the layout of the output: what is asked for, or that of the input, as far as the codec allows."""
    tile = layout.tile if _is_regular(layout.tile) else None
    if options.tile is not None:
        tile = None if options.tile == "strips" else options.tile
    keeps_number = keeps_codec and layout.compression in APERIO_JPEG2000
    return replace(
        layout,
        compression=layout.compression if keeps_number else codec.tag,
        tile=tile,
        rows_per_strip=0 if tile else _rows_per_strip(codec, layout),
        predictor=options.predictor or _predictor(codec, layout, keeps_codec=keeps_codec),
        chroma_subsampling=_chroma_subsampling(codec, layout, keeps_codec=keeps_codec),
    )


def _is_regular(tile: tuple[int, int] | None) -> bool:
    """Return whether there are tiles as the format demands: some programs break this rule, but many readers need it."""
    return tile is not None and tile[0] % 16 == 0 and tile[1] % 16 == 0


def _rows_per_strip(codec: Codec, layout: PageLayout) -> int:
    rows = layout.rows_per_strip
    if rows == 0 or rows * layout.row_bytes > _GREATEST_STRIP_BYTES:
        rows = _strip_rows(layout.row_bytes)
    if codec.is_image:
        rows = -(-rows // 16) * 16  # whole blocks of subsampled JPEG
    return min(rows, layout.height)


def _strip_rows(row_bytes: int) -> int:
    """Return the rows of a strip of moderate size: a power of two, so that bands can be whole strips and tiles."""
    return 1 << (max(1, _STRIP_BYTES // row_bytes).bit_length() - 1)


def _predictor(codec: Codec, layout: PageLayout, *, keeps_codec: bool) -> int:
    if not codec.has_predictor:
        return 1
    if not keeps_codec:  # nobody chose for this codec, and blurred images gain much
        return 3 if layout.dtype.kind == "f" else 2
    if layout.predictor == 3 and layout.dtype.kind != "f":
        return 2
    return layout.predictor


def _chroma_subsampling(codec: Codec, layout: PageLayout, *, keeps_codec: bool) -> tuple[int, int] | None:
    """Return how the output subsamples its chroma, None where it is not stored as YCbCr."""
    if codec.tag != CODECS["jpeg"].tag or layout.channels != 3:
        return (1, 1) if layout.photometric == PHOTOMETRIC.YCBCR else None
    if keeps_codec and layout.chroma_subsampling is None:
        return None
    if layout.photometric not in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        return None
    return layout.chroma_subsampling if layout.chroma_subsampling in _CHROMA_SUBSAMPLINGS else (2, 2)


def layouts_like(like: TiffSource, images: Sequence[ImageSpec], edits: Edits) -> list[PageLayout]:
    """Return the layouts of the pages of `like`, with the dtypes of `images`, and their sizes if these are of a region.

    Raises
    ------
    ValueError
        If the images are not those of `like`.
    """
    layouts = []
    remaining = iter(images)
    if len(images) != len(like.images):
        raise ValueError(f"{len(images)} images cannot take over the layout of {len(like.images)}")
    for page in like.pages:
        planes = [next(remaining) for _ in range(page.planes)]
        layout = page
        if edits.region is not None:
            layout = replace(page, height=edits.region.rows, width=edits.region.columns)
        expected = (layout.height, layout.width, layout.channels)
        if any((plane.height, plane.width, plane.channels) != expected for plane in planes):
            raise ValueError("the images differ in shape from those whose layout they take over")
        stored = layout.stored
        if stored is None and planes[0].dtype != layout.dtype:
            stored = StoredSamples(layout.bits, layout.stored_photometric, layout.dtype)
        layouts.append(replace(layout, dtype=planes[0].dtype, stored=stored))
    return layouts


def default_layout(image: ImageSpec) -> PageLayout:
    """Return the layout of an image that comes from another format."""
    colours = 3 if image.channels in (3, 4) else 1
    is_alpha = image.channels in (2, 4)
    return PageLayout(
        height=image.height,
        width=image.width,
        samples=image.channels,
        dtype=image.dtype,
        planar=False,
        tile=None,
        rows_per_strip=min(_strip_rows(image.row_bytes), image.height),
        photometric=PHOTOMETRIC.RGB if colours == 3 else PHOTOMETRIC.MINISBLACK,
        extra_samples=(UNASSOCIATED_ALPHA if is_alpha else 0,) * (image.channels - colours),
    )


def output_byte_layout(
    pages: Sequence[OutputPage], options: TiffOptions, like: TiffSource | None, path: str
) -> ByteLayout:
    """Return byte order and size of offsets: as in the input, but a BigTIFF where the output may need it.

    Raises
    ------
    UnsupportedError
        If a BigTIFF is needed, but not allowed.
    """
    levels = [level_page(page, times) for page in pages for times in page.levels.exponents]
    pixel_bytes = sum(page.layout.pixel_bytes for page in (*pages, *levels))
    is_compressed = any(page.codec != "none" for page in pages)
    if options.big is False and not is_compressed and pixel_bytes > _CLASSIC_BYTES:
        fact = f"a classic TIFF file cannot hold {pixel_bytes / 1e9:.1f} GB of pixels"
        raise UnsupportedError(fact, path=path, remedy="leave out --bigtiff no, or choose a compression")
    is_big = options.big
    if is_big is None:
        is_big = pixel_bytes > (_CLASSIC_BYTES_COMPRESSED if is_compressed else _CLASSIC_BYTES)
        is_big = is_big or (like is not None and like.byte_layout.big)
    return ByteLayout(NATIVE_ORDER if like is None else like.byte_layout.order, is_big)
