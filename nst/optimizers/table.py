"""The optimisers that can be named; a row of the table adds one."""

from __future__ import annotations

from ..tables import Row

OPTIMIZERS = {
    "adam": Row("Adam, averaged over the steps: keeps structure", "nst.optimizers.adam:Adam"),
    "lbfgs": Row("L-BFGS within the range of colours: sharp", "nst.optimizers.lbfgs:LBFGS"),
    "adamw": Row("plain AdamW, slowed on a plateau", "nst.optimizers.adam:AdamW"),
}
