"""From what was typed to the images: files, folders, patterns, and words for what is not there."""

import os
from pathlib import Path, PurePath

import pytest

from stego_cli.data.inputs import InputImage, collect_inputs
from stego_cli.errors import StegoError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relatives(collected) -> list[str]:
    return [image.relative.as_posix() for image in collected.images]


def complaint(*paths, **options) -> str:
    with pytest.raises(StegoError) as caught:
        collect_inputs(paths, **options)
    message = str(caught.value)
    assert message.count("\n\nhint: ") == 1
    return message


def test_a_file_goes_by_its_bare_name(tmp_path) -> None:
    touch(tmp_path, "deep/in/a.jpg")
    path = tmp_path / "deep" / "in" / "a.jpg"
    assert collect_inputs([path]).images == (InputImage(path, PurePath("a.jpg")),)


def test_a_folder_is_searched_with_all_below_it_in_natural_order(tmp_path) -> None:
    touch(tmp_path, "b/10.jpg", "b/9.PNG", "B/1.webp", "a10/x.tiff", "a9/x.bmp", "c.gif", "notes.txt", "d.JPEG")
    found = collect_inputs([str(tmp_path)])
    assert relatives(found) == ["a9/x.bmp", "a10/x.tiff", "B/1.webp", "b/9.PNG", "b/10.jpg", "c.gif", "d.JPEG"]
    assert all(image.path == tmp_path / image.relative for image in found.images)
    assert found.skipped == ()


def test_hidden_files_and_folders_are_left_out(tmp_path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", "._a.jpg", ".thumbnails/c.jpg", "d/.e/f.jpg")
    assert relatives(collect_inputs([tmp_path])) == ["a.jpg"]


def test_a_hidden_file_or_folder_can_be_named_itself(tmp_path) -> None:
    touch(tmp_path, ".b.jpg", ".c/d.jpg")
    assert relatives(collect_inputs([tmp_path / ".b.jpg", tmp_path / ".c"])) == [".b.jpg", "d.jpg"]


def test_a_file_named_itself_may_be_called_anything(tmp_path) -> None:
    touch(tmp_path, "scan.0001", "README")
    assert relatives(collect_inputs([tmp_path / "scan.0001", tmp_path / "README"])) == ["scan.0001", "README"]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path) -> None:
    touch(tmp_path, "x.jpg/y.png")
    assert relatives(collect_inputs([tmp_path])) == ["x.jpg/y.png"]
    assert relatives(collect_inputs([tmp_path / "x.jpg"])) == ["y.png"]


