"""Before a run: what it is going to do, in words; nothing is fetched and nothing computed."""

from __future__ import annotations

from .inputs import Inputs
from .setup import Setup


def plan_in_words(setup: Setup, inputs: Inputs) -> list[str]:
    """The plan of a run: pictures, network, layers, scales, memory."""
    setup.check_memory(inputs.content.hw)
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
    return lines
