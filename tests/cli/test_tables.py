"""Tables of plain text."""

from __future__ import annotations

from stego_cli.cli.tables import table_lines


def test_words_go_left_and_numbers_right() -> None:
    rows = [("name", "kind", "mIoU"), ("a", "photo", "7.0"), ("longer", "b", "12.5")]
    assert table_lines(rows, words=2) == ["name    kind   mIoU", "a       photo   7.0", "longer  b      12.5"]


def test_words_alone_leave_no_blanks_at_the_end() -> None:
    assert table_lines([("name", "why"), ("a", ""), ("b", "because")], words=2) == ["name  why", "a", "b     because"]


def test_a_row_of_one_cell_widens_no_column() -> None:
    rows = [("x", "1"), ("a long title of its own",), ("yy", "22")]
    assert table_lines(rows, words=1) == ["x    1", "a long title of its own", "yy  22"]


def test_a_remark_juts_out_and_brackets_in_a_name_do_not() -> None:
    rows = [("", "score"), ("name  (old)", "9.5  (guessed)"), ("b", "10.5")]
    assert table_lines(rows, words=1) == [
        "             score",
        "name  (old)    9.5  (guessed)",
        "b             10.5",
    ]


def test_no_rows_make_no_lines() -> None:
    assert table_lines([], words=3) == []
