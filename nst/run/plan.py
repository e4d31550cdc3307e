"""Before a run: what it is going to do, and whether its memory will do."""

from __future__ import annotations

from ..config.options import StyleConfig, parse_memory
from ..errors import ConfigError
from ..networks.hardware import choose_backend, choose_device, choose_graph
from ..networks.survey import estimated_bytes, largest_size
from ..networks.table import cut_stack, shortest_side
from ..networks.weights import AUTO, from_file
from .pyramid import Level, levels
from .run import Inputs, choose_layers


def expected_network(config: StyleConfig) -> str:
    """The network that a run will have."""
    if config.weights is not None:
        return from_file(config.network, config.weights).network
    return AUTO if config.network == "auto" else config.network


def _memory(config: StyleConfig, inputs: Inputs, network: str) -> int:
    layers = choose_layers(config, network).all
    value_bytes = 8 if config.precision == "float64" else 4
    history = config.history if config.optimizer == "lbfgs" else 3
    return estimated_bytes(network, layers, inputs.content.hw, history, value_bytes)


def planned_levels(config: StyleConfig, inputs: Inputs, network: str) -> list[Level]:
    """The scales of the run, or ConfigError if the picture is too small for the network."""
    names = (name for name, _ in cut_stack(network, choose_layers(config, network).all))
    return levels(inputs.content.hw, config.scales, config.iterations, shortest_side(names))


def check_memory(config: StyleConfig, inputs: Inputs, network: str) -> None:
    """ConfigError, with the largest size that fits, if a run would need more than it may."""
    planned_levels(config, inputs, network)  # a picture too small for the network has no memory
    limit = parse_memory(config.max_memory)
    if limit is None:  # the estimate runs the network on the meta device: half a second of imports
        return
    needed = _memory(config, inputs, network)
    if needed <= limit:
        return
    layers = choose_layers(config, network).all
    history = config.history if config.optimizer == "lbfgs" else 3
    fits = largest_size(network, layers, inputs.content.hw, history, limit)
    advice = f"--size {fits} fits" if fits >= 64 else "no useful size fits"
    raise ConfigError(
        f"max_memory is {config.max_memory}, and {max(inputs.content.hw)} pixels need about "
        f"{needed / 2**30:.2f}G: {advice}"
    )


def plan_in_words(config: StyleConfig, inputs: Inputs, network: str) -> list[str]:
    """The plan of a run: pictures, network, layers, scales, memory."""
    check_memory(config, inputs, network)
    choose_graph(config)
    layers = choose_layers(config, network)
    plan = planned_levels(config, inputs, network)
    height, width = inputs.content.hw
    styles = ", ".join(f"{s.name} {s.hw[1]}x{s.hw[0]}" for s in inputs.styles)
    lines = [
        f"content   {inputs.content.name} at {width}x{height}",
        f"styles    {styles}",
        f"network   {network}",
        f"content layers  {', '.join(layers.content)}",
        "style layers    " + ", ".join(f"{n} {w:.3f}" for n, w in layers.weights.items()),
        f"computed  by {choose_backend(config)} on {choose_device(config.device)}, "
        f"{config.precision}",
        f"optimizer {config.optimizer}, {sum(level.iterations for level in plan)} iterations:",
    ]
    lines += [f"  {level.width}x{level.height}  {level.iterations}" for level in plan]
    lines.append(f"memory    about {_memory(config, inputs, network) / 2**30:.2f} GB at the peak")
    return lines
