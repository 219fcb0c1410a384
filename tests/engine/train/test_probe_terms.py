"""The linear probe's loss against the plain way of computing it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stego_cli.engine.train import probe_terms
from stego_cli.engine.train.probe_terms import linear_loss, upsampling
from stego_cli.probes.linear import LinearProbe


def probe_with_weights(classes: int, dim: int) -> LinearProbe:
    probe = LinearProbe(classes, dim)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        probe.weight.copy_(torch.randn(classes, dim, generator=generator))
        probe.bias.copy_(torch.randn(classes, generator=generator))
    return probe


def plain(probe: LinearProbe, code: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    scores = functional.interpolate(probe.logits(code), labels.shape[1:], mode="bilinear", align_corners=False)
    valid = (labels >= 0) & (labels < len(probe.bias))
    return functional.cross_entropy(scores.movedim(1, -1)[valid], labels[valid])


@pytest.mark.parametrize("piece", [1, 10**9])
@pytest.mark.parametrize("size", [(24, 40), (7, 9), (3, 4), (2, 3)])
def test_value_and_gradients_are_those_of_the_plain_computation(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], piece: int
) -> None:
    monkeypatch.setattr(probe_terms, "CPU_PIECE", piece)
    generator = torch.Generator().manual_seed(1)
    code = torch.randn(3, 5, 3, 4, generator=generator).requires_grad_()
    labels = torch.randint(-1, 8, (3, *size), generator=generator)  # 6 and 7 are no classes of the probe
    probe = probe_with_weights(6, 5)
    leaves = (code, probe.weight, probe.bias)
    found, expected = linear_loss(probe, code, labels), plain(probe, code, labels)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found * 3, leaves), torch.autograd.grad(expected * 3, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_labels_as_bytes_with_255_for_none() -> None:
    labels = torch.randint(-1, 4, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    probe, code = probe_with_weights(4, 5), torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(linear_loss(probe, code, labels.to(torch.uint8)), linear_loss(probe, code, labels))


def test_when_nothing_counts_the_loss_and_its_gradient_are_zero() -> None:
    probe = probe_with_weights(3, 5)
    loss = linear_loss(probe, torch.randn(2, 5, 3, 3), torch.full((2, 6, 6), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(probe.weight.grad, torch.zeros(3, 5))


def test_one_class_is_always_right() -> None:
    loss = linear_loss(probe_with_weights(1, 5), torch.randn(2, 5, 3, 3), torch.zeros(2, 6, 6, dtype=torch.int64))
    assert loss.item() == 0


def test_broken_codes_show_in_the_loss() -> None:
    code = torch.zeros(1, 5, 2, 2)
    code[0, 0, 0, 0] = torch.nan
    assert linear_loss(probe_with_weights(2, 5), code, torch.zeros(1, 4, 4, dtype=torch.int64)).isnan()


@given(st.integers(1, 12), st.integers(1, 40))
def test_upsampling_is_bilinear_interpolation(cells: int, pixels: int) -> None:
    line = torch.randn(1, 1, cells, generator=torch.Generator().manual_seed(cells))
    expected = functional.interpolate(line, pixels, mode="linear", align_corners=False)
    torch.testing.assert_close(upsampling(cells, pixels, line.device) @ line[0, 0], expected[0, 0], atol=1e-5, rtol=0)
