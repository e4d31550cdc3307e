"""From pytest-benchmark's JSON to tables: bench/results/<name>.md, and the short ones in README.

    python bench/report.py RESULTS.json ...         bench/results/cpu.md, and README
    python bench/report.py RESULTS.json ... NAME    bench/results/NAME.md: another machine

Every figure is a median; a ratio is torch's median over the contender's, of the same run, so
that more than 1 means faster than torch.  Losses stand in the same tables as wins.  Of a row that
several files have, the run with the middle ratio is taken whole.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: made by `make bench` -->", "<!-- end of benchmarks -->"
YARDSTICK = "torch"

OWN = ("nst", "native")
Cell = dict[str, float]  # contender -> seconds
# table -> (row, operation) -> its cell
Tables = dict[str, dict[tuple[str, str], Cell]]
# table -> row -> column -> words: what is more than one timing
Facts = dict[str, dict[str, dict[str, str]]]


def read(paths: list[Path]) -> tuple[Tables, Facts, dict[str, str]]:
    runs: dict[str, dict[tuple[str, str], list[Cell]]] = defaultdict(lambda: defaultdict(list))
    facts: Facts = defaultdict(dict)
    for path in paths:
        content = json.loads(path.read_text(encoding="utf-8"))
        found: dict[tuple[str, str, str], Cell] = defaultdict(dict)
        for entry in content["benchmarks"]:
            info = entry["extra_info"]
            if "facts" in info:
                facts[info["table"]] |= {info["row"]: info["facts"], **info.get("more", {})}
                continue
            cell = found[info["table"], info["row"], info["column"]]
            cell[info["contender"]] = entry["stats"]["median"]
        for (table, row, operation), cell in found.items():
            runs[table][row, operation].append(cell)
    tables = {
        table: {key: _middle(cells) for key, cells in rows.items()} for table, rows in runs.items()
    }
    return tables, facts, content["machine_info"]["fastconv"] | {"date": content["datetime"][:10]}


def _middle(cells: list[Cell]) -> Cell:
    def ratio(cell: Cell) -> float:
        own = next((cell[name] for name in OWN if name in cell), cell[YARDSTICK])
        return cell[YARDSTICK] / own

    return sorted(cells, key=ratio)[(len(cells) - 1) // 2]


def markdown(tables: Tables, facts: Facts, machine: dict[str, str]) -> str:
    parts = ["# Benchmarks", "", _conditions(machine)]
    for name, rows in facts.items():
        parts += ["", f"## {name}", "", *_fact_lines(rows)]
    for name, table in tables.items():
        parts += ["", f"## {name}", "", *_lines(table), "", _summary(table)]
    return "\n".join(parts) + "\n"


def _conditions(machine: dict[str, str]) -> str:
    facts = ", ".join(f"{name}: {value}" for name, value in machine.items())
    return (
        f"{facts}. Medians in milliseconds; in brackets, how many times as fast as torch on plain "
        "(NCHW) tensors as shipped. Gradients are timed through `torch.autograd.grad`."
    )


def _fact_lines(rows: dict[str, dict[str, str]]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    columns.sort(key=("torch", "torch channels_last", "native", "nst").index)
    lines = ["| what | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for row, cells in rows.items():
        lines.append(f"| {row} | " + " | ".join(cells.get(c, "") for c in columns) + " |")
    return lines


def _lines(table: dict[tuple[str, str], dict[str, float]]) -> list[str]:
    labels = list(dict.fromkeys(label for cell in table.values() for label in cell))
    lines = ["| shape | operation | " + " | ".join(labels) + " |"]
    lines.append("|---|---|" + "---:|" * len(labels))
    for (row, operation), cell in table.items():
        cells = (_cell(cell.get(label), cell[YARDSTICK]) for label in labels)
        lines.append(f"| {row} | {operation} | " + " | ".join(cells) + " |")
    return lines


def _cell(seconds: float | None, yardstick: float) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.3g} ({yardstick / seconds:.2f}x)"


def _summary(table: dict[tuple[str, str], dict[str, float]]) -> str:
    sentences = []
    for label in ("native", "numba", "nst"):
        for operation in dict.fromkeys(key[1] for key in table):
            ratios = sorted(
                cell[YARDSTICK] / cell[label]
                for (_, op), cell in table.items()
                if op == operation and label in cell
            )
            if ratios:
                sentences.append(
                    f"{label} {operation}: worst {ratios[0]:.2f}x, "
                    f"median {statistics.median(ratios):.2f}x, best {ratios[-1]:.2f}x."
                )
    return " ".join(sentences)


IN_README = ("Style transfer, one evaluation", "VGG19 at 512 px")  # in full


def short(tables: Tables, facts: Facts, machine: dict[str, str]) -> str:
    """README's part: style transfer and VGG19 at 512 px in full, a line for each other table."""
    parts = [_conditions(machine), ""]
    for name, rows in facts.items():
        parts += [f"**{name}**", "", *_fact_lines(rows), ""]
    for name in IN_README:
        if name in tables:
            parts += [f"**{name}**", "", *_lines(tables[name]), ""]
    parts += [f"- {name}: {_summary(table)}" for name, table in tables.items()]
    return "\n".join(parts)


def put_into_readme(text: str) -> None:
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    paths = [Path(argument) for argument in sys.argv[1:] if argument.endswith(".json")]
    names = [argument for argument in sys.argv[1:] if not argument.endswith(".json")] or ["cpu"]
    if not paths or len(names) > 1:
        print("usage: python bench/report.py RESULTS.json ... [NAME]", file=sys.stderr)
        return 2
    (name,) = names
    tables, facts, machine = read(paths)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.md").write_text(markdown(tables, facts, machine), encoding="utf-8")
    if name == "cpu":
        put_into_readme(short(tables, facts, machine))
    for title, rows in facts.items():
        print("\n".join([f"{title}:", *_fact_lines(rows)]))
    for title, table in tables.items():
        print(f"{title}: {_summary(table)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
