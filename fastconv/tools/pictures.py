"""Reading a picture file as a tensor: upright, in sRGB's three channels, without transparency."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import ArgumentError


def load_picture(path: str | os.PathLike[str], longest: int | None = None) -> Tensor:
    """A picture as (3, h, w) in [0, 1], turned upright as its EXIF says.

    Transparent parts are laid on white; of an animation, the first frame is taken.  Pictures
    whose longest side is above `longest` are reduced to it.
    """
    if longest is not None and longest < 1:
        raise ArgumentError(f"load_picture: longest expects 1 pixel or more, got {longest}")
    if os.path.isdir(path):
        raise ArgumentError(f"{path}: expected a picture, got a folder")
    if not os.path.exists(path):
        raise ArgumentError(f"{path} does not exist; expected a picture's file")
    try:
        with Image.open(path) as file:
            image = _in_colour(ImageOps.exif_transpose(file))
    except UnidentifiedImageError:
        raise ArgumentError(f"{path}: expected a picture that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ArgumentError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not allowed and the like: the system says it better
        raise ArgumentError(f"{path}: the picture is damaged: {error}") from None
    if longest is not None and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    values = np.array(image, dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: Pillow would clip them
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1.0)
        return Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def to_image(tensor: Tensor) -> Image.Image:
    """(3, h, w) or (1, h, w) in [0, 1] as a PIL picture."""
    values = (tensor.detach().clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
