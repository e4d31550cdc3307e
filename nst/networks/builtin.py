"""The built-in network: a file in the package, trained by this project (docs/builtin.md).

float16 in safetensors; the digest in its metadata is checked on loading.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import WeightsError
from .stacks import State, state_digest

BUILTIN_FILE = Path(__file__).parents[1] / "data" / "builtin.safetensors"
ABOUT_BUILTIN = "trained by this project on 1,000 photographs (docs/builtin.md)"


def builtin_state(path: Path = BUILTIN_FILE) -> State:
    """All tensors of the built-in network, as float32."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get("sha256", "")
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"the built-in network {path} cannot be read ({error}); install nst again"
        ) from None
    if state_digest(state) != expected:
        raise WeightsError(
            f"the built-in network {path} is damaged: its digest does not match; install nst again"
        )
    return {key: tensor.float() for key, tensor in state.items()}
