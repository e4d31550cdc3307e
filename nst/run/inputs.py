"""The pictures of a run, read and brought to the size of the result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..config.options import STARTS, StyleConfig
from ..errors import ConfigError, PictureError, did_you_mean
from ..files import shown
from ..pictures.colour import match_colour
from ..pictures.sizing import Picture, fit_style, load_picture, parse_size, resize


@dataclass
class Inputs:
    """The pictures of a run at its final size: all that a checkpoint needs of them."""

    content: Picture
    styles: list[Picture]
    init: Tensor | None = None  # only where a picture was given
    mask: Tensor | None = None
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of the files of these two
    remarks: list[str] = field(
        default_factory=list
    )  # what was done with pictures that may surprise


def load_styles(config: StyleConfig, styles: Sequence[Any]) -> list[Picture]:
    """Read the styles at their own size."""
    if not styles:
        raise ConfigError("expected at least one style picture, got none")
    if config.style_weights and len(config.style_weights) != len(styles):
        raise ConfigError(
            f"style_weights expects one number per style, {len(styles)}, "
            f"got {len(config.style_weights)}"
        )
    return [load_picture(style) for style in styles]


def load_content(config: StyleConfig, content: Any) -> Picture:
    """Read the content at the size of the result."""
    return load_picture(content, parse_size(str(config.size)))


def fitted_styles(
    config: StyleConfig, content: Picture, styles: Sequence[Picture]
) -> list[Picture]:
    """The styles at the size, and for `match` in the colours, that go with this content."""
    fitted = [fit_style(each, content.hw, config.style_fit, config.style_scale) for each in styles]
    if config.preserve_color == "match":
        return [
            replace(each, rgb=match_colour(each.rgb, content.rgb), alpha=None) for each in fitted
        ]
    return fitted


def load_inputs(config: StyleConfig, content: Any, styles: Sequence[Any]) -> Inputs:
    """Read all pictures and bring them to the size of the result."""
    picture = load_content(config, content)
    return with_start(config, picture, fitted_styles(config, picture, load_styles(config, styles)))


def with_start(config: StyleConfig, content: Picture, styles: list[Picture]) -> Inputs:
    """The inputs with the picture to start from and the mask, where there are such."""
    inputs = Inputs(content, styles)
    for picture in (content, *styles):
        inputs.remarks += picture.remarks
    if not (isinstance(config.init, str) and config.init in STARTS):
        init = load_picture(_existing(config.init))
        inputs.init, inputs.digests["init"] = resize(init.rgb, content.hw), init.sha256
        inputs.remarks += init.remarks
    if config.mask is not None:
        mask = load_picture(config.mask)
        inputs.mask = resize(mask.rgb, content.hw).mean(1, keepdim=True)
        inputs.digests["mask"] = mask.sha256
        inputs.remarks += mask.remarks
    return inputs


def _existing(init: Any) -> Any:
    """A picture to start from, or PictureError where a word for one was mistyped."""
    if isinstance(init, str | os.PathLike) and not os.path.lexists(init):
        raise PictureError(
            f"init {shown(init)}: expected a file that is there, or a word: "
            f"{did_you_mean(str(init), STARTS)}"
        )
    return init
