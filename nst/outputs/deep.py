"""PNG and TIFF with 16 bits per channel, which Pillow cannot write in colour."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# TIFF field types, and the bytes that one value takes
_ASCII, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7


def write_png16(file: BinaryIO, pixels: np.ndarray, profile: bytes, text: tuple[str, str]) -> None:
    """pixels (h, w, 3 or 4) uint16; `text` is a keyword and its UTF-8 text."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 6 if channels == 4 else 2, 0, 0, 0)
    keyword, value = text
    file.write(PNG_SIGNATURE)
    _png_chunk(file, b"IHDR", header)
    _png_chunk(file, b"iCCP", b"sRGB\0\0" + zlib.compress(profile))
    if value:
        _png_chunk(file, b"iTXt", keyword.encode("latin-1") + b"\0" * 5 + value.encode())
    _png_chunk(file, b"IDAT", zlib.compress(_up_filtered(pixels), 6))
    _png_chunk(file, b"IEND", b"")


def _png_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data)
    file.write(struct.pack(">I", zlib.crc32(kind + data)))


def _up_filtered(pixels: np.ndarray) -> bytes:
    """Rows as differences to the row above (PNG's filter 2), which pack better than values."""
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(pixels.shape[0], -1)
    filtered = np.full((rows.shape[0], rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]  # wraps around, as the format wants
    return filtered.tobytes()


def write_tiff16(file: BinaryIO, pixels: np.ndarray, profile: bytes, description: str) -> None:
    """pixels (h, w, 3 or 4) uint16: little-endian, one deflated strip, alpha not multiplied in."""
    height, width, channels = pixels.shape
    strip = zlib.compress(np.ascontiguousarray(pixels.astype("<u2")).tobytes(), 6)
    fields: list[tuple[int, int, list[int] | bytes]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [16] * channels),  # bits per sample
        (259, _SHORT, [8]),  # deflate
        (262, _SHORT, [2]),  # RGB
        (270, _ASCII, description.encode("ascii") + b"\0"),
        (273, _LONG, [8]),  # the strip follows the header
        (277, _SHORT, [channels]),
        (278, _LONG, [height]),  # rows per strip
        (279, _LONG, [len(strip)]),
        (284, _SHORT, [1]),  # channels interleaved
        (34675, _UNDEFINED, profile),
    ]
    if channels == 4:
        fields.insert(-1, (338, _SHORT, [2]))  # the fourth is alpha, not multiplied in
    padding = b"\0" * (len(strip) % 2)
    directory_at = 8 + len(strip) + len(padding)
    file.write(struct.pack("<2sHI", b"II", 42, directory_at) + strip + padding)
    file.write(_tiff_directory(fields, directory_at))


def _tiff_directory(fields: list[tuple[int, int, list[int] | bytes]], start: int) -> bytes:
    """The directory; values longer than 4 bytes follow it, each on an even place."""
    entries, values = b"", b""
    values_at = start + 2 + 12 * len(fields) + 4
    for tag, kind, value in fields:
        letter = "H" if kind == _SHORT else "I"
        packed = (
            value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{letter}", *value)
        )
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack("<I", values_at + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, len(value)) + place
    return struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0) + values
