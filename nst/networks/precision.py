"""How exactly a run is computed: what `--precision` chooses among."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How exactly a run is computed."""

    picture: torch.dtype  # of x, targets and losses
    network: torch.dtype | None = None  # narrower than the picture's, by autocast
    products: str | None = None  # of float32: fastconv.set_precision

    @property
    def computed(self) -> torch.dtype:
        """What the backend must have kernels for."""
        return self.network or self.picture


# Moments are taken in float32 of whatever the network computes in, with the mean removed before
# any product: sums of squares of halves would overflow.
PRECISIONS = {
    "float32": Precision(torch.float32),
    "tf32": Precision(torch.float32, products="tf32"),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
    "float16": Precision(torch.float32, torch.float16),
    "float64": Precision(torch.float64),
}
