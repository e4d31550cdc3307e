"""The presets: where the defaults of a run come from."""

from __future__ import annotations

from typing import Any

CONV_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
PRESETS: dict[str, dict[str, Any]] = {
    "quality": {},
    # The paper, with the weights of its authors' own code: layers by 1/channels^2, the content
    # as a mean instead of half a sum, so that the weights do not depend on the size.
    "gatys": {
        "optimizer": "lbfgs",
        "init": "random",
        "pooling": "avg",
        "padding": "zero",
        "style_loss": "gatys",
        "normalize": False,
        "content_weight": 1.0,
        "style_weight": 1.3,  # theirs are 1000 / channels^2 for mean squares: 4 times our row
        "style_layer_weights": (64.0, 16.0, 4.0, 1.0, 1.0),
        "color_weight": 0.0,
        "tv_weight": 0.0,
        "scales": 1,
        "iterations": (500,),
        "history": 100,
    },
    # What most tutorials do: convolution layers, Gram matrices over C*H*W, 1 to a million.
    "seed": {
        "optimizer": "lbfgs",
        "padding": "zero",
        "content_layers": ("conv4_2",),
        "style_layers": CONV_LAYERS,
        "style_loss": "gram",
        "normalize": False,
        "content_weight": 1.0,
        "style_weight": 1e6,
        "color_weight": 0.0,
        "tv_weight": 0.0,
        "scales": 1,
        "iterations": (300,),
        "history": 100,
    },
}
