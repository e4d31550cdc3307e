"""Everything that nst writes: pictures, frames, animations, comparison sheets."""

from __future__ import annotations

from .atomic import atomic_path
from .frames import ANIMATORS, FrameWriter, animate, animator_for
from .sheet import Difference, amplified, compare_sheet, differences
from .writers import WRITERS, check_writable, read_settings, save_picture, srgb_profile

__all__ = [
    "ANIMATORS",
    "WRITERS",
    "Difference",
    "FrameWriter",
    "amplified",
    "animate",
    "animator_for",
    "atomic_path",
    "check_writable",
    "compare_sheet",
    "differences",
    "read_settings",
    "save_picture",
    "srgb_profile",
]
