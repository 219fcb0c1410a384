from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from stego_cli.checkpoints.native import Checkpoint, load_checkpoint, read_safetensors, save_checkpoint
from stego_cli.config.model import About, DinoConfig, FilterbankConfig, LabelSpace, ModelConfig, StegoConfig, VitConfig
from stego_cli.errors import CheckpointError, OutputError

SPACE = LabelSpace(name="three", names=("ä", "b", "c"), colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def config(**changes: object) -> ModelConfig:
    values = {
        "backbone": VitConfig(name="dino_vits8"),
        "method": StegoConfig(code_dim=5),
        "num_clusters": 4,
        "label_space": SPACE,
        "cluster_to_class": (0, 2, 1, -1),
        "about": About(title="a model", scores={"miou": 0.25}, seed=7),
    }
    return ModelConfig.model_validate(values | changes)


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "backbone.cls_token": torch.randn(1, 1, 6, generator=generator),
        "head.linear.weight": torch.randn(5, 6, 1, 1, generator=generator),
        "cluster_probe.centroids": torch.randn(4, 5, generator=generator),
        "linear_probe.weight": torch.randn(3, 5, generator=generator),
        "linear_probe.bias": torch.randn(3, generator=generator),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(Checkpoint(config(), tensors()), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def with_metadata(path: Path, **metadata: str) -> Path:
    save_file(tensors(), path, metadata=metadata)
    return path


def test_a_model_comes_back_as_it_was(saved: Path) -> None:
    back = load_checkpoint(saved)
    assert back.config == config()
    assert back.tensors.keys() == tensors().keys()
    assert all(torch.equal(back.tensors[key], value) for key, value in tensors().items())


def test_the_file_is_plain_safetensors_with_json_inside(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["stego"]
    assert json.loads(metadata["stego"])["label_space"]["names"] == ["ä", "b", "c"]
    assert [path.name for path in saved.parent.iterdir()] == ["m.safetensors"]


def test_half_precision_is_half_the_size_and_comes_back_as_float32(tmp_path: Path) -> None:
    big = tensors() | {"backbone.pos_embed": torch.randn(1, 100, 100)}
    save_checkpoint(Checkpoint(config(), big), tmp_path / "full")
    save_checkpoint(Checkpoint(config(), big), tmp_path / "half", torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    back = load_checkpoint(tmp_path / "half")
    assert all(value.dtype == torch.float32 for value in back.tensors.values())
    assert torch.equal(back.tensors["backbone.pos_embed"], big["backbone.pos_embed"].half().float())


def test_tensors_that_share_memory_or_have_gaps_are_written_whole(tmp_path: Path) -> None:
    whole = torch.arange(40.0).reshape(4, 10)
    values = tensors() | {"cluster_probe.centroids": whole[:, ::2], "head.linear.bias": whole[0]}
    save_checkpoint(Checkpoint(config(), values), tmp_path / "m")
    back = load_checkpoint(tmp_path / "m").tensors
    assert torch.equal(back["cluster_probe.centroids"], whole[:, ::2])
    assert torch.equal(back["head.linear.bias"], whole[0])


def test_integers_stay_integers(tmp_path: Path) -> None:
    save_checkpoint(Checkpoint(config(), tensors() | {"head.count": torch.tensor(3)}), tmp_path / "m", torch.float16)
    assert load_checkpoint(tmp_path / "m").tensors["head.count"].dtype == torch.int64


def test_loaded_tensors_do_not_change_with_the_file(saved: Path) -> None:
    back = load_checkpoint(saved)
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert torch.equal(back.tensors["linear_probe.bias"], tensors()["linear_probe.bias"])


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), None), (float("inf"), None), (1e6, torch.float16)])
def test_values_that_are_not_finite_are_not_written(tmp_path: Path, value: float, dtype: torch.dtype | None) -> None:
    broken = tensors() | {"head.linear.bias": torch.tensor([1.0, value])}
    with pytest.raises(CheckpointError, match=r"head\.linear\.bias.*not finite"):
        save_checkpoint(Checkpoint(config(), broken), tmp_path / "m", dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        save_checkpoint(Checkpoint(config(), tensors()), tmp_path / "file" / "m.safetensors")


def test_modules_get_their_own_names() -> None:
    names = set(Checkpoint(config(), tensors()).tensors_for_modules())
    assert names == {
        "backbone.network.cls_token", "head.linear.weight", "cluster_probe.centroids", "linear_probe.weight",
        "linear_probe.bias",
    }  # fmt: skip
    bank = {"backbone.scale" if key == "backbone.cls_token" else key: value for key, value in tensors().items()}
    assert "backbone.scale" in Checkpoint(config(backbone=FilterbankConfig()), bank).tensors_for_modules()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cluster_probe.centroids", None, "`cluster_probe.centroids` is missing"),
        ("linear_probe.bias", None, "`linear_probe.bias` is missing"),
        ("cluster_probe.centroids", torch.ones(5, 5), r"shape \(5, 5\), the config says \(4, 5\)"),
        ("linear_probe.weight", torch.ones(3, 6), r"shape \(3, 6\), the config says \(3, 5\)"),
        ("optimizer.step", torch.ones(1), "`optimizer.step` is not part of a model"),
        ("linear_probe.scale", torch.ones(1), "`linear_probe.scale` is not part of a model"),
    ],
)
def test_config_and_tensors_must_belong_together(key: str, value: Tensor | None, words: str) -> None:
    changed = {name: tensor for name, tensor in (tensors() | {key: value}).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=words):
        Checkpoint(config(), changed)


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(config(), {})
    assert str(caught.value).count("is missing") == 3


