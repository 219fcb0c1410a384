"""A contact sheet: one image at the left, its nearest neighbours beside it, nearest first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_CELL = (224, 168)  # width and height of the box that a neighbour is fitted into
_GAP = 18
_MARGIN = 28
_CAPTION = 44  # below a neighbour: a line with rank and similarity, a line with the name
_QUERY_CAPTION = 56
_MOST_COLUMNS = 6

_PAPER = (250, 250, 248)
_BOX = (236, 236, 232)
_INK = (32, 34, 38)
_GREY = (98, 101, 107)
_RULE = (214, 214, 208)
_ACCENT = (22, 92, 150)

_TEXT_SIZE = 15
_TITLE_SIZE = 20


@dataclass(frozen=True)
class Shown:
    """One image of the sheet.

    Attributes:
        pixels: Shape (H, W, 3), RGB, any size; None for one that cannot be read, which leaves its box empty.
        name: What it is called; long names are shortened in the middle.
        similarity: To the image at the left, if known.
    """

    pixels: NDArray[np.uint8] | None
    name: str
    similarity: float | None = None


def neighbor_picture(query: Shown, neighbors: Sequence[Shown]) -> Image.Image:
    """Draw an image with its neighbours.

    Args:
        query: The image; its similarity is not shown.
        neighbors: Nearest first. None of them gives a sheet that says so.

    Returns:
        An RGB picture. Its size depends on how many neighbours there are, never on the images.
    """
    columns = _columns(len(neighbors))
    rows = max(1, -(-len(neighbors) // columns))
    grid_height = rows * (_CELL[1] + _CAPTION) + (rows - 1) * _GAP
    query_box = _query_box(grid_height)
    left = _MARGIN + query_box[0] + 2 * _GAP
    size = (
        left + columns * (_CELL[0] + _GAP) - _GAP + _MARGIN,
        max(grid_height, query_box[1] + _QUERY_CAPTION) + 2 * _MARGIN,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_query(sheet, draw, query, query_box)
    draw.line([(left - _GAP, _MARGIN), (left - _GAP, size[1] - _MARGIN)], fill=_RULE, width=1)
    for place, neighbor in enumerate(neighbors):
        row, column = divmod(place, columns)
        corner = (left + column * (_CELL[0] + _GAP), _MARGIN + row * (_CELL[1] + _CAPTION + _GAP))
        _draw_neighbor(sheet, draw, neighbor, place + 1, corner)
    if not neighbors:
        draw.text((left, _MARGIN), "no neighbours", fill=_GREY, font=_font(_TITLE_SIZE))
    return sheet


def stack_pictures(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put sheets below each other, a thin line between them.

    Args:
        pictures: At least one.
    """
    sheet = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        if top:
            draw.line([(_MARGIN, top), (sheet.width - _MARGIN, top)], fill=_RULE, width=1)
        top += picture.height
    return sheet


def _columns(count: int) -> int:
    """Return how many neighbours stand side by side: one row of up to four, then two rows, then more.

    Example:
        >>> [_columns(count) for count in (0, 1, 4, 5, 8, 12, 29)]
        [1, 1, 4, 3, 4, 6, 6]
    """
    return max(1, count) if count <= 4 else min(_MOST_COLUMNS, -(-count // 2))


def _query_box(grid_height: int) -> tuple[int, int]:
    """Return width and height of the large box: as high as up to two rows of neighbours, in the cells' proportions."""
    two_rows = 2 * (_CELL[1] + _CAPTION) + _GAP
    height = max(min(grid_height, two_rows) - _QUERY_CAPTION, _CELL[1] + _CAPTION)
    return round(height * _CELL[0] / _CELL[1]), height


def _draw_query(sheet: Image.Image, draw: ImageDraw.ImageDraw, query: Shown, box: tuple[int, int]) -> None:
    """Draw the large image with its name below."""
    _draw_image(sheet, draw, query.pixels, (_MARGIN, _MARGIN), box)
    below = _MARGIN + box[1] + 10
    draw.text((_MARGIN, below), _shortened(query.name, box[0], _TITLE_SIZE), fill=_INK, font=_font(_TITLE_SIZE))


def _draw_neighbor(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, neighbor: Shown, rank: int, corner: tuple[int, int]
) -> None:
    """Draw one neighbour with rank, similarity and name below."""
    _draw_image(sheet, draw, neighbor.pixels, corner, _CELL)
    left, below = corner[0], corner[1] + _CELL[1] + 5
    font = _font(_TEXT_SIZE)
    draw.text((left, below), f"{rank}", fill=_ACCENT, font=font, stroke_width=0.4, stroke_fill=_ACCENT)
    if neighbor.similarity is not None:
        draw.text((left + _CELL[0], below), f"{neighbor.similarity:.4f}", fill=_GREY, font=font, anchor="ra")
    draw.text((left, below + 19), _shortened(neighbor.name, _CELL[0], _TEXT_SIZE), fill=_INK, font=font)


def _draw_image(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    pixels: NDArray[np.uint8] | None,
    corner: tuple[int, int],
    box: tuple[int, int],
) -> None:
    """Fit an image into a box, whole and undistorted; what it leaves free is shaded."""
    draw.rectangle([corner, (corner[0] + box[0] - 1, corner[1] + box[1] - 1)], fill=_BOX)
    if pixels is None or 0 in pixels.shape:
        middle = (corner[0] + box[0] // 2, corner[1] + box[1] // 2)
        draw.text(middle, "cannot be read", fill=_GREY, font=_font(_TEXT_SIZE), anchor="mm")
        return
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    sheet.paste(small, (corner[0] + (box[0] - size[0]) // 2, corner[1] + (box[1] - size[1]) // 2))


def _shortened(name: str, width: int, text_size: int) -> str:
    """Return a name that fits into `width` pixels: the middle of a long one makes way for an ellipsis."""
    text, font = printable(name).replace("\n", " "), _font(text_size)
    if font.getlength(text) <= width:
        return text
    kept = next(
        (kept for kept in range(min(len(text), width), 1, -1) if font.getlength(_without_middle(text, kept)) <= width),
        1,
    )
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    """Keep this many letters, more of the end, where names of images differ.

    Example:
        >>> _without_middle("munich_000017_000019.png", 12)
        'muni...0019.png'
    """
    begin = kept // 3
    return f"{text[:begin]}...{text[len(text) - (kept - begin) :]}"


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow: the same picture on every machine."""
    return ImageFont.load_default(size)
