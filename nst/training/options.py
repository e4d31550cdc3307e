"""TrainOptions: the only home of the options of `nst train`, their defaults and their help."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff

from ..config.options import LARGEST_PIXELS, BackendName, flag, switch
from ..errors import ConfigError

# Pictures are kept at twice the size of the crops, and none is larger than `nst stylize` makes.
LARGEST_CROP = math.isqrt(LARGEST_PIXELS) // 2


@dataclass(frozen=True)
class TrainOptions:
    """The options of `nst train`."""

    data: Annotated[str, flag(metavar="cifar100|caltech101|FOLDER")]
    """Pictures to learn from: a dataset by name, a folder of pictures, or a folder of classes."""
    output: Annotated[Path, flag(aliases=["-o"], metavar="PATH")] = Path("network.safetensors")
    """The trained network; checkpoint, curves and CSV table are written beside it."""
    data_root: Annotated[Path, flag(metavar="FOLDER")] = Path("data")
    """Where CIFAR-100 and Caltech101 are, or are downloaded to."""
    download: Annotated[FlagCreatePairsOff[bool], switch()] = False
    """Download the dataset if it is not in the data root."""
    objective: Literal["exemplar", "labels"] = "exemplar"
    """exemplar tells every picture from all others under strong changes; labels learns classes."""
    arch: Literal["vgg19", "resnet50"] = "vgg19"
    """Layout of the network; VGG19 goes up to conv5_1, beyond which no style layer lies."""
    width: float = 0.5
    """Channels relative to the full network (VGG19 only)."""
    start: Annotated[str, flag(metavar="builtin|PATH")] = ""
    """Weights to start from: the built-in network's or a file's (VGG19 only)."""
    image_size: Annotated[int, flag(aliases=["-s"])] = 80
    """Side of the crops in pixels."""
    first_size: int = 48
    """Side of the first crops; they grow to image-size by two thirds of the way."""
    color: float = 1.0
    """How far views may change in colour, relative to the usual (exemplar only)."""
    held_out: float = 0.1
    """Part of each class kept for evaluation (labels only)."""

    epochs: Annotated[int, flag(aliases=["-e"])] = 100
    """Times that every picture is seen."""
    batch_size: Annotated[int, flag(aliases=["-b"])] = 50
    """Pictures per step."""
    learning_rate: Annotated[float, flag(aliases=["-lr"])] = 2e-3
    """AdamW's step size at its highest."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """cosine holds the step size, then lowers it to 0 over the last part (cooldown);
    plateau lowers it when the evaluation loss stalls."""
    cooldown: float = 0.4
    """Part of the run over which cosine lowers the step size."""
    weight_decay: float = 0.02
    """AdamW's decay of the weights."""
    label_smoothing: float = 0.1
    """Part of the target that is spread over all classes."""
    clip: float = 2.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Seed of weights, order and augmentation."""

    evaluate_every: int = 5
    """Epochs between evaluations."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; one is also written at the end and on Ctrl-C."""
    resume: Annotated[FlagCreatePairsOff[bool], switch()] = False
    """Go on from the checkpoint beside the output, exactly."""
    backend: BackendName = "torch"
    """What computes the convolutions; torch has batches in bfloat16, the others float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it is computed; auto takes a GPU if there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the convolutions; auto takes bfloat16 where the machine has it in hardware."""
    threads: int = 0
    """Threads to use; 0 leaves it to torch."""
    tensorboard: Annotated[Path | None, flag(metavar="FOLDER")] = None
    """Write the curves for TensorBoard as well, if it is installed."""

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 1), ("batch_size", 2), ("evaluate_every", 1)):
            _expect(getattr(self, name) >= lowest, name, f"{lowest} or more", getattr(self, name))
        for name, low, high in (
            ("image_size", 16, LARGEST_CROP), ("first_size", 16, LARGEST_CROP),
            ("width", 1 / 64, 4.0), ("learning_rate", 1e-9, 10.0), ("clip", 1e-9, math.inf),
            ("color", 0.0, 1.5), ("held_out", 0.0, 0.9), ("cooldown", 0.0, 1.0),
            ("weight_decay", 0.0, 10.0), ("threads", 0, 1024),
            ("label_smoothing", 0.0, 0.9), ("checkpoint_minutes", 0.0, math.inf),
        ):  # fmt: skip
            value = getattr(self, name)
            _expect(low <= value <= high, name, f"a number from {low:g} to {high:,.10g}", value)
        if self.arch == "resnet50" and self.width != 1.0:
            raise ConfigError(f"arch resnet50 has one width: expected --width 1, got {self.width}")
        if self.arch == "resnet50" and self.start:
            raise ConfigError(f"start expects arch vgg19, got resnet50 with --start {self.start}")
        if self.output.suffix != ".safetensors":
            raise ConfigError(f"output expects a name in .safetensors, got '{self.output}'")

    def plain(self) -> dict[str, Any]:
        """The options as words and numbers, for the checkpoint and the file's metadata."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


# What may differ when a run goes on: it changes how long, how fast and where, not what is learnt.
MAY_CHANGE = (
    "data", "data_root", "download", "output", "epochs", "cooldown", "image_size", "evaluate_every",
    "checkpoint_minutes", "resume", "backend", "device", "precision", "threads", "tensorboard",
)  # fmt: skip


def _expect(good: bool, name: str, expected: str, got: Any) -> None:
    if not good:
        raise ConfigError(f"{name.replace('_', '-')} expects {expected}, got {got}")
