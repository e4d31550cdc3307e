"""Writing a picture: one writer per suffix, each with an sRGB profile and the run's settings.

The settings travel as JSON: in PNG as iTXt, elsewhere as EXIF's ImageDescription, both under
the word `nst-settings`, so that `read_settings` finds them in any of the formats.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from ..errors import OutputError, PictureError
from ..files import LARGEST_PICTURE, check_file
from .atomic import atomic_path, check_folder
from .deep import write_png16, write_tiff16

KEYWORD = "nst-settings"
_IMAGE_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131
_EXIF_LIMIT = 65000  # JPEG keeps EXIF in one segment of 64 KiB


@dataclass(frozen=True)
class Sheet:
    """What a writer receives: pixels (h, w, 3 or 4) of uint8 or uint16, and what goes with them."""

    pixels: np.ndarray
    settings: str  # ASCII JSON, or empty
    quality: int

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(self.pixels)


def _write_png(file: BinaryIO, sheet: Sheet) -> None:
    if sheet.pixels.dtype == np.uint16:
        write_png16(file, sheet.pixels, srgb_profile(), (KEYWORD, sheet.settings))
        return
    info = PngImagePlugin.PngInfo()
    if sheet.settings:
        info.add_itxt(KEYWORD, sheet.settings)
    sheet.image.save(file, "PNG", pnginfo=info, icc_profile=srgb_profile())


def _write_jpeg(file: BinaryIO, sheet: Sheet) -> None:
    # Colour at full resolution: brush strokes differ in hue as much as in brightness.
    options = {"quality": sheet.quality, "subsampling": 0, "optimize": True}
    image = Image.fromarray(_on_white(sheet.pixels))
    image.save(file, "JPEG", exif=_exif(sheet), icc_profile=srgb_profile(), **options)


def _write_webp(file: BinaryIO, sheet: Sheet) -> None:
    lossless = sheet.quality == 100
    options = {"quality": sheet.quality, "lossless": lossless, "exact": lossless, "method": 4}
    sheet.image.save(file, "WEBP", exif=_exif(sheet), icc_profile=srgb_profile(), **options)


def _write_tiff(file: BinaryIO, sheet: Sheet) -> None:
    if sheet.pixels.dtype == np.uint16:
        write_tiff16(file, sheet.pixels, srgb_profile(), _description(sheet))
        return
    tags = {_IMAGE_DESCRIPTION: _description(sheet), _SOFTWARE: "nst"}
    options = {"compression": "tiff_adobe_deflate", "tiffinfo": tags}
    sheet.image.save(file, "TIFF", icc_profile=srgb_profile(), **options)


@dataclass(frozen=True)
class Writer:
    """One output format."""

    write: Callable[[BinaryIO, Sheet], None]
    bits: tuple[int, ...] = (8,)
    longest_side: int = 2**31 - 1
    has_alpha: bool = True


_JPEG = Writer(_write_jpeg, longest_side=65500, has_alpha=False)
_TIFF = Writer(_write_tiff, bits=(8, 16))
WRITERS: dict[str, Writer] = {
    ".png": Writer(_write_png, bits=(8, 16)),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Writer(_write_webp, longest_side=16383),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}


def save_picture(
    path: str | os.PathLike[str],
    rgb: torch.Tensor,
    alpha: torch.Tensor | None = None,
    settings: Mapping[str, Any] | None = None,
    quality: int = 95,
    bits: int = 8,
) -> Path:
    """Write rgb ([1,] 3, h, w) in [0, 1] in the format of `path`'s suffix; returns the path.

    `quality` (1 to 100) is JPEG's and WebP's; WebP at 100 is lossless.  JPEG has no alpha: what
    is transparent becomes white.
    """
    target = Path(path)
    writer = writer_for(target, bits, (rgb.shape[-2], rgb.shape[-1]))
    if not 1 <= quality <= 100:
        raise OutputError(f"{target}: quality expects a number from 1 to 100, got {quality!r}")
    sheet = Sheet(to_pixels(rgb, alpha, bits), _as_json(settings), int(quality))
    # Through memory: given a file, Pillow takes a write that a full disk cut short for a whole one.
    encoded = io.BytesIO()
    writer.write(encoded, sheet)
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    return target


def writer_for(path: Path, bits: int = 8, hw: tuple[int, int] = (1, 1)) -> Writer:
    """The row of a path's suffix, or OutputError if it cannot hold such a picture."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        got = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise OutputError(f"{path}: expected one of {', '.join(WRITERS)}, got {got}")
    if bits not in writer.bits:
        deep = ", ".join(suffix for suffix, row in WRITERS.items() if bits in row.bits)
        raise OutputError(
            f"{path}: expected {' or '.join(map(str, writer.bits))} bits per channel, "
            f"got {bits}; " + (f"{bits} go with {deep}" if deep else "ask for 8")
        )
    if max(hw) > writer.longest_side:
        raise OutputError(
            f"{path}: {path.suffix} holds sides up to {writer.longest_side} pixels, "
            f"got {hw[1]}x{hw[0]}; write a .png"
        )
    return writer


