"""From pytest-benchmark's JSON to tables: all of them in bench/results/<name>.md.

    python bench/report.py RESULTS.json ...         bench/results/cpu.md, and from there the main
                                                    tables in docs/results.md, ten rows in README
    python bench/report.py RESULTS.json ... NAME    bench/results/NAME.md: another machine

Every figure is a median; a ratio is torch's median over the contender's, of the same run, so
that more than 1 means faster than torch.  Losses stand in the same tables as wins.  Of a row that
several files have, the run with the middle ratio is taken whole.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
README, RESULTS = HERE.parent / "README.md", HERE.parent / "docs" / "results.md"
IN_RESULTS = "<!-- benchmarks: made by `make bench` -->", "<!-- end of benchmarks -->"
IN_README = "<!-- short table: made by `make bench` -->", "<!-- end of short table -->"
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


IN_FULL = ("Style transfer, one evaluation", "VGG19 at 512 px")


def main_tables(tables: Tables, facts: Facts, machine: dict[str, str]) -> str:
    """For docs/results.md: facts, style transfer and VGG19 in full, a line for each other table."""
    parts = [_conditions(machine), ""]
    for name, rows in facts.items():
        parts += [f"**{name}**", "", *_fact_lines(rows), ""]
    for name in IN_FULL:
        if name in tables:
            parts += [f"**{name}**", "", *_lines(tables[name]), ""]
    parts += [f"- {name}: {_summary(table)}" for name, table in tables.items()]
    return "\n".join(parts)


FROZEN = "VGG19 conv1_1 to conv5_1, frozen, 512 px, each in a process of its own"
STEP, RUN = "Style transfer, one evaluation", "Style transfer"
# README's rows: what they are about, the table, and the beginning of its row.
SHORT = (
    ("VGG19 up to conv5_1, frozen, forward and backward, 512 px", FROZEN, "milliseconds, all"),
    ("the same with AVX2 alone", FROZEN, "milliseconds, AVX2"),
    ("that stack's memory at the peak, in MB", FROZEN, "megabytes at the peak"),
    ("one step of style transfer, 256 px", STEP, "256 px | step"),
    ("one step of style transfer, 512 px", STEP, "512 px | step"),
    ("one step of style transfer, 1024 px", STEP, "1024 px | step"),
    ("memory of a style transfer at the peak, in MB, 512 px", RUN, "peak memory in MB"),
    ("seconds to the loss of 300 evaluations of plain L-BFGS, 512 px", RUN, "seconds to the last"),
    ("`nst stylize`, 512 px, built-in network: seconds in all", RUN, "`nst stylize`, 512 px"),
    ("a row that is slower: 1x1, 16 to 16 channels of 4x4", "Other shapes", "tiny 1x1 16->16 @4"),
)


def short_table(results: str) -> str:
    """README's ten rows, out of the text of bench/results/cpu.md."""
    lines = ["| what | torch | fastconv, nst |", "|---|---:|---:|"]
    for label, table, row in SHORT:
        part = results.split(f"\n## {table}\n")[1].split("\n## ")[0]
        found = [line for line in part.splitlines() if line.startswith("| ")]
        columns, cells = (
            [cell.strip() for cell in line.split("|")[1:-1]]
            for line in (found[0], next(line for line in found if line.startswith(f"| {row}")))
        )
        cell = dict(zip(columns, cells))
        lines.append(f"| {label} | {cell[YARDSTICK]} | {cell.get('nst') or cell['native']} |")
    return re.sub(r"\d\.\d+e\+03", lambda number: f"{float(number[0]):.0f}", "\n".join(lines))


def put_into(path: Path, marks: tuple[str, str], text: str) -> None:
    before, rest = path.read_text(encoding="utf-8").split(marks[0])
    after = rest.split(marks[1])[1]
    path.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


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
    everything = markdown(tables, facts, machine)
    (results / f"{name}.md").write_text(everything, encoding="utf-8")
    if name == "cpu":
        put_into(RESULTS, IN_RESULTS, main_tables(tables, facts, machine))
        put_into(README, IN_README, short_table(everything))
    for title, rows in facts.items():
        print("\n".join([f"{title}:", *_fact_lines(rows)]))
    for title, table in tables.items():
        print(f"{title}: {_summary(table)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
