"""The training loop: `train(options)`, and `Training`, the state that a checkpoint holds.

Everything random in a step follows from the seed and the step's number: the order of an epoch,
the crops and colours of a batch.  So a run that is resumed from a checkpoint does what the unbroken
run would have done, bit for bit on one machine.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from fastconv import swap_convs

from ..networks.hardware import check_fits, choose_device
from .augment import Dice, views
from .datasets import Pictures
from .model import Classifier, step_bytes
from .objectives import OBJECTIVES, Task
from .options import TrainOptions
from .starting import start_from

WARM_UP_STEPS = 60
GROWN_AT = 2 / 3  # of the way: from here on the crops have their full size
LossRow = dict[str, float]


@dataclass
class Progress:
    """How far a run is, and what was seen on the way."""

    step: int = 0
    seconds: float = 0.0
    running: list[float] = field(default_factory=list)  # losses since the last evaluation
    rows: list[LossRow] = field(default_factory=list)


class Training:
    """A run: network, optimiser, schedule and progress."""

    def __init__(self, options: TrainOptions, pictures: Pictures) -> None:
        self.options, self.pictures = options, pictures
        self.task: Task = OBJECTIVES[options.objective](pictures, options)
        self.device = _device(options.device)
        self.dtype = _precision(options, self.device)
        check_fits(
            step_bytes(options, len(pictures.images)) * self.dtype.itemsize // 4,
            f"a step of {min(options.batch_size, len(pictures.images))} crops of "
            f"{options.image_size} pixels",
            lambda limit: "choose a smaller --image-size or --batch-size",
            self.device,
        )
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            model = Classifier(options.arch, options.width, len(self.task.classes))
        if options.start and not options.resume:
            start_from(model, options.start, pictures.images, options.image_size)
        self.model = swap_convs(model, options.backend).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=0.3, patience=3
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.progress = Progress()
        self.confused: list[dict[str, Any]] = []

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.task.train) // self.options.batch_size)

    @property
    def steps(self) -> int:
        return self.options.epochs * self.steps_per_epoch

    def batch(self, step: int) -> Tensor:
        """The pictures of a step, by the order of its epoch; a remainder waits for another."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.randperm(
            len(self.task.train), generator=Generator().manual_seed(_seed(self.options, epoch))
        )
        size = self.options.batch_size
        return self.task.train[order[place * size : (place + 1) * size]]

    def advance(self) -> LossRow:
        """One step: a batch, its loss, the gradient clipped, the weights moved."""
        started, step, options = time.perf_counter(), self.progress.step, self.options
        rate = self._set_rate(step)
        chosen, size = self.batch(step), self._crop_size(step)
        dice = Dice(_seed(options, 1_000_003 + step), self.device)
        rgb = views(self.pictures.images[chosen].to(self.device), size, self.task.strength, dice)
        self.model.train()
        with self._autocast():
            logits = self.model(rgb.contiguous(memory_format=torch.channels_last))
        loss = self._loss(logits, self.task.targets[chosen].to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        progress = self.progress
        progress.step += 1
        progress.running.append(loss.item())
        progress.seconds += time.perf_counter() - started
        return {
            "step": progress.step, "steps": self.steps, "size": size, "loss": loss.item(),
            "epoch": progress.step / self.steps_per_epoch, "learning_rate": rate,
            "seconds": progress.seconds,
        }  # fmt: skip

    def _loss(self, logits: dict[str, Tensor], targets: Tensor) -> Tensor:
        smoothing = self.options.label_smoothing
        losses = [
            weight * F.cross_entropy(logits[name].float(), targets, label_smoothing=smoothing)
            for name, weight in self.model.weights.items()
        ]
        return torch.stack(losses).sum() / sum(self.model.weights.values())

    def _set_rate(self, step: int) -> float:
        """Warm up, hold, and with `cosine` go down to 0 over the cooldown."""
        if self.options.schedule == "plateau":
            return float(self.optimizer.param_groups[0]["lr"])
        left = (self.steps - step) / max(1.0, self.options.cooldown * self.steps)
        factor = min(1.0, (step + 1) / WARM_UP_STEPS)
        factor *= 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, left)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * factor
        return self.options.learning_rate * factor

    def _crop_size(self, step: int) -> int:
        """Crops start small, which is what makes the first epochs cheap, in steps of 16."""
        small, full = min(self.options.first_size, self.options.image_size), self.options.image_size
        part = min(1.0, step / max(1.0, GROWN_AT * self.steps))
        return full if part >= 1 else min(full, small + int((full - small) * part) // 16 * 16)

    def take_stock(self, row: LossRow) -> LossRow:
        """Evaluate, update the plateau schedule, and append the row."""
        progress = self.progress
        row = row | self.evaluate()
        row["loss"] = sum(progress.running) / len(progress.running)
        progress.running.clear()
        progress.rows.append(row)
        if self.options.schedule == "plateau":
            self.plateau.step(row["test_loss"])
        return row

    def about(self) -> str:
        """The run in words."""
        options = self.options
        return (
            f"{self.pictures.about}: {options.objective}, {options.arch} at width "
            f"{options.width:g}, crops of {options.image_size} pixels, {self.steps} steps of "
            f"{options.batch_size} on {self.device.type} in {str(self.dtype)[6:]}"
        )

    def evaluate(self) -> LossRow:
        """Loss, top-1 and top-5 on the task's test views; confusions are kept in `confused`."""
        self.model.eval()
        options, guesses, losses = self.options, [], []
        top = min(5, len(self.task.classes))
        for i, chosen in enumerate(self.task.test.split(options.batch_size)):
            images = self.pictures.images[chosen].to(self.device)
            rgb = self.task.test_views(images, options.image_size, i)
            with torch.no_grad(), self._autocast():
                logits = list(self.model(rgb).values())[-1].float().cpu()
            targets = self.task.targets[chosen]
            losses.append(F.cross_entropy(logits, targets, reduction="sum").item())
            guesses.append(logits.topk(top).indices)
        guessed, targets = torch.cat(guesses), self.task.targets[self.task.test]
        self.confused = worst_classes(guessed[:, 0], targets, self.task.classes)
        hits = guessed == targets[:, None]
        return {
            "test_loss": sum(losses) / len(targets),
            "top1": hits[:, 0].float().mean().item(),
            "top5": hits.any(1).float().mean().item(),
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.plateau.load_state_dict(state["plateau"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])


def worst_classes(guessed: Tensor, targets: Tensor, names: list[str]) -> list[dict[str, Any]]:
    """The ten classes recognised least, each with what it is most often taken for."""
    rows = []
    for label in targets.unique().tolist():
        mine = guessed[targets == label]
        wrong = mine[mine != label]
        if len(wrong):
            other = int(wrong.mode().values)
            rows.append(
                {
                    "class": names[label],
                    "right": 1 - len(wrong) / len(mine),
                    "taken_for": names[other],
                    "pictures": len(mine),
                }
            )
    return sorted(rows, key=lambda row: row["right"])[:10]


def _seed(options: TrainOptions, number: int) -> int:
    return options.seed * 1_000_000_007 + number


def _device(name: str) -> torch.device:
    if name != "auto":
        return choose_device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(options: TrainOptions, device: torch.device) -> torch.dtype:
    if options.precision != "auto":
        return {
            "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
        }[options.precision]  # fmt: skip
    if options.backend != "torch":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has_it = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    # Without the instructions bfloat16 is emulated, and slower than float32.
    return torch.bfloat16 if device.type == "cpu" and has_it() else torch.float32
