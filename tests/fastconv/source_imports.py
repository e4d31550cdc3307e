"""Which module imports which, from the sources: for the tests of layers and docs/house.py.

Files are parsed, not run, so that imports inside functions count as well.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("fastconv", "nst")

# The version stands in a package's root; the others are compiled, and import nothing of ours.
NOT_MODULES_OF_OURS = ("__version__", "_C", "_cuda")


def source_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        folder = source_folder(package)
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(name: str) -> set[str]:
    """The modules of both packages that `name` imports, except for the checking of types."""
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return {target for node in nodes(path) for target in targets(node, package)} - {name}


def targets(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (known(alias.name) for alias in node.names if ours(alias.name))
    if isinstance(node, ast.ImportFrom):
        base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        for alias in node.names:
            if ours(base) and alias.name not in NOT_MODULES_OF_OURS:
                yield known(f"{base}.{alias.name}")


def ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def known(name: str) -> str:
    """The module that `name`, itself a module or something in one, comes from."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax tree, without the blocks under `if TYPE_CHECKING:`."""
    return tuple(_walk(ast.parse(path.read_text(encoding="utf-8"))))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = iter(node.orelse)
    for child in children:
        yield from _walk(child)


def unit(name: str) -> str:
    """What a module counts as in the rows: its folder, or itself where it lies in the root."""
    return ".".join(name.split(".")[:2])
