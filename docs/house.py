"""Draws docs/house.svg, the folders of both packages and their imports, and lists them in house.md.

    python docs/house.py

Both follow from the sources.  A folder stands one floor above the highest that it imports.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "fastconv"))

from source_imports import PACKAGES, imports_of, modules, unit  # noqa: E402

PAGE, FIGURE = HERE / "house.md", HERE / "house.svg"
BEGIN, END = "<!-- imports: made by docs/house.py -->", "<!-- end of imports -->"
BOX, FLOOR = (1.0, 0.5), 1.1  # a box's size, and the distance of two floors


@cache
def edges() -> dict[str, set[str]]:
    """Every folder, or module in a package's root, with those that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in modules():
        here = unit(name)
        found[here] |= {unit(target) for target in imports_of(name)} - {here}
    return found


def inside(package: str) -> dict[str, set[str]]:
    """The imports within one package, without `__main__` and the lazy root, which show nothing."""
    return {
        here: {there for there in targets if there.startswith(f"{package}.")}
        for here, targets in edges().items()
        if here.startswith(f"{package}.") and not here.endswith("__main__")
    }


def lines() -> str:
    """The same as text: one line for each folder."""
    parts = []
    for package in PACKAGES:
        for here, targets in sorted(inside(package).items(), key=lambda row: (-floor(row[0]), row)):
            parts.append(f"{here}: {_words(targets, package)}")
        parts.append("")
    users = {here.split(".")[1] for here in inside("nst") if _uses_fastconv(here)}
    parts.append(f"of nst, fastconv is imported by: {' '.join(sorted(users))}")
    return "\n".join(parts)


def _words(targets: set[str], package: str) -> str:
    return " ".join(sorted(target.removeprefix(f"{package}.") for target in targets)) or "-"


def _uses_fastconv(here: str) -> bool:
    return any(target.split(".")[0] == "fastconv" for target in edges()[here])


@cache
def floor(here: str) -> int:
    """How many floors there are below."""
    targets = inside(here.split(".")[0])[here]
    return 1 + max(map(floor, targets)) if targets else 0


def needed(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The imports that no chain of others implies: the others are drawn faintly."""

    def reached(here: str) -> set[str]:
        return {here}.union(*(reached(there) for there in graph[here]))

    return {
        (here, there)
        for here, targets in graph.items()
        for there in targets
        if not any(there in reached(other) for other in targets - {there})
    }


def places(graph: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Where each box is: in a row by its floor, each box near those that import it."""
    floors: dict[int, list[str]] = defaultdict(list)
    for here in sorted(graph):
        floors[floor(here)].append(here)
    place: dict[str, tuple[float, float]] = {}
    for level in sorted(floors, reverse=True):

        def wanted(here: str) -> float:
            above = [place[other][0] for other in place if here in graph[other]]
            return sum(above) / len(above) if above else 0.0

        row = sorted(floors[level], key=wanted)
        middle = sum(map(wanted, row)) / len(row)
        middle *= 0.5  # rows stay near the figure's axis
        for at, here in enumerate(row):
            place[here] = (middle + 1.25 * (at - (len(row) - 1) / 2), level * FLOOR)
    return place


def draw() -> None:
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 11), layout="constrained")
    for axes, package in zip(figure.subplots(1, 2), reversed(PACKAGES)):
        graph = inside(package)
        place, strong = places(graph), needed(graph)
        for here, targets in graph.items():
            for there in sorted(targets):
                _arrow(axes, place[here], place[there], (here, there) in strong)
        for here, (x, y) in place.items():
            box = {"boxstyle": "round,pad=0.35", "edgecolor": "#335", "linewidth": 0.8}
            box["facecolor"] = "#ffe9c7" if package == "nst" and _uses_fastconv(here) else "#eef2fb"
            axes.text(x, y, here.split(".")[1], ha="center", va="center", fontsize=10, bbox=box)
        xs, ys = zip(*place.values())
        axes.set(xlim=(min(xs) - 0.8, max(xs) + 0.8), ylim=(min(ys) - 0.6, max(ys) + 0.6))
        axes.set_title(package)
        axes.axis("off")
    with matplotlib.rc_context({"svg.hashsalt": "house", "svg.fonttype": "none"}):
        figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})


def _arrow(axes, start: tuple[float, float], end: tuple[float, float], strong: bool) -> None:
    look = {"color": "#335", "alpha": 0.8} if strong else {"color": "#99a", "alpha": 0.25}
    bend = 0.0 if abs(start[1] - end[1]) < 1.5 * FLOOR else 0.12
    look |= {"arrowstyle": "-|>" if strong else "-", "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops={**look, "shrinkA": 10, "shrinkB": 11, "lw": 0.9})


def main() -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n```text\n{lines()}\n```\n{END}{after}", encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
