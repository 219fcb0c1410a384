from __future__ import annotations

import io
import pickle
import random
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stego_cli.checkpoints.pickles import StandIn
from stego_cli.checkpoints.safe_torch import read_tensors, read_torch_file, read_weights
from stego_cli.errors import CheckpointError

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip
Writer = Callable[..., Path]


def storage(kind: str = "FloatStorage", key: str = "0", count: int = 4, where: str = "cpu") -> bytes:
    """The opcodes that refer to a storage."""
    words = b"".join(b"X" + struct.pack("<i", len(text)) + text.encode() for text in ("storage",))
    for part in (f"ctorch\n{kind}\n".encode(), *(b"X" + struct.pack("<i", len(t)) + t.encode() for t in (key, where))):
        words += part
    return b"(" + words + b"J" + struct.pack("<i", count) + b"tQ"


def tensor(size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0, **how: object) -> bytes:
    """A pickle of one tensor, made by hand."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    body = storage(**how) + b"J" + struct.pack("<i", offset) + numbers(size) + numbers(stride)  # type: ignore[arg-type]
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + body + b"\x89ccollections\nOrderedDict\n)RtR."


FOUR = {"0": struct.pack("<4f", 1, 2, 3, 4)}


@BOTH
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_saves_comes_back(tmp_path: Path, zipped: bool, protocol: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = {str(dtype): torch.randn(3, 5, generator=generator).to(dtype) for dtype in DTYPES}
    shared = torch.arange(12.0).reshape(3, 4)
    values |= {"whole": shared, "part": shared[1:, ::2], "transposed": shared.T, "number": torch.tensor(3)}
    values |= {"empty": torch.empty(0, 4), "parameter": nn.Parameter(torch.ones(2))}
    content = {"state_dict": nn.Linear(2, 3).state_dict() | values, "epoch": 3, "name": "ä", "rates": [0.1, (1, 2)]}
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    back = read_torch_file(path)
    assert {key: back[key] for key in ("epoch", "name", "rates")} == {"epoch": 3, "name": "ä", "rates": [0.1, (1, 2)]}
    for key, value in content["state_dict"].items():
        read = back["state_dict"][key]
        assert type(read) is Tensor
        assert read.dtype == value.dtype
        assert torch.equal(read, value), key


def test_storages_from_a_gpu_come_to_the_cpu(torch_zip: Writer) -> None:
    read = read_torch_file(torch_zip(tensor(where="cuda:0"), FOUR))
    assert read.device.type == "cpu"
    assert read.tolist() == [1, 2, 3, 4]


def test_a_class_as_key_and_config_objects_are_read_without_their_packages(
    tmp_path: Path, write_lightning: Writer
) -> None:
    path = write_lightning(tmp_path / "a.ckpt", {"x": torch.ones(1)}, {"dim": 5}, class_as_key=True)
    assert "omegaconf" not in sys.modules
    back = read_torch_file(path)
    assert [key.path for key in back["callbacks"]] == ["pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"]
    assert isinstance(back["hyper_parameters"]["cfg"], StandIn)
    assert "omegaconf" not in sys.modules


class Command:
    """Runs a shell command when it is unpickled."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch PWNED",)


class Evaluated:
    """Evaluates an expression when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('PWNED', 'w').close()",)


class Loaded:
    """Opens another pickle, through torch, when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return torch.storage._load_from_bytes, (pickle.dumps({"inner": Evaluated()}),)


