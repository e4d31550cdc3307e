"""`--balance auto`: the content's weight, adjusted during the run."""

from __future__ import annotations

CONTENT, STYLE = ("content",), ("style", "color")  # the groups of terms on either side


class Balance:
    """Adjusts the content's factor b until content and style (colours included) weigh the same.

    Every EVERY evaluations b is multiplied by the root of the two sides' ratio.  More b makes
    the content's loss smaller and the style's larger, so this converges; fixing the
    losses' share of the total (b on the left as well) would not, since near its minimum a loss
    falls faster than its weight grows.  A new b at each evaluation would change the objective
    between the points of a curvature pair, which L-BFGS does not tolerate.
    """

    EVERY = 10
    LIMIT = 100.0

    def __init__(self, factor: float = 1.0, seen: int = 0) -> None:
        self.factor, self.seen = factor, seen

    def watch(self, content: float, style: float) -> bool:
        """Count an evaluation's weighted losses; True if the factor has moved."""
        self.seen += 1
        if self.seen % self.EVERY or content <= 0 or style <= 0:
            return False
        moved = self.factor * (content / style) ** 0.5
        self.factor = min(max(moved, 1 / self.LIMIT), self.LIMIT)
        return True
