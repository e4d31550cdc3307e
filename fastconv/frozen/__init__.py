"""Constant weights, fused: freeze() and the modules that it makes.

stack.py     freeze(), Frozen: which layers are fused into runs, and the calls
stage.py     one stage: convolution, activation, pool; moments of its output
cpu_run.py   consecutive stages in one go on the CPU      cuda_run.py, cuda_plan.py   on CUDA
clock.py     the time of each layer and direction
"""

from __future__ import annotations

from .stack import Frozen, freeze
from .stage import Moments, moments_of

__all__ = ["Frozen", "Moments", "freeze", "moments_of"]