def test_each_file_once_however_often_it_is_named(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "imgs/a.jpg", "imgs/sub/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "imgs")
    monkeypatch.chdir(tmp_path)
    again = ["imgs/a.jpg", "./imgs/a.jpg", "imgs/../imgs/a.jpg", str(tmp_path / "imgs/a.jpg"), "imgs", "imgs/sub"]
    found = collect_inputs([*again, "link", "imgs/*.jpg", "imgs/**/*.jpg"])
    assert relatives(found) == ["a.jpg", "sub/b.jpg"]
    assert found.skipped == ()


def test_the_order_is_that_of_the_paths(tmp_path) -> None:
    touch(tmp_path, "z/1.jpg", "a/2.jpg", "m.jpg")
    assert relatives(collect_inputs([tmp_path / "z", tmp_path / "m.jpg", tmp_path / "a"])) == [
        "1.jpg",
        "m.jpg",
        "2.jpg",
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg"]),
        ("*", ["a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "sub2/e.jpg"]),
        ("**/*.jpg", ["a.jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub2/e.jpg"]),
        ("**", ["a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "sub2/e.jpg"]),
        ("sub/**/*.jpg", ["c.jpg", "deep/d.jpg"]),
        ("sub*/*.jpg", ["sub/c.jpg", "sub2/e.jpg"]),
        ("**/deep/*", ["sub/deep/d.jpg"]),
        ("sub?/e.jp[gx]", ["sub2/e.jpg"]),
        ("s*", ["sub/c.jpg", "sub/deep/d.jpg", "sub2/e.jpg"]),
        ("*.txt", ["notes.txt"]),  # asked for by name
        (".hid*", [".hidden.jpg"]),
    ],
)
def test_patterns(tmp_path, monkeypatch, pattern, found) -> None:
    touch(tmp_path, "a.jpg", "b.png", "notes.txt", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub2/e.jpg")
    assert relatives(collect_inputs([tmp_path / pattern])) == found
    monkeypatch.chdir(tmp_path)
    assert relatives(collect_inputs([pattern])) == found


def test_existing_files_whose_names_look_like_patterns_are_taken_as_they_are(tmp_path) -> None:
    touch(tmp_path, "a[1].jpg", "a1.jpg", "[raw]/b*.jpg", "r/b.jpg")
    assert relatives(collect_inputs([tmp_path / "a[1].jpg"])) == ["a[1].jpg"]
    assert relatives(collect_inputs([tmp_path / "[raw]"])) == ["b*.jpg"]


def test_excluded_folders_are_not_entered_unless_they_are_named_themselves(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.jpg", "out/overlays/a.jpg", "out/b.jpg", "sub/out/c.jpg")
    monkeypatch.chdir(tmp_path)
    for out in (Path("out"), tmp_path / "out", tmp_path / "sub" / ".." / "out"):
        for path in (".", tmp_path, "**/*.jpg", "*"):
            assert relatives(collect_inputs([path], exclude=[out])) == ["a.jpg", "sub/out/c.jpg"]
    assert relatives(collect_inputs(["out"], exclude=[Path("out")])) == ["b.jpg", "overlays/a.jpg"]
    assert relatives(collect_inputs(["."], exclude=[Path()])) == relatives(collect_inputs(["."]))


def test_linked_folders_are_followed_but_never_in_circles(tmp_path) -> None:
    touch(tmp_path, "imgs/z/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "imgs/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "imgs/z/up").symlink_to(tmp_path / "imgs")
    (tmp_path / "imgs/again").symlink_to(tmp_path / "imgs/z")
    (tmp_path / "imgs/self").symlink_to(tmp_path / "imgs/self")
    for path in (tmp_path / "imgs", tmp_path / "imgs/**/*.jpg"):
        assert relatives(collect_inputs([path])) == ["link/b.jpg", "z/a.jpg"]


def test_links_to_files_are_images_of_their_own(tmp_path) -> None:
    touch(tmp_path, "pool/1.jpg", "imgs/x.jpg")
    (tmp_path / "imgs/a.jpg").symlink_to(tmp_path / "pool/1.jpg")
    assert relatives(collect_inputs([tmp_path / "imgs"])) == ["a.jpg", "x.jpg"]


def test_what_gives_no_image_is_reported_beside_the_rest(tmp_path) -> None:
    touch(tmp_path, "imgs/a.jpg")
    (tmp_path / "imgs/gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "empty").mkdir()
    found = collect_inputs([tmp_path / "imgs", tmp_path / "empty"])
    assert relatives(found) == ["a.jpg"]
    assert {skip.path.name: skip.reason for skip in found.skipped} == {
        "gone.jpg": "is a link to nothing, or no ordinary file",
        "empty": "holds no images",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_in_folders_are_not_images(tmp_path) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    found = collect_inputs([tmp_path])
    assert relatives(found) == ["a.jpg"]
    assert [skip.path.name for skip in found.skipped] == ["b.jpg"]


def test_a_folder_that_cannot_be_read_is_reported(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    scan = os.scandir

    def guarded(folder):
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    found = collect_inputs([tmp_path])
    assert relatives(found) == ["a.jpg"]
    assert [(skip.path.name, skip.reason) for skip in found.skipped] == [
        ("locked", "cannot look into it: Permission denied")
    ]
    assert "Permission denied" in complaint(tmp_path / "locked")


def test_all_missing_paths_are_named_with_what_may_have_been_meant(tmp_path) -> None:
    touch(tmp_path, "photos/IMG_0001.JPG", "photos/other.jpg")
    message = complaint(
        tmp_path / "photos", tmp_path / "photo" / "a.jpg", tmp_path / "photos" / "img_001.jpg", tmp_path / "zzz"
    )
    assert f"`{tmp_path}/photo/a.jpg` does not exist; did you mean `{tmp_path}/photos`?" in message
    assert f"did you mean `{tmp_path}/photos/IMG_0001.JPG`?" in message
    assert f"`{tmp_path}/zzz` does not exist\n" in message


def test_missing_relative_paths_have_suggestions_too(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "imgs/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert "`img` does not exist; did you mean `imgs`?" in complaint("img")
    assert "`imgz/*.jpg` does not exist; did you mean `imgs`?" in complaint("imgz/*.jpg")
    assert "`imgs/*.png` matches nothing" in complaint("imgs/*.png")
    assert "`imgs/a.jpg/b` does not exist" in complaint("imgs/a.jpg/b")


def test_a_link_to_nothing_and_an_empty_path(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    Path("link.jpg").symlink_to("gone.jpg")
    message = complaint("link.jpg", "")
    assert "`link.jpg` is a link to something that does not exist" in message
    assert "a variable may not be set" in message  # and not all images of the current folder


def test_a_path_below_a_locked_folder(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.jpg")

    def refuse(_folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"in a folder that cannot be looked into: `{tmp_path}`" in complaint(tmp_path / "b.jpg")


def test_nothing_found_says_what_is_there_instead(tmp_path) -> None:
    touch(tmp_path, *(f"{i}.txt" for i in range(12)), "a.csv", "Makefile")
    message = complaint(tmp_path)
    assert f"no images in `{tmp_path}`" in message
    assert ".jpeg, .jpg" in message
    assert "12 .txt, 1 .csv, 1 without a suffix" in message or "12 .txt, 1 without a suffix, 1 .csv" in message


def test_photographs_of_a_kind_that_is_not_read_are_to_be_converted(tmp_path) -> None:
    touch(tmp_path, "a.HEIC", "b.heic")
    message = complaint(tmp_path)
    assert "found other files: 2 .heic" in message
    assert message.endswith("hint: convert the .heic files to JPEG or PNG first")


def test_an_empty_folder_and_no_paths_at_all(tmp_path) -> None:
    touch(tmp_path, ".hidden.jpg")
    assert "found nothing that is not hidden" in complaint(tmp_path)
    assert "an empty list of paths" in complaint()


def test_names_that_are_no_text_are_found_and_can_be_printed(tmp_path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        touch(tmp_path, name)
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    assert relatives(collect_inputs([tmp_path])) == [name]
    message = complaint(tmp_path / os.fsdecode(b"caf\xe8.jpg"), tmp_path / os.fsdecode(b"\xff"))
    message.encode("utf-8")  # no stray halves of characters


def test_ten_thousand_files_are_found_quickly_enough_to_test(tmp_path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.jpg").touch()
    assert relatives(collect_inputs([tmp_path])) == [f"{number}.jpg" for number in range(10_000)]
