"""The profile of a run: every part is there, and the parts make up the whole."""

from __future__ import annotations

import time

import pytest
import torch

import nst
from fastconv import backends
from nst.cli.main import main
from nst.observers.profile import Profile, Profiler, table
from nst.optimizers.base import Spent
from nst.samples import SAMPLES

SMALL = {"size": 48, "network": "builtin", "iterations": 3, "scales": 2}


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_the_parts_of_a_profile_make_up_the_run(backend: str) -> None:
    if not backends()[backend].available:
        pytest.skip(backends()[backend].reason)
    profiler = Profiler()
    pictures = [SAMPLES[name]((48, 36), 0) for name in ("scene", "swirls")]
    nst.stylize(*pictures, observer=profiler, backend=backend, **SMALL)
    found = profiler.found()
    assert found is not None
    assert found.evaluations == 4
    assert found.total == pytest.approx(profiler.seconds, rel=0.02)
    assert 0 < found.convolutions < found.total
    assert all(forward > 0 and backward > 0 for forward, backward in found.layers.values())
    assert len(found.moments) == 5
    assert all(forward > 0 and backward > 0 for forward, backward in found.moments.values())
    assert any("conv4_2" in name for name in found.layers)
    assert found.moving > 0


def test_a_run_of_one_iteration_has_no_profile() -> None:
    assert Profiler().lines() == ["a profile takes two iterations or more"]


def test_the_table_gives_milliseconds_per_evaluation_and_shares() -> None:
    layers = {"conv1_1 .. relu1_1": (0.2, 0.4)}
    found = Profile(layers, {"moments of relu1_1": (0.1, 0.1)}, (0.05, 0.05), 0.08, 0.02, 10)
    lines = table(found)
    assert lines[1].split() == ["conv1_1", "..", "relu1_1", "20.00", "40.00", "60.0%"]
    assert lines[-3].split() == ["optimiser", "8.00", "8.0%"]
    assert lines[-1] == ("10 evaluations of 100.0 ms; outside of the network's layers 40.0%")


def test_time_spent_adds_up() -> None:
    spent = Spent()
    for _ in range(2):
        with spent.on("moving"):
            time.sleep(0.01)
    assert 0.02 <= spent.moving < 0.5
    assert spent.forward == 0


def test_the_command_prints_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scene", "swirls"):
        SAMPLES[name]((40, 30), 0).save(f"{name}.png")
    words = "stylize scene.png swirls.png -s 40 --network builtin -i 3 --scales 1 -q --profile"
    assert main(words.split()) == 0
    told = capsys.readouterr().out
    assert "part of an evaluation" in told
    assert "2 evaluations of" in told


def test_a_clock_does_not_change_what_is_computed() -> None:
    pictures = [SAMPLES[name]((48, 36), 0) for name in ("scene", "swirls")]
    plain = nst.stylize(*pictures, **SMALL).rgb
    assert torch.equal(nst.stylize(*pictures, observer=Profiler(), **SMALL).rgb, plain)
