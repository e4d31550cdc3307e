"""Before a run: what it is going to do, in words; nothing is fetched and nothing computed."""

from __future__ import annotations

import math

from ..networks.hardware import check_fits, memory_of
from .inputs import Inputs
from .setup import Setup

# Bytes for each pixel in float32 that no network here comes near (VGG19 takes 4,000).  What fits
# with so many needs no estimate, which runs the network on the meta device: half a second.
MORE_THAN_ENOUGH = 16_000


def plan_in_words(setup: Setup, inputs: Inputs) -> list[str]:
    """The plan of a run: pictures, network, layers, scales, memory."""
    check_memory(setup, inputs.content.hw)
    config, layers = setup.config, setup.layers
    plan = setup.levels(inputs.content.hw)
    height, width = inputs.content.hw
    styles = ", ".join(f"{s.name} {s.hw[1]}x{s.hw[0]}" for s in inputs.styles)
    lines = [
        f"content   {inputs.content.name} at {width}x{height}",
        f"styles    {styles}",
        f"network   {setup.kind.name}",
        f"content layers  {', '.join(layers.content)}",
        "style layers    " + ", ".join(f"{n} {w:.3f}" for n, w in layers.weights.items()),
        f"computed  by {setup.computed}",
        f"optimizer {config.plain()['optimizer']}, "
        f"{sum(level.iterations for level in plan)} iterations:",
    ]
    lines += [f"  {level.width}x{level.height}  {level.iterations}" for level in plan]
    lines.append(f"memory    about {setup.memory(inputs.content.hw) / 2**30:.2f} GB at the peak")
    return lines + [f"note      {remark}" for remark in inputs.remarks]


def check_memory(setup: Setup, hw: tuple[int, int]) -> None:
    """ConfigError if a run at hw would need more memory than it may, or than the machine has.

    Where it needs more than is free, a warning.  A limit that the user has set stands in the place
    of the machine's: so an estimate that is wrong can be overruled.
    """
    setup.check_memory(hw)
    memory = memory_of(setup.device)
    if setup.config.max_memory or memory is None:
        return
    values = setup.precision.picture.itemsize / 4
    if (
        values * hw[0] * hw[1] * (MORE_THAN_ENOUGH + 24 * setup.config.history)
        < memory.free - 2**30
    ):
        return
    needed = setup.memory(hw)

    def advice(limit: int) -> str:
        fits = int(max(hw) * math.sqrt(0.9 * limit / needed)) // 16 * 16
        smaller = f"--size {fits} would fit" if fits >= 64 else "no useful size would fit"
        overruled = f"; --max-memory {needed / 2**30 + 0.1:.1f}G goes on all the same"
        return smaller + (overruled if needed > memory.total else "")

    check_fits(needed, f"a run at {hw[1]}x{hw[0]} pixels", advice, setup.device)
