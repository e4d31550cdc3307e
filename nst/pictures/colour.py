"""Keeping the content's colours: the style recoloured before, or only luma changed after.

All pictures are (1, 3, h, w) in sRGB within [0, 1]; statistics are taken in float64.
"""

from __future__ import annotations

import torch

LUMA = (0.299, 0.587, 0.114)
# Added to every variance: a constant picture then has a small spread instead of none, and a
# colour direction that a grey picture lacks is not blown up from rounding noise.
EPSILON = 1e-5


def match_colour(style_rgb: torch.Tensor, content_rgb: torch.Tensor) -> torch.Tensor:
    """The style picture with the mean and covariance of the content's colours.

        x' = A (x - mu_s) + mu_c,    A = S_s^-1/2 (S_s^1/2 S_c S_s^1/2)^1/2 S_s^-1/2

    for colours x of the style, means mu and 3 x 3 covariances S (+ eps I) of style and content.
    A S_s A = S_c, and A is symmetric: of all maps with that property it moves colours the least
    (the optimal transport between the two Gaussians), so hues do not turn as they can with
    Cholesky's.  The result is clamped to [0, 1].
    """
    style, content = _pixels(style_rgb), _pixels(content_rgb)
    style_mean, style_cov = _statistics(style)
    content_mean, content_cov = _statistics(content)
    root, inverse_root = _root(style_cov), _root(style_cov, inverse=True)
    transport = inverse_root @ _root(root @ content_cov @ root) @ inverse_root
    matched = transport @ (style - style_mean) + content_mean
    return matched.clamp(0, 1).to(style_rgb).reshape(style_rgb.shape)


def keep_luminance_only(result_rgb: torch.Tensor, content_rgb: torch.Tensor) -> torch.Tensor:
    """The luma of the result with the chroma of the content.

        y = content + (luma(result) - luma(content)) (1, 1, 1)

    In YCbCr this changes Y and leaves Cb and Cr, which depend on colour differences alone.
    Where that leaves [0, 1] the colour is drawn towards the grey of its luma until it fits:
    clamping each channel would change luma and hue.
    """
    if result_rgb.shape != content_rgb.shape:
        raise ValueError(
            "keep_luminance_only: expected two pictures of one shape, "
            f"got {tuple(result_rgb.shape)} and {tuple(content_rgb.shape)}"
        )
    luma = _luma(result_rgb).clamp(0, 1)
    chroma = content_rgb - _luma(content_rgb)
    room = torch.where(chroma > 0, 1 - luma, luma)  # how far each channel may go
    scale = room / chroma.abs().clamp_min(1e-12)
    fit = scale.amin(dim=1, keepdim=True).clamp(max=1)
    return (luma + fit * chroma).clamp(0, 1)


def _luma(rgb: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMA, dtype=rgb.dtype, device=rgb.device).reshape(1, 3, 1, 1)
    return (rgb * weights).sum(dim=1, keepdim=True)


def _pixels(rgb: torch.Tensor) -> torch.Tensor:
    """Colours as columns, (3, h w), on the CPU: not every device has float64."""
    return rgb.detach().cpu().to(torch.float64).reshape(3, -1)


def _statistics(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = pixels.mean(dim=1, keepdim=True)
    centred = pixels - mean
    covariance = centred @ centred.T / pixels.shape[1]
    return mean, covariance + EPSILON * torch.eye(3, dtype=pixels.dtype)


def _root(matrix: torch.Tensor, inverse: bool = False) -> torch.Tensor:
    """The symmetric square root of a positive matrix, or its inverse."""
    values, vectors = torch.linalg.eigh(matrix)
    roots = values.clamp_min(EPSILON**2).sqrt()
    return (vectors * (1 / roots if inverse else roots)) @ vectors.T
