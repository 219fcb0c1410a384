"""Principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stego_cli.config.model import PcaConfig
from stego_cli.errors import ConfigError
from stego_cli.methods.base import FeatureSource, Fitted
from stego_cli.methods.dimred.pca import Pca, PcaBasis, fit_pca


@pytest.fixture
def vectors() -> torch.Tensor:
    """Many vectors of four channels, of which two are alike and one is louder than the rest."""
    drawn = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    drawn[:, 1] = drawn[:, 0] + 0.3 * drawn[:, 1]
    drawn[:, 3] *= 100
    return drawn + 5


def source_of(maps: torch.Tensor) -> FeatureSource:
    return FeatureSource(
        np.arange(len(maps)), lambda images: maps[torch.from_numpy(images)], 2, lambda items, *_: items
    )


def test_two_channels_that_say_the_same_by_hand() -> None:
    # Standardised, both channels are (-1, 1): all the variance lies along the diagonal.
    basis = fit_pca([torch.tensor([[0.0, 10.0], [2.0, 30.0]])])
    half = 0.5**0.5
    torch.testing.assert_close(basis.components[0], torch.tensor([half, half]))
    torch.testing.assert_close(basis.variances, torch.tensor([4.0, 0.0]), rtol=0, atol=1e-6)
    assert basis.mean.tolist() == [1, 20]
    assert basis.deviation.tolist() == [1, 10]


def test_axes_are_orthonormal_and_say_less_and_less(vectors: torch.Tensor) -> None:
    basis = fit_pca(vectors.split(300))
    torch.testing.assert_close(basis.components @ basis.components.T, torch.eye(4), rtol=0, atol=1e-5)
    assert basis.variances.tolist() == sorted(basis.variances.tolist(), reverse=True)
    assert basis.variance_ratio.sum().item() == pytest.approx(1)
    # A channel a hundred times as loud counts no more than the others.
    assert basis.variance_ratio[0].item() == pytest.approx(0.49, abs=0.02)
    along = ((vectors - basis.mean) / basis.deviation) @ basis.components.T
    torch.testing.assert_close(along.var(0), basis.variances, rtol=1e-3, atol=1e-4)


def test_signs_do_not_depend_on_the_solver(vectors: torch.Tensor) -> None:
    components = fit_pca([vectors]).components
    assert (components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all()


def test_a_constant_channel_takes_part_in_no_axis_but_the_last(vectors: torch.Tensor) -> None:
    vectors[:, 2] = 0.1
    basis = fit_pca([vectors])
    assert basis.components[:3, 2].abs().max() < 1e-6
    assert basis.deviation[2] == 1


def test_a_cut_keeps_the_first_axes_and_all_variances(vectors: torch.Tensor) -> None:
    basis = fit_pca([vectors])
    cut = basis.cut(2)
    torch.testing.assert_close(cut.components, basis.components[:2])
    torch.testing.assert_close(cut.variance_ratio, basis.variance_ratio)
    with pytest.raises(ConfigError, match=r"is 3, .* 2 channels"):
        cut.cut(3)


def test_white_axes_have_one_deviation_and_none_where_nothing_varies(vectors: torch.Tensor) -> None:
    vectors[:, 2] = 0.1
    basis = fit_pca([vectors])
    code = ((vectors - basis.mean) / basis.deviation) @ basis.white().T
    torch.testing.assert_close(torch.cov(code.T), torch.diag(torch.tensor([1.0, 1, 1, 0])), rtol=0, atol=1e-3)
    assert basis.cut(2).white().shape == (2, 4)


def test_whitening_takes_the_fit_of_the_plain_axes() -> None:
    maps = torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, white = (Pca(PcaConfig(code_dim=2, whiten=whiten), 5) for whiten in (False, True))
    assert plain.recipe(0) == white.recipe(0)
    fitted = plain.fit(source_of(maps), 0)
    for method in (plain, white):
        method.adopt(fitted, 0)
    code = white.code(maps).transpose(0, 1).flatten(1)
    torch.testing.assert_close(code.var(1), torch.ones(2), rtol=1e-3, atol=0)
    lengths = plain.components.norm(dim=1) / white.components.norm(dim=1)
    torch.testing.assert_close(lengths.square(), fitted["variances"][:2])


def test_tensors_bring_back_the_basis(vectors: torch.Tensor) -> None:
    basis = fit_pca([vectors])
    again = PcaBasis.from_tensors(basis.tensors())
    assert all(torch.equal(getattr(again, name), value) for name, value in basis.tensors().items())


def test_code_lies_along_the_axes_of_what_it_was_fitted_to() -> None:
    maps = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 6)[:, None, None] + 3
    method = Pca(PcaConfig(code_dim=2), 5)
    method.adopt(method.fit(source_of(maps), 0), 0)
    code = method.code(maps)
    assert code.shape == (6, 2, 3, 4)
    torch.testing.assert_close(code.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(method.code(maps[2:3]), code[2:3])  # an image's code is its own business


def test_dimensions_and_seeds_share_a_fit_and_other_settings_do_not() -> None:
    def recipe(seed: int = 0, **settings: object) -> dict[str, object]:
        return Pca(PcaConfig(**settings), 100).recipe(seed)  # type: ignore[arg-type]

    assert recipe() == recipe(seed=3, code_dim=5, standardise="batch")
    assert recipe() != recipe(fit_images=7)
    assert recipe() != recipe(fit_on="first")


def test_more_dimensions_than_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"code_dim is 6, .* 5 channels"):
        Pca(PcaConfig(code_dim=6), 5)


def test_it_is_fitted_and_has_nothing_to_train() -> None:
    method = Pca(PcaConfig(code_dim=2), 5)
    assert isinstance(method, Fitted)
    assert list(method.parameters()) == []
    assert set(method.state_dict()) == {"mean", "deviation", "components"}
    assert set(Pca(PcaConfig(code_dim=2, standardise="batch"), 5).state_dict()) == {"components"}


def test_half_precision_is_projected_in_full() -> None:
    method = Pca(PcaConfig(code_dim=2), 5)
    method.components.normal_(generator=torch.Generator().manual_seed(0))
    features = torch.randn(1, 5, 3, 3, generator=torch.Generator().manual_seed(0)).half()
    with torch.autocast("cpu", torch.bfloat16):
        code = method.code(features)
    torch.testing.assert_close(code, method.code(features.float()), rtol=0, atol=0)
