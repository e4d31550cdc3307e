"""`nst train`: the options as a command of the `nst` command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from ..training.options import TrainOptions


@dataclass(frozen=True)
class Train(TrainOptions):
    """Train a network of your own on pictures; use it with `nst stylize --weights PATH`."""

    def run(self, observer: Any) -> list[str]:
        from ..training.running import Trained, train
        from ..training.watching import BarWatcher, LineWatcher, evaluation_in_words

        terminal = sys.stderr.isatty()
        done: Trained = train(self, BarWatcher(sys.stderr) if terminal else LineWatcher(sys.stderr))
        if done.path is None:
            observer.note(f"kept {done.checkpoint}; the same command with --resume goes on")
            raise KeyboardInterrupt
        lines = [
            f"seldom recognised: {row['class']} ({100 * row['right']:.0f} % of "
            f"{row['pictures']}), taken for {row['taken_for']}"
            for row in done.confused[:3]
        ]
        if done.rows:
            lines.append(evaluation_in_words(done.rows[-1]))
        return [*lines, f"wrote {done.path}"]
