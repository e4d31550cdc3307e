"""The losses against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastconv import moments_of
from nst.losses.content import ContentDistance
from nst.losses.style import (
    Gram,
    StyleDistance,
    _TraceOfRoot,
    blend,
    gram,
    mean_and_covariance,
    mean_square,
    product,
)
from nst.losses.table import CONTENT_LOSSES, STYLE_LOSSES
from nst.losses.variation import total_variation
from nst.tables import made


def features(c: int = 4, h: int = 6, w: int = 7, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(1, c, h, w, dtype=torch.float64)


class StyleOfFeatures:
    """A style loss with its target, of features instead of their moments."""

    def __init__(self, name: str, target: Tensor, normalize: bool = False) -> None:
        self.loss = made("style_loss", name, STYLE_LOSSES)
        statistics = self.loss.statistics(moments_of(target))
        self.distance = StyleDistance(self.loss, statistics, normalize)

    def __call__(self, f: Tensor) -> Tensor:
        return self.distance(moments_of(f))


style_loss = StyleOfFeatures


def content_loss(name: str, target: Tensor, normalize: bool) -> ContentDistance:
    return ContentDistance(made("content_loss", name, CONTENT_LOSSES), target, normalize)


def test_the_gram_matrix_is_the_mean_of_products() -> None:
    f = features()
    expected = torch.einsum("ihw,jhw->ij", f[0], f[0]) / (6 * 7)
    torch.testing.assert_close(gram(f), expected)


def test_mean_and_covariance_are_torch_s_own() -> None:
    f = features()
    mean, covariance = mean_and_covariance(f)
    torch.testing.assert_close(mean, f.mean((0, 2, 3)))
    torch.testing.assert_close(covariance, torch.cov(f.flatten(2)[0], correction=0))


def test_the_paper_s_style_loss_is_its_formula() -> None:
    f, a = features(), features()
    n, m = 4, 6 * 7
    big_f, big_a = f.flatten(2)[0], a.flatten(2)[0]
    expected = ((big_f @ big_f.T - big_a @ big_a.T) ** 2).sum() / (4 * n**2 * m**2)
    torch.testing.assert_close(style_loss("gatys", a)(f), expected)


def test_the_tutorials_style_loss_is_theirs() -> None:
    f, a = features(), features()
    over = 4 * 6 * 7
    big_f, big_a = f.flatten(2)[0], a.flatten(2)[0]
    expected = torch.nn.functional.mse_loss(big_f @ big_f.T / over, big_a @ big_a.T / over)
    torch.testing.assert_close(style_loss("gram", a)(f), expected)


def test_the_paper_s_content_loss_is_its_formula() -> None:
    f, p = features(), features()
    loss = content_loss("gatys", p, normalize=False)(f)
    torch.testing.assert_close(loss, ((f - p) ** 2).sum() / 2)


def test_wasserstein_of_diagonal_gaussians_is_the_distance_of_means_and_deviations() -> None:
    # Along axes the matrices commute: W2^2 = |mu - mu'|^2 + |sigma - sigma'|^2.
    def axes(sigmas: list[float], means: list[float]) -> Tensor:
        signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
        rows = signs * torch.tensor(sigmas)[:, None] + torch.tensor(means)[:, None]
        return rows.view(1, 2, 2, 2)

    f, target = axes([1.0, 2.0], [0.0, 1.0]), axes([3.0, 1.5], [0.5, 1.0])
    expected = 0.5**2 + 2.0**2 + 0.5**2
    assert float(style_loss("wasserstein", target)(f)) == pytest.approx(expected, rel=1e-3)


def test_wasserstein_agrees_with_square_roots_by_eigenvalues() -> None:
    f, target = features(5, 9, 9), features(5, 9, 9, scale=2.0) + 1

    def root(s: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(s)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T

    (m1, s1), (m2, s2) = mean_and_covariance(f), mean_and_covariance(target)
    cross = root(root(s2) @ s1 @ root(s2))
    expected = (m1 - m2).square().sum() + (s1 + s2 - 2 * cross).trace()
    assert float(style_loss("wasserstein", target)(f)) == pytest.approx(float(expected), rel=2e-3)


def test_the_gradient_of_the_trace_of_a_root() -> None:
    base = torch.randn(4, 4, dtype=torch.float64)
    a = (base @ base.T + torch.eye(4)).requires_grad_(True)

    def symmetric(x: Tensor) -> Tensor:
        return _TraceOfRoot.apply((x + x.T) / 2)

    assert torch.autograd.gradcheck(symmetric, (a,), atol=1e-6)


def test_the_trace_of_a_root_stays_finite_where_the_matrix_is_singular() -> None:
    thin = torch.randn(16, 2)
    a = (thin @ thin.T).requires_grad_(True)
    _TraceOfRoot.apply(a).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_layer_of_a_single_position_has_a_finite_loss_and_gradient(name: str) -> None:
    # Its covariance is zero: a tiny picture's deepest layer at the coarsest scale.
    f = features(64, 1, 1).float().requires_grad_(True)
    loss = style_loss(name, features(64, 1, 1).float(), normalize=True)(f)
    (gradient,) = torch.autograd.grad(loss, f)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_style_is_at_no_distance_from_itself(name: str) -> None:
    f = features(8, 16, 16).float().relu()
    loss = style_loss(name, f, normalize=True)
    assert abs(float(loss(f))) < 2e-3
    assert float(loss(f * 1.5)) > 0.02


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_the_gradient_leads_towards_the_style(name: str) -> None:
    f, target = features(6, 12, 12).requires_grad_(True), features(6, 12, 12, scale=2.0)
    loss = style_loss(name, target, normalize=True)
    before = loss(f)
    (gradient,) = torch.autograd.grad(before, f)
    after = loss(f - 0.5 * gradient / gradient.norm())
    assert after.item() < before.item()


@pytest.mark.parametrize("name", STYLE_LOSSES)
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_normalised_style_does_not_depend_on_the_features_scale(name: str, factor: float) -> None:
    f, target = features(), features(scale=2.0)
    plain = style_loss(name, target, normalize=True)(f)
    scaled = style_loss(name, factor * target, normalize=True)(factor * f)
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", CONTENT_LOSSES)
def test_normalised_content_depends_neither_on_scale_nor_on_size(name: str) -> None:
    f, target = features(), features()
    plain = content_loss(name, target, normalize=True)(f)
    scaled = content_loss(name, 30 * target, normalize=True)(30 * f)
    twice = content_loss(name, target.repeat(1, 1, 2, 2), normalize=True)(f.repeat(1, 1, 2, 2))
    torch.testing.assert_close(scaled, plain)
    torch.testing.assert_close(twice, plain)


def test_the_channels_means_alone_are_at_distance_one_from_the_content() -> None:
    target = features()
    means = target.mean((2, 3), keepdim=True).expand_as(target)
    assert float(content_loss("mse", target, normalize=True)(means)) == pytest.approx(1.0)


def test_constant_content_features_do_not_divide_by_zero() -> None:
    flat = torch.ones(1, 3, 4, 4)
    assert float(content_loss("mse", flat, normalize=True)(flat)) == 0.0


def test_a_blend_of_styles_is_the_weighted_mean_of_their_statistics() -> None:
    one, two = features(), features()
    (mixed,) = blend(Gram(), [moments_of(one), moments_of(two)], [1.0, 3.0])
    torch.testing.assert_close(mixed * 4, (0.25 * gram(one) + 0.75 * gram(two)))


def test_total_variation_is_nothing_where_nothing_varies() -> None:
    assert float(total_variation(torch.full((1, 3, 5, 6), 0.3))) == 0.0


def test_total_variation_counts_straight_and_diagonal_neighbours() -> None:
    x = torch.zeros(1, 1, 3, 3)
    x[..., 1, 1] = 1.0
    # Two edges in each of four directions; 5x4 or 4x4 pairs after replication.
    expected = 2 / 20 + 2 / 20 + (2 / 16 + 2 / 16) / 2
    assert float(total_variation(x)) == pytest.approx(expected)


def test_gradients_of_the_losses_on_pictures_are_those_of_their_values() -> None:
    x = (2 * torch.rand(1, 3, 5, 4, dtype=torch.float64) - 0.5).requires_grad_()
    target = torch.rand_like(x)
    for loss in (total_variation, lambda a: mean_square(a, target)):
        assert torch.autograd.gradcheck(loss, (x,))


def test_a_picture_of_one_pixel_has_no_variation() -> None:
    x = torch.rand(1, 3, 1, 1, requires_grad=True)
    total_variation(x).backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) == 0


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_features_of_one_value_have_a_finite_loss_and_gradient(name: str) -> None:
    f = torch.rand(1, 64, 1, 1).expand(1, 64, 30, 31).contiguous().requires_grad_()
    loss = style_loss(name, torch.rand(1, 64, 20, 20), normalize=True)(f)
    loss.backward()
    assert f.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(f.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_is_that_of_matrices(dtype: torch.dtype) -> None:
    a, b = torch.randn(34, 17, dtype=dtype), torch.randn(17, 17, dtype=dtype)
    torch.testing.assert_close(product(a[:, :], b), a @ b)
    torch.testing.assert_close(product(a[17:], b.T), a[17:] @ b.T)


def test_content_losses_that_live_at_once_do_not_share_memory() -> None:
    """Their memory comes back from one evaluation to the next; these two are not over yet."""
    target = torch.randn(1, 8, 5, 6)
    loss = content_loss("mse", target, normalize=False)
    pictures = [torch.randn(1, 8, 5, 6, requires_grad=True) for _ in range(3)]
    values = [loss(f) for f in pictures]
    gradients = [
        torch.autograd.grad(value, f)[0] for value, f in zip(values, pictures, strict=True)
    ]
    for value, f, gradient in zip(values, pictures, gradients, strict=True):
        torch.testing.assert_close(value, (f - target).square().mean())
        torch.testing.assert_close(gradient, 2 * (f.detach() - target) / target.numel())


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_value_is_the_distance_of_the_statistics(name: str) -> None:
    loss = made("style_loss", name, STYLE_LOSSES)
    target = loss.prepare(loss.statistics(moments_of(torch.rand(1, 5, 6, 7, dtype=torch.float64))))
    f = torch.rand(1, 5, 9, 4, dtype=torch.float64, requires_grad=True)
    found = loss.value(moments_of(f), target)
    expected = loss.distance(loss.statistics(moments_of(f)), target)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, f)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_the_style_of_a_batch_is_the_mean_of_its_pictures_styles(name: str) -> None:
    batch = torch.rand(3, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    loss = style_loss(name, features(5, 6, 6), normalize=True)
    together, apart = loss(batch), torch.stack([loss(f[None]) for f in batch]).mean()
    torch.testing.assert_close(together, apart)
    gradients = [torch.autograd.grad(value, batch)[0] for value in (together, apart)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", CONTENT_LOSSES)
def test_the_content_of_a_batch_is_the_mean_of_its_pictures_contents(name: str) -> None:
    batch = torch.rand(3, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    loss = content_loss(name, features(5, 9, 8), normalize=False)
    together, apart = loss(batch), torch.stack([loss(f[None]) for f in batch]).mean()
    torch.testing.assert_close(together, apart)
    gradients = [torch.autograd.grad(value, batch)[0] for value in (together, apart)]
    torch.testing.assert_close(*gradients)