@BOTH
@pytest.mark.parametrize(
    ("payload", "name"),
    [
        pytest.param(Command("os"), "posix.system" if sys.platform != "win32" else "nt.system", id="system"),
        pytest.param(Evaluated(), "builtins.eval", id="eval"),
        pytest.param(Loaded(), "torch.storage._load_from_bytes", id="torch's own reader"),
    ],
)
def test_a_hostile_file_is_refused_by_name_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, payload: object, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("hostile.ckpt")
    content = {"state_dict": {"w": torch.ones(2)}, "callbacks": {"x": payload}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert f"`{name}`" in str(caught.value)
    assert "nothing in the file was executed" in str(caught.value)
    assert "hint: " in str(caught.value)
    assert not Path("PWNED").exists()


def test_the_hostile_file_does_run_in_the_standard_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evaluated(), 2))
    assert Path("PWNED").exists()  # so the test above can fail


def test_words_out_of_a_file_cannot_steer_the_terminal(torch_zip: Writer) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(torch_zip(b"\x80\x02cposix\nsys\x1b[2Jtem\n)R."))
    assert "\x1b" not in str(caught.value)
    assert r"`posix.sys\x1b[2Jtem`" in str(caught.value)


def test_a_whole_pickled_network_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*\n\nhint: .*state dict"):
        read_torch_file(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(tensor(count=1000, size=(1000,)), "declares 4000 bytes and holds 16", id="more than the member"),
        pytest.param(tensor(count=2, size=(2,)), "declares 8 bytes and holds 16", id="less than the member"),
        pytest.param(tensor(size=(5,)), "does not fit", id="one past the end"),
        pytest.param(tensor(size=(2,), stride=(4,)), "does not fit", id="stride past the end"),
        pytest.param(tensor(size=(4,), offset=1), "does not fit", id="offset past the end"),
        pytest.param(tensor(size=(2**40, 2**40), stride=(0, 0)), "does not fit", id="endless by stride zero"),
        pytest.param(tensor(size=(-1,)), "impossible", id="negative size"),
        pytest.param(tensor(size=(2,), stride=(-1,)), "impossible", id="negative stride"),
        pytest.param(tensor(offset=-1), "impossible", id="negative offset"),
        pytest.param(tensor(size=(2, 2), stride=(1,)), "impossible", id="sizes and strides differ"),
        pytest.param(tensor(count=-4), "declares -4 values", id="negative count"),
        pytest.param(tensor(kind="UntypedStorage"), "torch.UntypedStorage", id="unknown storage"),
        pytest.param(tensor(key="../data.pkl"), "missing", id="another member"),
        pytest.param(tensor(key="7"), "missing", id="no such storage"),
        pytest.param(b"\x80\x02X\x05\x00\x00\x00otherQ.", "something else", id="another persistent id"),
    ],
)
def test_tensors_stay_within_what_the_file_holds(torch_zip: Writer, data: bytes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_torch_file(torch_zip(data, FOUR))


def test_compressed_members_are_refused(torch_zip: Writer) -> None:
    path = torch_zip(tensor(), {"0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="more than a torch file can hold"):
        read_torch_file(path)


def overlapping_zip(path: Path, pickle_data: bytes, members: int, kernel: bytes) -> list[int]:
    """Write a zip whose storages 0, 1, 2 ... each hold all that follows, the later ones included; return the sizes."""
    blocks = [("archive/data.pkl", pickle_data)] + [(f"archive/data/{i}", b"") for i in range(members)]
    bodies: list[bytes] = []
    rest = kernel
    for name, data in reversed(blocks):
        body = data or rest
        fields = (0, 0, 0, 0, 0, zlib.crc32(body), len(body), len(body), len(name), 0)
        bodies.insert(0, body)
        rest = struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields) + name.encode() + data + rest
    start, directory, offset = len(rest), b"", 0
    for (name, data), body in zip(blocks, bodies, strict=True):
        fields = (0, 0, 0, 0, 0, 0, zlib.crc32(body), len(body), len(body), len(name), 0, 0, 0, 0, 0, offset)
        directory += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + name.encode()
        offset += 30 + len(name) + len(data)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(blocks), len(blocks), len(directory), start, 0)
    path.write_bytes(rest + directory + end)
    return [len(body) for body in bodies[1:]]


@pytest.mark.parametrize("members", [1, 9])
def test_members_that_overlap_cannot_unfold_to_more_than_the_file(tmp_path: Path, members: int) -> None:
    path, kernel = tmp_path / "bomb.ckpt", bytes(40_000)
    sizes = overlapping_zip(path, b"\x80\x02N.", members, kernel)
    counts = [size // 4 for size in sizes]
    tensors = [tensor((count,), key=str(i), count=count)[2:-1] for i, count in enumerate(counts)]
    overlapping_zip(path, b"\x80\x02(" + b"".join(tensors) + b"l.", members, kernel)
    if members == 1:  # nothing overlaps
        assert [len(value) for value in read_torch_file(path)] == counts
    else:
        with pytest.raises(CheckpointError, match="more than a torch file can hold"):
            read_torch_file(path)


def test_a_pickle_of_absurd_size_is_not_read(torch_zip: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stego_cli.checkpoints.storages._MAX_PICKLE", 50)
    with pytest.raises(CheckpointError, match="more than a torch file can hold"):
        read_torch_file(torch_zip(tensor(), FOUR))


def test_a_big_endian_file_is_refused(torch_zip: Writer) -> None:
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_file(torch_zip(tensor(), FOUR, byteorder=b"big"))


@pytest.fixture(scope="module")
def sound() -> dict[bool, bytes]:
    """A sound file in each of the two formats."""
    files = {}
    for zipped in (True, False):
        buffer = io.BytesIO()
        content = {"state_dict": {f"w{i}": torch.arange(20.0) + i for i in range(3)}, "epoch": 1}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files[zipped] = buffer.getvalue()
    return files


@BOTH
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, sound: dict[bool, bytes], zipped: bool) -> None:
    path = tmp_path / "cut.pth"
    data = sound[zipped]
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_torch_file(path)


@BOTH
def test_a_damaged_file_never_gives_another_kind_of_error(
    tmp_path: Path, sound: dict[bool, bytes], zipped: bool
) -> None:
    random_numbers = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(sound[zipped])
        for _ in range(random_numbers.choice([1, 1, 3, 30])):
            data[random_numbers.randrange(len(data))] = random_numbers.randrange(256)
        path = tmp_path / "damaged.pth"
        path.write_bytes(data)
        try:
            read_torch_file(path)
        except CheckpointError:
            refused += 1
    assert refused > 50  # the older format has no checksums, so much damage goes into values


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_a_damaged_pickle_never_gives_another_kind_of_error(torch_zip: Writer, sound: dict[bool, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(sound[True])) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    storages = {name.removeprefix("data/"): data for name, data in parts.items() if name.startswith("data/")}
    random_numbers = random.Random(1)
    refused = 0
    for _ in range(500):  # the zip's checksums are right here, so all of this reaches the reader of pickles
        data = bytearray(parts["data.pkl"])
        for _ in range(random_numbers.choice([1, 1, 2, 5])):
            data[random_numbers.randrange(len(data))] = random_numbers.randrange(256)
        try:
            read_torch_file(torch_zip(bytes(data), storages))
        except CheckpointError:
            refused += 1
    assert refused > 250


def test_damage_inside_a_tensor_is_noticed(tmp_path: Path, sound: dict[bool, bytes]) -> None:
    data = bytearray(sound[True])
    data[data.index(struct.pack("<f", 19.0)) + 1] ^= 1
    (tmp_path / "damaged.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC"):
        read_torch_file(tmp_path / "damaged.pth")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>Sign in", "web page.*<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer(.|\n)*git lfs pull"),
        (b"just some words", "text file"),
        (b"\x80\x02K\x01.", "bare pickle"),
    ],
)
def test_what_is_no_torch_file_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        read_torch_file(path)


def test_a_folder_is_no_torch_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a folder"):
        read_torch_file(tmp_path)


def rename(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


HEAD = {"head.mlp.0.weight": torch.ones(3), "head.last_layer.weight_g": torch.ones(3)}


def layouts(net: dict[str, Tensor]) -> dict[str, tuple[object, set[str]]]:
    """The wrappings that weights come in, and what has to be left out."""
    other = {key: value + 1 for key, value in net.items()}
    both = rename(net | HEAD, "module.base_encoder.") | rename(other, "module.momentum_encoder.")
    return {
        "plain": (net, set()),
        "DDP": (rename(net, "module."), set()),
        "MAE": ({"model": net}, set()),
        "iBOT": ({"state_dict": net}, set()),
        "MSN": (
            {"target_encoder": rename(net | {"fc.fc1.weight": torch.ones(2)}, "module."), "prototypes": torch.ones(2),
             "encoder": rename(other, "module."), "epoch": 3},
            {"encoder", "epoch", "prototypes", "target_encoder.module.fc.fc1.weight"},
        ),
        "DINO, whole": (
            {"student": rename(other | HEAD, "module.backbone."), "optimizer": {"state": {}}, "epoch": 9,
             "teacher": rename(net, "backbone.") | HEAD},
            {"student", "optimizer", "epoch", *(f"teacher.{key}" for key in HEAD)},
        ),
        "MoCo-v3": (
            {"state_dict": both, "arch": "vit_small"},
            {"arch", *(f"state_dict.module.base_encoder.{key}" for key in HEAD),
             *(f"state_dict.module.momentum_encoder.{key}" for key in net)},
        ),
        "STEGO": (
            {"state_dict": rename(net, "net.model.") | {"cluster_probe.clusters": torch.ones(2)}},
            {"state_dict.cluster_probe.clusters"},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", layouts({}))
def test_weights_are_found_in_every_wrapping(tmp_path: Path, vit: Callable[..., dict[str, Tensor]], name: str) -> None:
    net = vit()
    content, dropped = layouts(net)[name]
    torch.save(content, tmp_path / "a.pth")
    weights = read_weights(tmp_path / "a.pth")
    assert weights.tensors.keys() == net.keys()
    assert all(torch.equal(weights.tensors[key], value) for key, value in net.items())
    assert set(weights.dropped) == dropped
    assert bool(weights.layout) is (name != "plain")


def test_a_classifier_in_a_plain_file_is_kept_so_that_strict_loading_names_it(
    tmp_path: Path, vit: Callable[..., dict[str, Tensor]]
) -> None:
    torch.save(vit() | {"head.weight": torch.ones(2)}, tmp_path / "a.pth")
    assert "head.weight" in read_tensors(tmp_path / "a.pth")


def test_weights_without_a_vision_transformer_lose_only_the_wrapper(tmp_path: Path) -> None:
    torch.save({"module.conv1.weight": torch.ones(2), "module.fc.bias": torch.ones(1)}, tmp_path / "a.pth")
    assert set(read_tensors(tmp_path / "a.pth")) == {"conv1.weight", "fc.bias"}


def test_weights_come_from_safetensors_and_as_float32(tmp_path: Path, vit: Callable[..., dict[str, Tensor]]) -> None:
    net = vit()
    half = {f"backbone.{key}": value.half() for key, value in net.items()} | {"head.linear.weight": torch.ones(1)}
    save_file(half, tmp_path / "a.pth")  # the name does not matter
    weights = read_weights(tmp_path / "a.pth")
    assert all(value.dtype == torch.float32 for value in weights.tensors.values())
    assert all(torch.equal(weights.tensors[key], value.half().float()) for key, value in net.items())
    assert weights.dropped == ("head.linear.weight",)


@pytest.mark.parametrize("content", [{"epoch": 3, "args": {"lr": 0.1}}, [1, 2], 7])
def test_a_file_without_weights_says_what_it_has(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"holds no network weights.*(`epoch`, `args`|list|int)"):
        read_weights(tmp_path / "a.pth")
