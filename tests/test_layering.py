"""Imports run one way, fastconv knows nothing of nst, and only a cli prints or exits.

The sources are parsed, not run, so that imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from source_imports import PACKAGES, imports_of, modules, nodes, unit

# Top to bottom, a row for each floor.  A module imports from rows below its own, or from its own
# folder: so folders know each other one way.
ROWS = {
    "fastconv": (
        ("fastconv.__main__",),
        ("fastconv.cli",),
        ("fastconv",),
        ("fastconv.tools", "fastconv.mechanics"),
        ("fastconv.distance", "fastconv.lessons", "fastconv.packed"),
        ("fastconv.frozen",),
        ("fastconv.modules",),
        ("fastconv.functional",),
        ("fastconv.operators",),
        ("fastconv.derivatives", "fastconv.vmap_rules"),
        ("fastconv.plans",),
        ("fastconv.registry",),
        ("fastconv.backends",),  # found by name from the registry; base.py is imported
        ("fastconv.figures", "fastconv.memory"),
        ("fastconv.algorithms", "fastconv.precision"),
        ("fastconv.geometry", "fastconv.choices"),
        ("fastconv.errors",),
    ),
    "nst": (
        ("nst.__main__",),
        ("nst.cli",),
        ("nst.training", "nst.visualize"),
        ("nst.api",),
        ("nst.observers",),
        ("nst.run",),
        ("nst.optimizers",),
        ("nst.losses",),
        ("nst.networks",),
        ("nst.outputs", "nst.samples"),
        ("nst.pictures",),
        ("nst.config",),  # knows the tables of losses, networks and optimisers by name
        ("nst.tables",),
        ("nst.files",),
        ("nst.errors",),
        ("nst",),  # its names are loaded when they are used; what is imported is the version
    ),
}


def row(name: str) -> int:
    package = name.split(".")[0]
    for at, names in enumerate(ROWS[package]):
        if unit(name) in names:
            return at
    raise AssertionError(f"{name} is new: give it a place in ROWS")


def test_the_parser_sees_imports() -> None:
    assert "fastconv.geometry" in imports_of("fastconv.backends.naive")
    assert "fastconv.functional" in imports_of("fastconv.modules")
    assert "fastconv.registry" in imports_of("fastconv.cli")  # inside a function
    assert "fastconv" in imports_of("nst.networks.network")


@pytest.mark.parametrize("name", [name for name in modules() if name != "nst"])
def test_imports_lead_from_a_folder_to_those_below_it(name: str) -> None:
    for target in imports_of(name):
        if target.split(".")[0] != name.split(".")[0]:
            continue  # nst imports fastconv; that the reverse never holds is tested below
        below = row(target) > row(name) or unit(target) == unit(name)
        assert below, f"{name} imports {target}, which does not stand below it"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circular_imports(package: str) -> None:
    graph = {name: imports_of(name) for name in modules() if name.split(".")[0] == package}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_fastconv_does_not_know_nst() -> None:
    for name in modules():
        if name.split(".")[0] == "fastconv":
            assert not any(target.split(".")[0] == "nst" for target in imports_of(name)), name


def test_native_code_does_not_know_nst() -> None:
    folder = Path(__file__).parent.parent / "csrc"
    sources = [path for path in folder.rglob("*") if path.is_file()]
    assert sources
    for path in sources:
        assert not re.search(r"\bnst\b|l-?bfgs", path.read_text(encoding="utf-8"), re.I), path


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_the_command_line(package: str) -> None:
    cli = f"{package}.cli"
    for name in modules():
        if name != f"{package}.__main__" and unit(name) != cli:
            assert cli not in map(unit, imports_of(name)), name


SPEAKS = ("print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write")
MAY_SPEAK = ("cli", "__main__")


@pytest.mark.parametrize("name", modules())
def test_only_the_command_line_prints_or_exits(name: str) -> None:
    if unit(name).rpartition(".")[2] in MAY_SPEAK:
        return
    for node in nodes(modules()[name]):
        spoken = isinstance(node, ast.Call) and ast.unparse(node.func) in SPEAKS
        left = isinstance(node, ast.Raise) and "SystemExit" in ast.unparse(node)
        assert not spoken, f"{name}:{node.lineno}: {ast.unparse(node)}"
        assert not left, f"{name}:{node.lineno}: {ast.unparse(node)}"


def test_kernels_know_neither_torch_nor_the_rest() -> None:
    # numba compiles these; what they need is passed to them.
    tiles, kernels = "fastconv.backends.numba_tiles", "fastconv.backends.numba_kernels"
    assert imports_of(kernels) == {tiles}
    assert imports_of(tiles) == set()
