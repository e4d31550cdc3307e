"""The built-in network's file: whole, small, quick to load, and what its settings say."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from nst.errors import WeightsError
from nst.networks.builtin import BUILTIN_FILE, builtin_state
from nst.networks.stacks import cut_stack, layer_names
from nst.training.export import settings
from nst.training.untrained import untrained_state


def test_the_file_is_small_and_loads_in_less_than_a_tenth_of_a_second() -> None:
    assert BUILTIN_FILE.stat().st_size <= 8_000_000
    builtin_state()  # the first time imports safetensors
    began = time.process_time()
    builtin_state()
    assert time.process_time() - began < 0.1


def test_it_holds_every_tensor_of_the_layout_in_float32() -> None:
    state = builtin_state()
    expected = {
        f"{layer}.{key}": tensor.shape
        for layer, module in cut_stack("builtin", layer_names("builtin"))
        for key, tensor in module.state_dict().items()
    }
    assert {key: tensor.shape for key, tensor in state.items()} == expected
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def test_it_is_trained_and_not_the_random_one() -> None:
    trained, untrained = builtin_state(), untrained_state()
    assert not torch.allclose(trained["conv3_1.weight"], untrained["conv3_1.weight"], atol=0.01)
    with safe_open(BUILTIN_FILE, framework="pt") as file:
        assert float(file.metadata()["top1"]) > 0.5


def test_its_metadata_tells_its_data_and_the_settings_that_are_used() -> None:
    with safe_open(BUILTIN_FILE, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["settings"]) == settings()
    assert metadata["objective"] == "exemplar"
    assert "1000 pictures" in metadata["data"]


@pytest.mark.parametrize("place", [-1, -1000])
def test_a_damaged_file_is_refused(tmp_path: Path, place: int) -> None:
    data = bytearray(BUILTIN_FILE.read_bytes())
    data[place] ^= 0x55
    damaged = tmp_path / "builtin.safetensors"
    damaged.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged: its digest does not match"):
        builtin_state(damaged)


def test_a_missing_or_cut_off_file_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "builtin.safetensors"
    with pytest.raises(WeightsError, match="cannot be read"):
        builtin_state(cut)
    cut.write_bytes(BUILTIN_FILE.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be read"):
        builtin_state(cut)
