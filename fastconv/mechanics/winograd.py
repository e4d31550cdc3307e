"""The Winograd transform, with numbers: a 3x3 convolution with fewer multiplications.

    Y = A^T [ (G g G^T) * (B^T d B) ] A        * element by element

A tile d (m+2, m+2) of the input and the kernel g (3, 3) give a tile Y (m, m) of the output.  Read
as polynomials, the convolution is a product of two; a polynomial is known by its values at enough
points, and there the product is one multiplication per point.  G and B^T evaluate, A^T returns.
The transforms multiply by small constants only, and that of the kernel is done once.

    multiplications per output    direct 9    F(2x2) 16/4 = 4    F(4x4) 36/16 = 2.25    F(6x6) 1.78

The further the points lie from 0, the more rounding: `fastconv.tools.checking` measured it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError
from ..figures import BLUE, GREY, ORANGE, Figure, drawing
from ..lessons.convolution import MyConv
from ..lessons.layer import Array
from .grids import draw_grid, matrix, outline

R = 3  # the kernel's side
_HALF = Fraction(1, 2)
_POINTS = (*map(Fraction, (0, 1, -1, 2, -2)), _HALF, -_HALF)  # and infinity, always the last
TILES = (2, 4, 6)


@dataclass(frozen=True)
class Winograd:
    """The matrices of F(m x m, 3 x 3): a = A^T (m, m+2), g = G (m+2, 3), b = B^T (m+2, m+2)."""

    m: int
    a: Array
    g: Array
    b: Array

    @property
    def matrices(self) -> tuple[Array, Array, Array]:
        """A^T, G, B^T."""
        return self.a, self.g, self.b

    def input(self, d: Array) -> Array:
        """B^T d B of a tile (m+2, m+2)."""
        return self.b @ d @ self.b.T

    def kernel(self, kernel: Array) -> Array:
        """G g G^T of a kernel (3, 3)."""
        return self.g @ kernel @ self.g.T

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """A whole convolution (padding 1, stride 1) by tensor operations, in the dtype of x.

        x (n, c_in, h, w) and weight (c_out, c_in, 3, 3) give (n, c_out, h, w).  Over the channels
        the products of one cell are a matrix product: (m+2)^2 of them, each (c_out, c_in) times
        (c_in, tiles), in place of one of (c_out, 9 c_in) times (9 c_in, outputs).
        """
        # Flattened, B^T d B is (B^T x B^T) d with the Kronecker product: one matrix for all tiles.
        a, g, b = (torch.from_numpy(np.kron(each, each)).to(x.dtype) for each in self.matrices)
        (n, c_in, h, w), c_out, side = x.shape, len(weight), self.m + R - 1
        down, across = -(-h // self.m), -(-w // self.m)
        padded = F.pad(x, (1, across * self.m - w + 1, 1, down * self.m - h + 1))
        tiles = padded.unfold(2, side, self.m).unfold(3, side, self.m)  # (n, c, down, across, s, s)
        v = b @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(side * side, -1)
        u = g @ weight.permute(2, 3, 0, 1).reshape(R * R, -1)
        products = u.view(-1, c_out, c_in) @ v.view(side * side, c_in, -1)
        y = (a @ products.view(side * side, -1)).view(self.m, self.m, c_out, n, down, across)
        y = y.permute(3, 2, 4, 0, 5, 1).reshape(n, c_out, down * self.m, across * self.m)
        return y[:, :, :h, :w]

    def output(self, products: Array) -> Array:
        """A^T M A of the products (m+2, m+2): the tile (m, m) of y."""
        return self.a @ products @ self.a.T


def winograd_matrices(m: int = 2) -> Winograd:
    """The matrices of F(m x m, 3 x 3) by Cook and Toom, from exact fractions.

    With the points p_j, N_j = prod_{l != j} (p_j - p_l), and infinity as the last point:

        A^T[i,j] = p_j^i      G[j,k] = p_j^k / N_j      B^T[j] = coefficients of prod_{l != j} (t - p_l)
    """  # noqa: E501
    if m not in TILES:
        raise ArgumentError(f"winograd: m expects one of {', '.join(map(str, TILES))}, got {m!r}")
    points = _POINTS[: m + R - 2]
    a = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    g, b = [], []
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= p - other
        sign = -1 if scale < 0 else 1  # in both, where it cancels: Lavin and Gray's signs
        g.append([sign * p**k / scale for k in range(R)])
        b.append([sign * c for c in _coefficients(others)] + [Fraction(0)])
    g.append([Fraction(k == R - 1) for k in range(R)])
    b.append(_coefficients(points))
    return Winograd(m, *(np.array(rows, dtype=np.float64) for rows in (a, g, b)))


def _coefficients(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Of prod (t - root), the constant first."""
    product = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *product], [*product, Fraction(0)]
        product = [up - root * same for up, same in zip(shifted, scaled)]
    return product


def winograd_figure(x: Any, kernel: Any, m: int = 2) -> Figure:
    """One tile through all steps of the transform, with its numbers; x (h, w), h and w >= m + 2."""
    tools, values, weight = winograd_matrices(m), matrix(x, "x"), matrix(kernel, "kernel")
    side = m + R - 1
    if weight.shape != (R, R) or min(values.shape) < side:
        raise ArgumentError(
            f"winograd: expected a 3x3 kernel and x of {side}x{side} or more, "
            f"got {weight.shape} and {values.shape}"
        )
    tile = values[:side, :side]
    v, u = tools.input(tile), tools.kernel(weight)
    products, direct = u * v, MyConv(1, 1, R, bias=False)
    direct.parameters["weight"] = weight[None, None]
    plain = direct(tile[None, None])[0, 0]
    rows = (
        (values, f"x: tiles of {side}x{side}"), (tile, "d, the first"), (tools.b, "Bᵀ"),
        (v, "V = Bᵀ d B"),
        None, (weight, "g, the kernel"), (tools.g, "G"), (u, "U = G g Gᵀ"),
        (products, "M = U · V, cell by cell"), (tools.a, "Aᵀ"),
        (tools.output(products), "Y = Aᵀ M A"), (plain, "y, directly"),
    )  # fmt: skip
    cell, widths = 0.4, [max(values.shape[1], side), side, side, side]
    heights = [max(values.shape[0], side), side, side]
    with drawing(cell * sum(widths) + 2.4, cell * sum(heights) + 1.7) as figure:
        panels = figure.subplots(
            3, 4, gridspec_kw={"width_ratios": widths, "height_ratios": heights}
        )
        for panel, content in zip(panels.ravel(), rows):
            if content is None:
                _words(panel, m)
            else:
                draw_grid(panel, *content, size=7 if m > 2 else 8)
        for left in range(m, values.shape[1] - side + 1, m):
            outline(panels[0, 0], 0, left, side, side, GREY)
        outline(panels[0, 0], 0, 0, side, side, ORANGE)
        outline(panels[2, 2], 0, 0, m, m, BLUE)
        outline(panels[2, 3], 0, 0, m, m, BLUE)
    return figure


def _words(panel: Any, m: int) -> None:
    panel.axis("off")
    products, direct = (m + R - 1) ** 2, m * m * R * R
    words = (
        f"{products} products\ninstead of {direct}\nfor {m}x{m} outputs\n\n"
        f"{direct / products:.2f} times fewer"
    )
    panel.text(0.5, 0.5, words, ha="center", va="center", fontsize=10, transform=panel.transAxes)
