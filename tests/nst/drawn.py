"""Pictures that tests draw, and how results are looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nst.errors import UserError


def gradient(h: int = 20, w: int = 30) -> torch.Tensor:
    red = torch.linspace(0, 1, w).expand(h, w)
    green = torch.linspace(0, 1, h)[:, None].expand(h, w)
    return torch.stack([red, green, torch.full((h, w), 0.4)])[None]


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def gradient_rgb(h: int = 24, w: int = 32) -> np.ndarray:
    """As rows of bytes: red grows to the right, green downwards; blue is even."""
    rgb = np.full((h, w, 3), 96, np.uint8)
    rgb[..., 0] = np.linspace(0, 255, w)[None]
    rgb[..., 1] = np.linspace(0, 255, h)[:, None]
    return rgb


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def outcome_of(call: Callable[[Any], Any], argument: object) -> Any:
    """What the call returns, or the message of its UserError; other errors go on."""
    try:
        return call(argument)
    except UserError as error:
        return str(error)
