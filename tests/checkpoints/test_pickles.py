from __future__ import annotations

import io
import pickle
import struct
import sys
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from stego_cli.checkpoints.pickles import ForbiddenNameError, Name, StandIn, read_pickle
from stego_cli.checkpoints.plain import to_plain
from stego_cli.errors import CheckpointError

VALUES = {
    "numbers": [0, -1, 255, 70000, 2**40, -(2**70), 0.5, float("inf")],
    "text": ["", "ä", "x" * 300],
    "bytes": b"\x00\xff",
    "none": None,
    "truth": (True, False),
    3: {"nested": [{"deep": ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ())}]},
    (1, "a"): "flat tuples may be keys",
}


def read(data: bytes) -> object:
    return read_pickle(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_whatever_the_protocol(protocol: int) -> None:
    assert read(pickle.dumps(VALUES, protocol)) == VALUES


@pytest.mark.parametrize("protocol", [2, 4])
def test_shared_and_cyclic_lists_stay_what_they_are(protocol: int) -> None:
    loop: list[object] = [1]
    loop.append(loop)
    back = read(pickle.dumps([loop, loop], protocol))
    assert isinstance(back, list)
    assert back[0] is back[1]
    assert back[0][1] is back[0]


@pytest.mark.parametrize("protocol", [2, 4])
def test_dictionaries_of_the_standard_library_become_plain_ones(protocol: int) -> None:
    ordered = OrderedDict([("b", 1), ("a", 2)])
    ordered.note = "left out"  # type: ignore[attr-defined]  # the way torch keeps `_metadata`
    filled = defaultdict(dict, {"x": 1})
    back = read(pickle.dumps([ordered, filled, Counter("aab")], protocol))
    assert back == [{"b": 1, "a": 2}, {"x": 1}, {"a": 2, "b": 1}]
    assert all(type(value) is dict for value in back)
    assert list(back[0]) == ["b", "a"]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("number", [np.float64(0.25), np.float32(-1.5), np.int64(7), np.bool_(True), np.uint8(200)])
def test_numpy_scalars_become_numbers(number: np.generic, protocol: int) -> None:
    back = read(pickle.dumps(number, protocol))
    assert back == number.item()
    assert type(back) is type(number.item())


def test_big_endian_numpy_scalars_are_read_the_right_way_round() -> None:
    assert read(pickle.dumps(np.array([1.5], dtype=">f8")[0], 2)) == 1.5
    swapped = pickle.dumps(np.float64(1.5), 2).replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
    assert read(swapped) == struct.unpack(">d", struct.pack("<d", 1.5))[0]


@pytest.mark.parametrize("protocol", [2, 4])
def test_sets_become_lists(protocol: int) -> None:
    back = read(pickle.dumps([{1}, frozenset({2}), set()], protocol))
    assert back == [[1], [2], []]


def test_numpy_arrays_become_stand_ins() -> None:
    back = read(pickle.dumps(np.arange(3), 2))
    assert isinstance(back, StandIn)
    assert back.path.endswith("multiarray._reconstruct")


def test_names_of_known_families_are_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "omegaconf").mkdir()
    (tmp_path / "omegaconf" / "__init__.py").write_text("open('PWNED', 'w')")
    (tmp_path / "omegaconf" / "trap.py").write_text("open('PWNED', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    back = read(b"\x80\x02comegaconf.trap\nTrap\n(K\x01tR}X\x01\x00\x00\x00aK\x02sb.")
    assert isinstance(back, StandIn)
    assert (back.path, back.args, back.state) == ("omegaconf.trap.Trap", (1,), {"a": 2})
    assert not (tmp_path / "PWNED").exists()
    assert "omegaconf" not in sys.modules
    # The same bytes do run code in the standard library's reader, so the check above can fail.
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        pickle.loads(b"\x80\x02comegaconf.trap\nTrap\n(K\x01tR.")
    assert (tmp_path / "PWNED").exists()
    for name in [name for name in sys.modules if name.startswith("omegaconf")]:
        del sys.modules[name]


def test_a_class_reference_as_a_key_stays_a_name() -> None:
    back = read(b"\x80\x02}cpytorch_lightning.callbacks\nModelCheckpoint\nK\x01s.")
    assert back == {Name("pytorch_lightning.callbacks.ModelCheckpoint"): 1}


FORBIDDEN = (
    "posix system",
    "nt system",
    "os system",
    "os.path join",
    "subprocess Popen",
    "builtins eval",
    "builtins exec",
    "builtins getattr",
    "builtins __import__",
    "builtins open",
    "builtins compile",
    "__builtin__ eval",
    "__builtin__ apply",
    "copyreg _reconstructor",
    "copy_reg _reconstructor",
    "copyreg __newobj__",
    "operator attrgetter",
    "operator methodcaller",
    "operator getitem",
    "functools partial",
    "functools reduce",
    "importlib import_module",
    "pickle loads",
    "_pickle loads",
    "runpy run_path",
    "shutil rmtree",
    "socket socket",
    "sys modules",
    "webbrowser open",
    "antigravity geohash",
    "codecs decode",
    "_codecs decode",
    "torch load",
    "torch.serialization load",
    "torch.storage _load_from_bytes",
    "torch.hub load",
    "torch.jit load",
    "torch.utils.cpp_extension load",
    "torch._utils _rebuild_qtensor",
    "torch.nn.modules.linear Linear",
    "torch Tensor",
    "collections namedtuple",
    "pathlib Path.touch",
    "argparse FileType",
    "omegaconfx anything",
    "numpyx load",
    "__main__ Model",
)


@pytest.mark.parametrize("words", FORBIDDEN)
@pytest.mark.parametrize("shape", ["called", "new object", "stack name", "only named"])
def test_every_other_name_is_refused_by_name(words: str, shape: str) -> None:
    module, name = words.split(" ")
    asked = f"c{module}\n{name}\n".encode()
    stack = f"\x8c{chr(len(module))}{module}\x8c{chr(len(name))}{name}\x93".encode("latin-1")
    tail = {"called": b")R.", "new object": b")\x81.", "stack name": b")R.", "only named": b"."}[shape]
    with pytest.raises(ForbiddenNameError) as caught:
        read(b"\x80\x04" + (stack if shape == "stack name" else asked) + tail)
    assert str(caught.value) == f"{module.replace('__builtin__', 'builtins')}.{name}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"(S'touch PWNED'\niposix\nsystem\n.", id="INST"),
        pytest.param(b"(cbuiltins\nlist\no.", id="OBJ"),
        pytest.param(b"\x82\x01.", id="EXT1"),
        pytest.param(b"\x83\x01\x00.", id="EXT2"),
        pytest.param(b"\x84\x01\x00\x00\x00.", id="EXT4"),
        pytest.param(b"Psome id\n.", id="PERSID"),
        pytest.param(b"\x97.", id="NEXT_BUFFER"),
        pytest.param(b"\x80\x04cbuiltins\nlist\n)}\x92.", id="NEWOBJ_EX"),
    ],
)
def test_opcodes_that_no_model_needs_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="opcode"):
        read(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"K\x01)R.", "calls a int", id="calls a number"),
        pytest.param(b"comegaconf\nA\n)R)R.", "calls a StandIn", id="calls a stand-in"),
        pytest.param(b"comegaconf\nA\nK\x01R.", "calls a", id="arguments are no tuple"),
        pytest.param(b"comegaconf\nA\n}b.", "attributes of a Name", id="changes a class"),
        pytest.param(b"]}b.", "attributes of a list", id="changes a list"),
        pytest.param(b"comegaconf\nA\nK\x01K\x02s.", "entries of a Name", id="sets on a class"),
        pytest.param(b")K\x01a.", "appends to a tuple", id="appends to a tuple"),
        pytest.param(b"K\x01Q.", "data outside", id="persistent id"),
        pytest.param(b"}]K\x01s.", "list as a dictionary key", id="list as a key"),
        pytest.param(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "unusual", id="other codec"),
    ],
)
def test_strange_uses_of_harmless_things_are_refused(data: bytes, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        read(b"\x80\x02" + data)


def test_a_call_that_would_fill_the_memory_is_only_noted() -> None:
    back = read(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")
    assert isinstance(back, StandIn)
    assert back.args == (2**31 - 1,)


def test_a_memo_index_reserves_nothing() -> None:
    assert read(b"\x80\x02K\x01r\xff\xff\xff\xff0j\xff\xff\xff\xff.") == 1


@pytest.mark.parametrize("as_key", [True, False])
def test_deeply_nested_tuples_do_not_crash_the_interpreter(as_key: bool) -> None:
    nested = b"K\x01" + b"\x85" * 200_000
    if as_key:  # hashing such a tuple overflows the C stack
        with pytest.raises(TypeError, match="dictionary key"):
            read(b"\x80\x02}" + nested + b"K\x01s.")
    else:
        back = read(b"\x80\x02" + nested + b".")
        with pytest.raises(CheckpointError, match="unfolds"):
            to_plain(back)


def test_a_small_pickle_that_unfolds_without_end_is_refused() -> None:
    bomb: object = ["lol"]
    for _ in range(40):
        bomb = [bomb, bomb]
    with pytest.raises(CheckpointError, match="unfolds"):
        to_plain(read(pickle.dumps(bomb, 2)))


@pytest.mark.parametrize("length", [0, 1, 2, 5, 20])
def test_a_pickle_cut_short_is_an_error(length: int) -> None:
    with pytest.raises((ValueError, EOFError, IndexError)):
        read(pickle.dumps(VALUES, 2)[:length])


def test_stand_ins_unfold_to_what_they_hold() -> None:
    entries = StandIn("lightning.fabric.AttributeDict")
    entries.entries["lr"] = 0.1
    elements = StandIn("omegaconf.x")
    elements.elements.append(1)
    attributes = StandIn("argparse.Namespace")
    attributes.state = {"arch": "vit"}
    values = [entries, elements, attributes, StandIn("torch.device", ("cpu",)), Name("builtins.dict")]
    assert to_plain(values) == [{"lr": 0.1}, [1], {"arch": "vit"}, ["cpu"], "builtins.dict"]


def test_paths_unfold_to_text() -> None:
    assert to_plain(read(pickle.dumps(PurePosixPath("a/b"), 2))) == "a/b"