def check_writable(
    path: str | os.PathLike[str], bits: int = 8, hw: tuple[int, int] = (1, 1)
) -> None:
    """Raise OutputError now if `path` could not be written later: its format, folder, rights."""
    writer_for(Path(path), bits, hw)
    check_folder(Path(path))


def to_pixels(rgb: torch.Tensor, alpha: torch.Tensor | None = None, bits: int = 8) -> np.ndarray:
    """([1,] 3, h, w) and alpha in [0, 1] to whole numbers (h, w, 3 or 4), rounded to nearest."""
    planes = rgb.detach().reshape(3, *rgb.shape[-2:])
    if alpha is not None:
        if alpha.shape[-2:] != rgb.shape[-2:]:
            raise OutputError(
                f"alpha expects the picture's size {tuple(rgb.shape[-2:])}, "
                f"got {tuple(alpha.shape[-2:])}"
            )
        planes = torch.cat([planes, alpha.detach().to(planes).reshape(1, *rgb.shape[-2:])])
    values = planes.float().cpu().numpy().transpose(1, 2, 0)
    if not np.isfinite(values).all():
        raise OutputError("the picture expects finite values, got nan or infinity")
    top = 2**bits - 1
    return (np.clip(values, 0, 1) * top + 0.5).astype(np.uint8 if bits == 8 else np.uint16)


def _on_white(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


@cache
def srgb_profile() -> bytes:
    """An sRGB profile, the same bytes at any time: lcms stamps the hour into bytes 24 to 35."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes((7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0))  # 2000-01-01
    return bytes(profile)


# ---------------------------------------------------------------- settings


def _as_json(settings: Mapping[str, Any] | None) -> str:
    # Paths and the like become text.  ASCII, because TIFF and EXIF allow nothing else here.
    return "" if settings is None else json.dumps(dict(settings), default=str, ensure_ascii=True)


def _description(sheet: Sheet) -> str:
    return f"{KEYWORD} {sheet.settings}" if sheet.settings else "nst"


def _exif(sheet: Sheet) -> bytes:
    if len(sheet.settings) > _EXIF_LIMIT:
        raise OutputError(
            f"the settings expect at most {_EXIF_LIMIT} characters in this format, "
            f"got {len(sheet.settings)}; write a .png"
        )
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = _description(sheet)
    exif[_SOFTWARE] = "nst"
    return exif.tobytes()


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a picture that nst wrote, or PictureError if it holds none."""
    source = Path(path)
    check_file(source, PictureError, "picture", LARGEST_PICTURE)
    try:
        with Image.open(source) as image:
            text = _settings_text(image)
    except UnidentifiedImageError:
        raise PictureError(f"{source}: expected a picture written by nst, got no picture") from None
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise PictureError(
            f"{source}: expected a picture written by nst, got a damaged one ({reason})"
        ) from error
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise PictureError(
            f"{source}: expected settings in its metadata, got none; "
            "only pictures written by nst, and not edited since, hold them"
        )
    return settings


def _settings_text(image: Image.Image) -> str:
    if image.format == "PNG":
        image.load()  # text after the pixels is read with them
        return str(image.info.get(KEYWORD, ""))
    description = str(image.getexif().get(_IMAGE_DESCRIPTION, ""))
    return description.removeprefix(KEYWORD) if description.startswith(KEYWORD) else ""
