"""Pictures of how a convolution works, all computed by the library's own code.

sliding     the kernel's window slides over the input and the output fills in (animation)
sending     backward: every output sends its gradient back through its window (animation)
columns     im2col: the convolution as one matrix product
winograd    the Winograd transform, with numbers
receptive   what part of a picture the layers of VGG19 see
"""

from __future__ import annotations

from .columns import im2col, im2col_figure
from .receptive import VGG19, Field, receptive_fields, receptive_figure, receptive_table
from .sending import backward_frames
from .sliding import forward_frames
from .winograd import Winograd, winograd_figure, winograd_matrices

__all__ = [
    "VGG19",
    "Field",
    "Winograd",
    "backward_frames",
    "forward_frames",
    "im2col",
    "im2col_figure",
    "receptive_fields",
    "receptive_figure",
    "receptive_table",
    "winograd_figure",
    "winograd_matrices",
]
