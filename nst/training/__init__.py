"""Training of networks that look at pictures: `nst train`, and the built-in network's own origin.

options.py      TrainOptions, the only home of the options
datasets.py     pictures in memory      augment.py   random views of them
objectives.py   what is learnt          model.py     the network with heads
loop.py         Training, a step at a time
train.py        train(options): checkpoints, curves, the exported file
"""

from .options import TrainOptions
from .train import Trained, train

__all__ = ["TrainOptions", "Trained", "train"]
