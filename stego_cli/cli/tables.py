"""Tables of plain text on stdout."""

from collections.abc import Iterable, Sequence


def table_lines(rows: Iterable[Sequence[str]], words: int) -> list[str]:
    r"""Return rows as lines in columns: words to the left, numbers to the right.

    Args:
        rows: Each of as many cells as the widest, or of one, which stands by itself and widens nothing.
        words: How many columns hold words; the others hold numbers. What follows a number after two blanks and a
            bracket juts out.

    Example:
        >>> print("\n".join(table_lines([("", "share"), ("a sky",), ("red", "7"), ("blue", "12  (guessed)")], 1)))
              share
        a sky
        red       7
        blue     12  (guessed)
    """
    lines = [tuple(row) for row in rows]
    columns = max(map(len, lines), default=0)
    whole = [row for row in lines if len(row) == columns]
    widths = [
        max(len(row[column] if column < words else row[column].partition("  (")[0]) for row in whole)
        for column in range(columns)
    ]
    return [
        row[0]
        if len(row) == 1
        else "  ".join(
            cell.ljust(width) if column < words else _right(cell, width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    ]


def _right(cell: str, width: int) -> str:
    """Align a number to the right, whatever remark follows it."""
    number, gap, remark = cell.partition("  (")
    return number.rjust(width) + gap + remark
