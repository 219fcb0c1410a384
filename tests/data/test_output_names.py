"""Output names: no two inputs write the same file, and names stay what they were."""

import os
import unicodedata
from pathlib import Path, PurePath, PurePosixPath

from hypothesis import example, given
from hypothesis import strategies as st

from stego_cli.data.inputs import InputImage
from stego_cli.data.output_names import assign_names

SUFFIXES = (".png", ".jpg", ".npz")


def inputs(*names: str, root: str = "imgs") -> list[InputImage]:
    return [InputImage(Path(root, name), PurePath(name)) for name in names]


def named(*names: str, root: str = "imgs", **options) -> list[str]:
    return list(assign_names(inputs(*names, root=root), **options).values())


def fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_apart(names: list[str]) -> None:
    """Every output file has a path of its own, and no output is where another needs a folder; on any disk."""
    for suffix in SUFFIXES:
        for other in SUFFIXES:
            files = {fold(name + suffix) for name in names}
            assert len(files) == len(names)
            folders = {str(folder) for name in names for folder in PurePosixPath(fold(name + other)).parents}
            assert not files & folders


def check_safe(names: list[str]) -> None:
    for name in names:
        output = os.path.normpath(f"/out/labels/{name}.png")
        assert output == f"/out/labels/{name}.png"
        assert not PurePosixPath(name).is_absolute()


def test_the_ordinary_name_is_the_relative_path_without_its_suffix() -> None:
    assert named("a.jpg", "b/c.tif", "d.e.png", "README") == ["a", "b/c", "d.e", "README"]


def test_inputs_that_would_share_a_name_all_keep_their_suffix() -> None:
    assert named("a.jpg", "b.jpg", "a.png", "x/a.jpg") == ["a.jpg", "b", "a.png", "x/a"]


def test_case_and_accents_do_not_tell_names_apart() -> None:
    assert named("A.jpg", "a.png") == ["A.jpg", "a.png"]
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.png"
    assert named(composed, decomposed) == [composed, decomposed]
    assert named("A/x.jpg", "a/x.png") == ["A/x.jpg", "a/x.png"]
    assert named("A.jpg", "a.jpg") == ["A.jpg", "imgs/a.jpg"]


def test_the_same_name_from_two_folders() -> None:
    both = [*inputs("a.jpg", "s/b.jpg", root="train"), *inputs("a.jpg", "s/b.jpg", root="val")]
    assert list(assign_names(both).values()) == ["a.jpg", "s/b.jpg", "val/a.jpg", "val/s/b.jpg"]


def test_the_same_name_from_two_folders_of_the_same_name() -> None:
    three = [*inputs("a.jpg", root="x/i"), *inputs("a.jpg", root="y/i"), *inputs("a.jpg", root="z/i")]
    assert list(assign_names(three).values()) == ["a.jpg", "i/a.jpg", "a-2.jpg"]


def test_a_name_that_equals_anothers_full_name() -> None:
    names = named("a.jpg", "a.png", "a.jpg.png")
    assert names == ["a.jpg", "a.png", "a.jpg.png"]
    check_apart(names)


def test_a_folder_named_like_an_output() -> None:
    names = named("a.jpg", "a.png/b.jpg")  # labels/a.png is a file; labels/a.png/ would have to be a folder
    assert names[0] == "a"
    check_apart(names)


def test_earlier_names_are_kept_and_not_given_to_others() -> None:
    taken = {str(Path("imgs/a.jpg").absolute()): "a", str(Path("imgs/gone.jpg").absolute()): "b"}
    assert named("a.png", "a.jpg", "b.png", taken=taken) == ["a.png", "a", "b.png"]


def test_earlier_names_that_lead_elsewhere_or_clash_are_not_kept() -> None:
    keys = [str(Path("imgs", name).absolute()) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    taken = dict(zip(keys, ["../../evil", "/etc/evil", "same", "same"], strict=True))
    assert named("a.jpg", "b.jpg", "c.jpg", "d.jpg", taken=taken) == ["a", "b", "same", "d"]


def test_no_name_leaves_the_output_folder() -> None:
    odd = [PurePath("../a.jpg"), PurePath("/etc/b.jpg"), PurePath("..jpg"), PurePath("...jpg"), PurePath()]
    names = list(assign_names([InputImage(Path(f"{i}.jpg"), path) for i, path in enumerate(odd)]).values())
    check_safe(names)
    check_apart(names)


def test_bytes_that_are_no_text_are_kept() -> None:
    odd = os.fsdecode(b"caf\xe9")
    assert named(f"{odd}.jpg") == [odd]
    assert os.fsencode(named(f"{odd}.jpg", f"{odd}.png")[1]) == b"caf\xe9.png"


def test_the_same_input_twice_has_one_name() -> None:
    assert named("a.jpg", "a.jpg") == ["a"]


part = st.text(st.sampled_from("aAb.\u00e9e\u0301-2 \udce9"), min_size=1, max_size=5).filter(
    lambda name: name not in {".", ".."}
)
suffix = st.sampled_from([".jpg", ".png", ".JPG", ".tif", ".npz", ""])
relative = st.builds(
    lambda folders, name, end: "/".join((*folders, name + end)), st.lists(part, max_size=2), part, suffix
)
images = st.lists(
    st.builds(
        lambda root, name: InputImage(Path(root, name), PurePath(name)),
        st.sampled_from(["x/i", "y/i", "a.png"]),
        relative,
    ),
    max_size=12,
)


@given(images)
@example(inputs("a.jpg", "a.png/b.jpg", "a.png/b.png", "A.PNG/B.jpg", root="a.png"))
@example(inputs("a.jpg", "a.png", "a.jpg.png", "a.jpg.png/c.jpg", root="x/i"))
def test_outputs_never_collide_and_never_leave_the_folder(found) -> None:
    names = assign_names(found)
    assert set(names) == {image.path for image in found}
    check_apart(list(names.values()))
    check_safe(list(names.values()))


@given(images, images)
def test_names_stay_when_inputs_are_added(earlier, later) -> None:
    before = assign_names(earlier)
    taken = {str(path.absolute()): name for path, name in before.items()}
    assert assign_names(earlier, taken) == before
    after = assign_names([*later, *earlier], taken)
    assert {path: after[path] for path in before} == before
    check_apart(list(after.values()))


@given(images)
def test_names_do_not_depend_on_anything_but_the_inputs(found) -> None:
    assert assign_names(found) == assign_names(list(found))
