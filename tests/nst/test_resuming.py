"""Checkpoints: a resumed run is the unbroken one, and others' files are refused."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import CONTENT, SMALL, STYLE, run

import nst
from nst.errors import CheckpointError, OutputError
from nst.optimizers.table import OPTIMIZERS
from nst.outputs.sealed import SEAL, digest, save_sealed
from nst.run.checkpoint import load, save
from nst.run.inputs import load_inputs
from nst.run.observer import Observer
from nst.run.run import Run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [3, 6, 7, 9])
def test_a_resumed_run_equals_the_unbroken_one(tmp_path: Path, optimizer: str, stop: int) -> None:
    options = {"optimizer": optimizer, "balance": "auto"}
    unbroken = run(**options)
    path = broken_off(tmp_path, stop, **options)
    resumed = nst.stylize(resume=path)
    assert torch.equal(resumed.rgb, unbroken.rgb)
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.losses]
    whole = [{k: v for k, v in row.items() if k != "seconds"} for row in unbroken.losses]
    assert kept == whole


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [10, 20])
def test_a_run_stopped_where_the_weights_have_just_moved_goes_on_as_if_not(
    tmp_path: Path, optimizer: str, stop: int
) -> None:
    options = {"optimizer": optimizer, "balance": "auto", "iterations": 24, "scales": 1}
    unbroken = run(**options)
    factors = [row["balance"] for row in unbroken.losses]
    assert factors[stop - 1] != factors[stop]
    resumed = nst.stylize(resume=broken_off(tmp_path, stop, **options))
    assert torch.equal(resumed.rgb, unbroken.rgb)


def broken_off(folder: Path, stop: int, **options: Any) -> Path:
    """The checkpoint that a run of `stop` iterations leaves."""
    run = begun(CONTENT, **options)
    steps = run.steps()
    for _ in range(stop):
        next(steps)
    save(folder / "run.ckpt", run, run.config, SOURCES)
    return folder / "run.ckpt"


SOURCES = {"content": "c.png", "styles": ["s.png"]}


def begun(content: Any, **options: Any) -> Run:
    config = nst.StyleConfig.of("quality", **{**SMALL, **options})
    return Run.prepare(config, load_inputs(config, content, [STYLE]), Observer())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_without_the_gradient_goes_on_as_well(tmp_path: Path, optimizer: str) -> None:
    path = broken_off(tmp_path, 4, optimizer=optimizer)
    content = torch.load(path)
    del content["state"]["optimizer"]["gradient"]
    seal(content, path)
    assert torch.equal(nst.stylize(resume=path).rgb, run(optimizer=optimizer).rgb)


def seal(content: dict[str, Any], path: Path) -> None:
    """As a checkpoint that was written like this, not damaged since."""
    save_sealed(path, {name: value for name, value in content.items() if name != SEAL})


@pytest.mark.parametrize("stop", [2, 10])
def test_bytes_flipped_in_a_checkpoint_are_noticed_wherever_they_are(
    tmp_path: Path, stop: int
) -> None:
    path = broken_off(tmp_path, stop, optimizer="lbfgs", iterations=10, scales=1)
    whole, expected = path.read_bytes(), digest(vars(load(path))["state"])
    generator = random.Random(stop)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(generator.choice([1, 3, 20])):
            damaged[generator.randrange(len(damaged))] ^= generator.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            assert digest(load(path).state) == expected  # a byte that nothing is read from
        except CheckpointError as error:
            refused += "damaged" in str(error)
    assert refused > 100


def test_a_finished_run_removes_no_file_but_its_own_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "out.ckpt").write_text("precious")
    result = run(output=tmp_path / "out.png")
    assert any("out-2.ckpt" in note for note in result.notes)
    assert (tmp_path / "out.ckpt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.ckpt", "out.png"]
    with pytest.raises(OutputError, match="is there already: choose another name"):
        run(output=tmp_path / "a.png", checkpoint=tmp_path / "out.ckpt")
    path = broken_off(tmp_path, 3, output=tmp_path / "b.png")
    path.rename(tmp_path / "b.ckpt")
    (tmp_path / "sub").mkdir()
    nst.stylize(resume=tmp_path / "sub" / ".." / "b.ckpt")  # the same file by another name
    assert not (tmp_path / "b.ckpt").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_each_signal_ends_a_run_after_its_step_with_a_checkpoint(tmp_path: Path, name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    before = signal.getsignal(getattr(signal, name))
    told: list[str] = []

    class Noting(Observer):
        def note(self, text: str) -> None:
            told.append(text)

    def stop(step: nst.Step) -> None:
        if step.iteration == 4:
            signal.raise_signal(getattr(signal, name))

    table = tmp_path / "no" / "losses.csv"
    result = run(output=tmp_path / "out.png", csv=table, callback=stop, observer=Noting())
    assert result.interrupted
    assert len(result.losses) == 4
    assert result.checkpoint == tmp_path / "out.ckpt"
    assert "once more to stop at once" in told[-1]
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_signal_in_the_last_step_finds_a_finished_run(tmp_path: Path) -> None:
    def stop(step: nst.Step) -> None:
        if step.iteration == step.iterations:
            signal.raise_signal(signal.SIGINT)

    result = run(output=tmp_path / "out.png", callback=stop)
    assert not result.interrupted
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_a_signal_while_the_result_is_saved_does_not_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_picture = nst.Result.save

    def interrupted(result: nst.Result, path: Path | str) -> Path:
        signal.raise_signal(signal.SIGTERM)
        return save_picture(result, path)

    monkeypatch.setattr(nst.Result, "save", interrupted)
    run(output=tmp_path / "out.png")
    assert (tmp_path / "out.png").exists()


def test_a_checkpoint_needs_no_picture_files(tmp_path: Path) -> None:
    CONTENT.save(tmp_path / "c.png")
    run = begun(tmp_path / "c.png")
    next(run.steps())
    save(tmp_path / "run.ckpt", run, run.config, SOURCES)
    (tmp_path / "c.png").unlink()
    assert nst.stylize(resume=tmp_path / "run.ckpt").image.size == (40, 30)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: p.write_bytes(b""), "is damaged or is not a checkpoint"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "is damaged or is not a checkpoint"),
        (lambda p: torch.save({"a": 1}, p), "is not a checkpoint of nst"),
        (lambda p: seal(torch.load(p) | {"version": 99}, p), "version 99"),
        (lambda p: seal(torch.load(p) | {"version": 3}, p), "version 3, this nst reads version 4"),
        (lambda p: torch.save(torch.load(p) | {"network": "vgg16"}, p), "is damaged: its content"),
        (lambda p: seal(torch.load(p) | {"digest": "0"}, p), "other weights"),
        (lambda p: seal(torch.load(p) | {"config": {"preset": "x"}}, p), "is damaged"),
        (lambda p: seal(torch.load(p) | {"state": {}}, p), "is damaged: KeyError"),
    ],
)
def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, damage: Any, words: str) -> None:
    path = broken_off(tmp_path, 2)
    damage(path)
    with pytest.raises(CheckpointError, match=words):
        nst.stylize(resume=path)


def test_other_options_do_not_mix_with_a_checkpoint(tmp_path: Path) -> None:
    path = broken_off(tmp_path, 2)
    with pytest.raises(CheckpointError, match="of another run: it has size = 40"):
        nst.stylize(resume=path, size=64)
    nst.stylize(resume=path, csv=tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").exists()


def test_a_checkpoint_holds_what_it_says(tmp_path: Path) -> None:
    saved = load(broken_off(tmp_path, 8))
    assert saved.network == "builtin"
    assert (saved.state["scale"], saved.state["done"]) == (1, 2)
    assert saved.sources == {"content": "c.png", "styles": ["s.png"]}
