"""`train(options)`: from pictures to a network's file, with progress and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..outputs.atomic import check_apart, check_folder, folders_to_make
from ..run.signals import Stop, finishing_steps
from . import checkpoints
from .curves import Board, write_curves
from .datasets import Pictures, load
from .export import export
from .loop import LossRow, Training
from .options import TrainOptions
from .watching import Watcher


@dataclass(frozen=True)
class Trained:
    """What came of a run."""

    path: Path | None  # the network's file; None if the run was interrupted
    checkpoint: Path
    rows: list[LossRow]  # one per evaluation
    confused: list[dict[str, Any]]  # the classes recognised least
    interrupted: bool = False


def train(
    options: TrainOptions, watcher: Watcher | None = None, pictures: Pictures | None = None
) -> Trained:
    """Train, keep checkpoints, evaluate, and write the network; Ctrl-C keeps what is there."""
    watcher = watcher or Watcher()
    check_folder(options.output)
    if options.tensorboard is not None:
        check_folder(options.tensorboard / "events")
    check_apart({"output": options.output}, {"the weights to start from": options.start or None})
    with _threads(options.threads):
        return _train(options, watcher, pictures or load(options, watcher.note))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for torch (0: as it is), and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(options: TrainOptions, watcher: Watcher, pictures: Pictures) -> Trained:
    training = Training(options, pictures)
    if options.resume:
        checkpoints.restore(training)
    for line in [*folders_to_make([options.output]), training.about()]:
        watcher.note(line)
    try:
        with finishing_steps(watcher.note) as stop:
            run(training, watcher, stop)
            checkpoints.save(training)  # a signal that comes now waits as well
            if training.progress.step < training.steps:
                return _trained(training, None)
            export(training, options.output)
    finally:
        watcher.close()
    return _trained(training, options.output)


def run(training: Training, watcher: Watcher, stop: Stop) -> None:
    """Steps until the end or `stop`, with an evaluation every few epochs and checkpoints."""
    options, saved = training.options, time.monotonic()
    board = Board(options.tensorboard, watcher.note)
    every = options.evaluate_every * training.steps_per_epoch
    while training.progress.step < training.steps and not stop.is_set():
        row = training.advance()
        watcher.step(row)
        if training.progress.step % every == 0 or training.progress.step == training.steps:
            row = training.take_stock(row)
            watcher.evaluated(row)
            board.add(row)
            write_curves(training.progress.rows, options.output)
        if time.monotonic() - saved >= 60 * options.checkpoint_minutes:
            checkpoints.save(training)
            saved = time.monotonic()
    board.close()


def _trained(training: Training, path: Path | None) -> Trained:
    rows, checkpoint = training.progress.rows, checkpoints.path_of(training.options.output)
    return Trained(path, checkpoint, rows, training.confused, path is None)
