"""Decoding: a file, PIL picture, array or tensor to a `Picture` in sRGB at its own size.

Colours are converted here, before anything is resized: a palette or CMYK picture resized before
its conversion would mix numbers that are not colours.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..config.options import LARGEST_PIXELS
from ..errors import PictureError
from ..files import LARGEST_PICTURE, read_file

SMALLEST_SIDE = 8
# Pillow logs what it dislikes about a file; without a handler Python would print that to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())
FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF or HEIC"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SEVERAL = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # formats whose further frames are told of


@dataclass(frozen=True)
class Picture:
    """A picture in sRGB: rgb (1, 3, h, w) and alpha (1, 1, h, w) or None, float32 in [0, 1]."""

    rgb: torch.Tensor
    alpha: torch.Tensor | None = None
    name: str = "picture"
    sha256: str = ""  # of the file, if it was one
    remarks: tuple[str, ...] = ()  # what was done that might surprise

    @property
    def hw(self) -> tuple[int, int]:
        return (self.rgb.shape[-2], self.rgb.shape[-1])


def check_sides(hw: tuple[int, int], name: str) -> None:
    if min(hw) < SMALLEST_SIDE:
        raise PictureError(
            f"{name}: expected sides of {SMALLEST_SIDE} pixels or more, got {hw[1]}x{hw[0]}; "
            "choose a larger picture or a larger size"
        )
    if hw[0] * hw[1] > LARGEST_PIXELS:
        raise PictureError(too_many_pixels(name, f"{hw[0] * hw[1]:,} ({hw[1]}x{hw[0]})"))


def too_many_pixels(name: str, got: str) -> str:
    return (
        f"{name}: expected at most {LARGEST_PIXELS:,} pixels, got {got}; "
        "reduce it with a picture editor first"
    )


# ---------------------------------------------------------------- files and PIL pictures


def from_path(path: Path) -> Picture:
    return _from_bytes(read_file(path, PictureError, "picture", LARGEST_PICTURE), str(path))


def from_file(file: Any) -> Picture:
    """A picture in a file that is open for reading bytes, from where it stands.

    It is left standing there, where that can be done: a mask is read anew for every content.
    """
    name = path_of_file(file) or f"<{type(file).__name__}>"
    try:
        place = file.tell() if file.seekable() else None
        data = bytearray()
        while len(data) <= LARGEST_PICTURE and (block := file.read(2**20)):
            data += block
        if place is not None:
            file.seek(place)
    except TypeError:  # a str, of a file that was opened without "b"
        raise PictureError(f"{name}: expected a file opened for bytes ('rb'), got text") from None
    except (OSError, ValueError, AttributeError) as error:
        raise PictureError(f"{name}: cannot be read: {_one_line(error)}") from error
    if not data:
        raise PictureError(f"{name}: expected a picture, got the end of the file; seek(0) first?")
    if len(data) > LARGEST_PICTURE:
        raise PictureError(f"{name}: expected at most {LARGEST_PICTURE:,} bytes, got more")
    return _from_bytes(bytes(data), name)


def path_of_file(file: Any) -> str | None:
    """The path of an open file, where it has one: some have a number, a file in memory nothing."""
    name = getattr(file, "name", None) if hasattr(file, "read") else None
    return name if isinstance(name, str) else None


def _from_bytes(data: bytes, where: str) -> Picture:
    if not data:
        raise PictureError(f"{where}: expected a picture, got an empty file; fetch it again")
    name = os.path.basename(where)
    try:
        with _quiet_pillow(), _opened(data, where) as image:
            picture, remarks = from_pil(image, name), _frames_left_out(image, name)
    except UnidentifiedImageError:
        raise PictureError(
            f"{where}: expected a picture ({FORMATS}), got something else; convert it first"
        ) from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"[0-9]+", str(error))
        got = f"{int(pixels[0]):,}" if pixels else "more"
        raise PictureError(too_many_pixels(where, got)) from None
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # see from_pil
        raise _damaged(where, error) from error
    return replace(picture, sha256=hashlib.sha256(data).hexdigest(), remarks=remarks)


def _opened(data: bytes, where: str) -> Image.Image:
    """Pillow's picture; what phones write needs a package of its own, which adds it to Pillow."""
    is_heif = data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS
    if is_heif:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise PictureError(
                f"{where}: HEIC pictures need the extra `heif`: pip install 'fastconv-nst[heif]'; "
                "or convert it to JPEG first"
            ) from None
        register_heif_opener()
    return Image.open(io.BytesIO(data))


