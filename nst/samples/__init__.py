"""Pictures drawn by the project's own code: a landscape, a swirling painting, a mosaic.

Each is a function (size, seed) -> PIL picture, the same bytes for the same arguments.  `size` is
the longest side of a 4:3 picture, or (width, height).
"""

from __future__ import annotations

from .landscape import scene
from .painting import swirls
from .tiles import mosaic

SAMPLES = {"scene": scene, "swirls": swirls, "mosaic": mosaic}

__all__ = ["SAMPLES", "mosaic", "scene", "swirls"]
