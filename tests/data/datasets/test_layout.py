from __future__ import annotations

import os
from pathlib import Path

import pytest

from stego_cli.data.datasets.layout import joined, listed_samples, names_in, read_list
from stego_cli.errors import StegoError


def make(root: Path, listed: str, images: str, labels: str) -> tuple[Path, Path, Path]:
    """Make a list and two folders; each letter is a name."""
    for folder, letters, suffix in (("i", images, ".jpg"), ("l", labels, ".png")):
        (root / folder).mkdir()
        for letter in letters:
            (root / folder / (letter + suffix)).touch()
    (root / "list.txt").write_text("\n".join(listed) + "\n")
    return root / "list.txt", root / "i", root / "l"


def test_the_order_is_that_of_the_list_and_missing_label_maps_are_none(tmp_path: Path) -> None:
    found = listed_samples(*make(tmp_path, "cab", "abcd", "bc"), (".jpg", ".png"), prefix="p/")
    assert [(sample.name, sample.label and sample.label.name) for sample in found.samples] == [
        ("p/c.jpg", "c.png"),
        ("p/a.jpg", None),
        ("p/b.jpg", "b.png"),
    ]
    assert [sample.image for sample in found.samples] == [tmp_path / "i" / f"{letter}.jpg" for letter in "cab"]
    assert [note.split(" in ")[0] for note in found.notes] == ["1 of 3 images have no label map"]


def test_missing_images_stay_in_the_list_and_are_counted(tmp_path: Path) -> None:
    found = listed_samples(*make(tmp_path, "abc", "b", "abc"), (".jpg", ".png"))
    assert [sample.name for sample in found.samples] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [note.split(" in ")[0] for note in found.notes] == ["2 of 3 listed images are not"]


def test_a_list_of_which_nothing_is_there_is_refused_with_the_counts(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match=r"(?s)none of the 2 images.*list\.txt.*holds 1 file.*hint: .*unpack"):
        listed_samples(*make(tmp_path, "ab", "x", "ab"), (".jpg", ".png"))


def test_whole_sets_need_no_notes_and_lists_follow_one_another(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = listed_samples(*make(tmp_path / "1", "ba", "ab", "ab"), (".jpg", ".png"))
    second = listed_samples(*make(tmp_path / "2", "a", "a", ""), (".jpg", ".png"))
    both = joined([first, second])
    assert [sample.image.parent.parent.name + sample.name for sample in both.samples] == ["1b.jpg", "1a.jpg", "2a.jpg"]
    assert first.notes == ()
    assert both.notes == second.notes != ()


def test_blank_lines_and_repeated_names_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("b \r\n\n  a\nb\nan odd name\n")
    assert read_list(tmp_path / "a.txt") == ("b", "a", "an odd name")


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a\\b", ".."])
def test_a_list_cannot_name_files_elsewhere(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"fine\n{line}\n")
    with pytest.raises(StegoError, match=r"(?s)a\.txt.* a path.*hint: "):
        read_list(tmp_path / "a.txt")


@pytest.mark.parametrize(("content", "words"), [(b" \n", "is empty"), (b"\xff\xfe\n", "not text"), (None, "No such")])
def test_a_list_that_says_nothing_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(StegoError, match=rf"(?s)a\.txt.*{words}.*hint: "):
        read_list(tmp_path / "a.txt")


def test_a_folder_is_asked_once_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    assert names_in(tmp_path) == {"a"}
    assert names_in(tmp_path / "none") == names_in(tmp_path / "a") == frozenset()

    def locked(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(StegoError, match=r"(?s)cannot look into.*Permission denied.*hint: "):
        names_in(tmp_path)


def test_opening_a_list_asks_the_system_for_no_single_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COCO-Stuff has 118 thousand images: a question for each takes minutes on a network drive."""
    places = make(tmp_path, "abc", "abc", "abc")
    asked = []

    def counted(*arguments: object, **options: object) -> os.stat_result:
        asked.append(arguments)
        return stat(*arguments, **options)

    stat = os.stat
    monkeypatch.setattr(os, "stat", counted)
    listed_samples(*places, (".jpg", ".png"))
    assert asked == []