def test_a_linear_probe_that_the_config_denies_is_a_problem() -> None:
    with pytest.raises(CheckpointError, match=r"linear_probe\.bias` is not part"):
        Checkpoint(config(has_linear_probe=False), tensors())


def test_without_a_head_the_centroids_give_the_width() -> None:
    own = {key: value for key, value in tensors().items() if not key.startswith("head.")}
    Checkpoint(config(method=DinoConfig()), own)
    with pytest.raises(CheckpointError, match=r"\(3, 7\), the config says \(3, 5\)"):
        Checkpoint(config(method=DinoConfig()), own | {"linear_probe.weight": torch.ones(3, 7)})


def test_bare_weights_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w\.safetensors.*bare tensors(.|\n)*weights of a backbone"):
        load_checkpoint(with_metadata(tmp_path / "w.safetensors", format="pt"))


@pytest.mark.parametrize("length", [0, 3, 8, 60, 500, -1])
def test_a_file_cut_short_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        load_checkpoint(saved)


def test_a_later_format_asks_for_a_newer_version(tmp_path: Path) -> None:
    values = json.loads(config().model_dump_json()) | {"format": 2, "something": "new"}
    path = with_metadata(tmp_path / "m", stego=json.dumps(values))
    with pytest.raises(CheckpointError, match=r"format 2(.|\n)*newer stego"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', "[" * 100_000])
def test_metadata_that_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match="config inside"):
        load_checkpoint(with_metadata(tmp_path / "m", stego=text))


def test_every_problem_of_a_config_is_listed(tmp_path: Path) -> None:
    values = json.loads(config().model_dump_json()) | {"num_clusters": "many", "colour": "blue"}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(with_metadata(tmp_path / "m", stego=json.dumps(values)))
    assert "2 problems" in str(caught.value)
    assert "num_clusters: " in str(caught.value)
    assert "colour: " in str(caught.value)


def test_tensors_that_do_not_fit_the_config_name_the_file(tmp_path: Path) -> None:
    path = with_metadata(
        tmp_path / "wrong.safetensors", stego=config(num_clusters=5, cluster_to_class=None).model_dump_json()
    )
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors(.|\n)*the config says \(5, 5\)"):
        load_checkpoint(path)


def test_a_torch_file_is_no_safetensors_file(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="a torch file, not a safetensors file"):
        read_safetensors(tmp_path / "m.safetensors")