def _frames_left_out(image: Image.Image, name: str) -> tuple[str, ...]:
    """A remark on an animation, or on a document of several pages."""
    if image.format not in SEVERAL:  # a photograph's JPEG may hold a preview as another frame
        return ()
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # the end of a file that is damaged there: the first frame is whole
        return ()
    return (f"{name}: of {count} frames the first is taken",) if count > 1 else ()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow warns of large pictures below our limit and of odd metadata that we do not use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def from_pil(image: Image.Image, name: str = "") -> Picture:
    """A PIL picture, upright and in sRGB; of several frames the current one."""
    name = name or os.path.basename(str(getattr(image, "filename", ""))) or "PIL picture"
    try:
        image.load()
        image = _upright(image)
        if image.mode == "F":
            return from_array(_unit_grey(np.asarray(image, np.float32), name), name)
        if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey in either
            grey = np.asarray(image.convert("I"), np.float32)
            return from_array(np.clip(grey / 65535, 0, 1), name)
        alpha = _alpha_of(image)
        picture = from_array(np.asarray(_as_srgb(image, name)), name)
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # a damaged file can raise anything that a decoder can
        raise _damaged(name, error) from error
    return replace(picture, alpha=alpha)


def _damaged(name: str, error: Exception) -> PictureError:
    return PictureError(
        f"{name}: expected a whole picture, got a damaged or truncated one "
        f"({_one_line(error)}); fetch it again"
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, TypeError, SyntaxError, KeyError, struct.error):
        return image  # EXIF data that cannot be read says nothing about which side is up


def _unit_grey(values: np.ndarray, name: str) -> np.ndarray:
    """Grey floats in [0, 1], from files that count to 1, to 255 or to 65535."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # also refuses nan
        raise PictureError(
            f"{name}: expected grey values from 0 to 65535, got {low:g} to {high:g}; "
            "save it with 8 or 16 bits"
        )
    return values / next(limit for limit in (1, 255, 65535) if high <= limit)


def _alpha_of(image: Image.Image) -> torch.Tensor | None:
    if image.getbands()[-1] not in "Aa" and "transparency" not in image.info:
        return None
    bands = _unweighted(image).convert("RGBA").getchannel("A")
    alpha = torch.from_numpy(np.array(bands, np.float32) / 255)[None, None]
    return None if bool((alpha == 1).all()) else alpha


def _unweighted(image: Image.Image) -> Image.Image:
    """Pillow's modes with alpha multiplied in convert to nothing but their plain forms."""
    return image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))


def _as_srgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB in sRGB, by the picture's own profile where it has one."""
    profile = image.info.get("icc_profile")
    image = _unweighted(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    image = image.convert(
        {"1": "L", "LA": "L", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    )
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return _through_profiles(image, lab, srgb)
    return (_converted(image, profile, name) if profile else image).convert("RGB")


def _converted(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(own).startswith("sRGB"):
            return image
        return _through_profiles(image, own, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"{name}: its colour profile cannot be used ({_one_line(error)}); taken as sRGB",
            stacklevel=2,
        )
        return image


def _through_profiles(image: Image.Image, source: Any, target: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        source,
        target,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None is for inPlace=True
    return converted


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ---------------------------------------------------------------- arrays and tensors


def from_tensor(tensor: torch.Tensor) -> Picture:
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.movedim(0, -1)
    elif tensor.ndim != 2:
        raise PictureError(
            "tensor: expected shape (h, w), (c, h, w) or (1, c, h, w) with 1, 3 or 4 channels, "
            f"got {tuple(tensor.shape)}"
        )
    halves = (torch.float16, torch.bfloat16)
    values = tensor.float() if tensor.dtype in halves else tensor
    return from_array(values.cpu().numpy(), "tensor")


def from_array(array: np.ndarray, name: str) -> Picture:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise PictureError(
            f"{name}: expected shape (h, w) or (h, w, c) with 1, 3 or 4 channels, got {array.shape}"
        )
    values = _unit_floats(array, name)
    planes = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    rgb = planes[:, :3].expand(-1, 3, -1, -1).contiguous()
    return Picture(rgb, planes[:, 3:].contiguous() if planes.shape[1] == 4 else None, name)


def _unit_floats(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if not np.issubdtype(array.dtype, np.floating):
        raise PictureError(
            f"{name}: expected uint8, uint16 or floats in [0, 1], got {array.dtype}; convert it"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also refuses nan
        raise PictureError(
            f"{name}: expected floats in [0, 1], got {low:g} to {high:g}; "
            "divide by 255 or pass uint8"
        )
    return np.clip(array, 0, 1).astype(np.float32)
