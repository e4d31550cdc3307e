"""A row of a table is all that a new choice needs: one of each kind is added, and seen everywhere.

In a process of its own, since the help page takes its choices when the options are first imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nst.config.options import TABLES
from nst.errors import ConfigError
from nst.tables import Row, check_word, found, load, made, metavar, word_of

TESTS = Path(__file__).parents[1]

# Adds a row of each kind, then does what the first argument says with the others.
ADDED = f"""
import sys
from dataclasses import replace
from importlib import import_module

sys.path[:0] = [{str(TESTS / "nst")!r}, {str(TESTS / "fastconv")!r}, {str(TESTS)!r}]
backends = import_module("fastconv.backends.table")
backends.ROWS += (replace(backends.TABLE["torch"], name="added-backend"),)
backends.TABLE["added-backend"] = backends.ROWS[-1]
backends.CHOICES += ("added-backend",)

from nst.losses.table import CONTENT_LOSSES, STYLE_LOSSES
from nst.networks.table import NETWORKS, Kind
from nst.optimizers.table import OPTIMIZERS
from nst.tables import Row

STYLE_LOSSES["added-style"] = Row("as gram", "nst.losses.style:Gram")
CONTENT_LOSSES["added-content"] = Row("as mse", "nst.losses.content:MeanSquare")
OPTIMIZERS["added-optimizer"] = Row("as adam", "nst.optimizers.adam:Adam")


def stack(pooling):
    from torch import nn

    return [("conv1", nn.Conv2d(3, 4, 3, padding=1)), ("relu1", nn.ReLU())]


NETWORKS["added-network"] = Kind(
    "added-network", "one layer", stack, ("relu1",), ("relu1",), (1.0,), trained=True
)

import nst.outputs.writers as writers

writers.WRITERS[".added"] = writers.WRITERS[".png"]
"""

RUN = """
from small_run import CONTENT, SMALL, STYLE

import nst

config = nst.StyleConfig.of("quality", style_loss="added-style", content_loss="added-content",
                            optimizer="added-optimizer", network="added-network",
                            backend="added-backend")
small = {name: SMALL[name] for name in ("size", "scales", "iterations")}
result = nst.stylize(CONTENT, STYLE, config=config, output=sys.argv[1], **small)
print(result.network, "|", result.computed, "|", sorted(result.losses[-1]))
plain = result.settings["config"]
print(plain["style_loss"], plain["content_loss"], plain["optimizer"], plain["network"])
for option in ("style_loss", "content_loss", "optimizer", "network", "backend"):
    try:
        nst.StyleConfig(**{option: f"addde-{option.split('_')[0]}"})
    except nst.errors.ConfigError as error:
        print(error)
"""

HELP = """
import os
os.environ["COLUMNS"] = "200"
from nst.cli.main import main

for command in sys.argv[1:]:
    print("page of", command)
    main([command, "--help"])
"""

BACKEND = """
import torch, fastconv
from fastconv.cli import main

x, w = torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3)
y = fastconv.conv2d(x, w, backend="added-backend")
print(torch.equal(y, torch.nn.functional.conv2d(x, w)))
print(fastconv.backends()["added-backend"].available, list(fastconv.backends())[-1])
main(["check", "--backend", "added-backend", "--cases", "5"])
"""

COLLECT = """
import pytest

sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def with_rows(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ADDED + script, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS.parent,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_rows_are_in_the_help() -> None:
    printed = " ".join(with_rows(HELP, "stylize", "features", "reconstruct").split())
    _, stylize, features, reconstruct = printed.split("page of")
    assert "--style-loss wasserstein|covariance|gram|gatys|added-style|MODULE:NAME" in stylize
    assert "--content-loss mse|gatys|added-content|MODULE:NAME" in stylize
    assert "|added-optimizer|MODULE:NAME" in stylize
    for page in (stylize, features, reconstruct):
        assert "--backend auto|native|torch|numba|naive|added-backend" in page
        assert "|added-network|MODULE:NAME" in page
    assert "|added-style|MODULE:NAME" in reconstruct


def test_a_run_takes_rows_and_its_result_names_them(tmp_path: Path) -> None:
    ran, plain, *mistyped = with_rows(RUN, str(tmp_path / "out.added")).splitlines()
    assert ran.startswith("added-network: one layer | added-backend on cpu, float32 | ")
    assert "'content/relu1'" in ran
    assert "'style/relu1'" in ran
    assert plain == "added-style added-content added-optimizer added-network"
    assert (tmp_path / "out.added").exists()
    assert len(mistyped) == 5
    assert all("did you mean 'added-" in line for line in mistyped)


def test_a_backend_s_row_is_in_the_commands_and_computes() -> None:
    printed = with_rows(BACKEND)
    assert printed.startswith("True\nTrue added-backend\nadded-backend")
    assert "all within tolerance" in printed


def test_parametrised_tests_take_their_rows_from_the_tables() -> None:
    """What is added is tested without a line: the tests are collected with the rows in place."""
    nst = ("losses", "optimize", "networks", "outputs", "pipeline", "resuming")
    files = [str(TESTS / "nst" / f"test_{name}.py") for name in nst]
    tests = with_rows(COLLECT, *files, str(TESTS / "fastconv" / "test_conv2d.py"))
    for row, file in (
        ("added-style", "test_losses"),
        ("added-content", "test_losses"),
        ("added-optimizer", "test_optimize"),
        ("added-optimizer", "test_pipeline"),
        ("added-optimizer", "test_resuming"),
        ("added-network", "test_networks"),
        (".added", "test_outputs"),
        ("added-backend", "test_conv2d"),
    ):
        ids = [line for line in tests.splitlines() if f"{file}.py" in line]
        assert any(row in line.partition("[")[2] for line in ids), f"{row} in {file}"


TABLE = {"one": Row("the first", "nst.errors:ConfigError"), "two": Row("the second", "json:dumps")}


def test_a_choice_is_a_row_a_module_s_name_or_an_object() -> None:
    import json

    assert found("option", "two", TABLE) is json.dumps
    assert found("option", "json:loads", TABLE) is json.loads
    assert found("option", json, TABLE) is json
    assert isinstance(made("option", "one", TABLE), ConfigError)
    assert made("option", "two", TABLE) is json.dumps  # a function is not called


def test_the_help_shows_the_rows_and_what_else_may_stand_there() -> None:
    assert metavar(TABLE) == "one|two|MODULE:NAME"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("oen", "has no choice 'oen': did you mean 'one'"),
        ("json:nothing", "module 'json' has no 'nothing'"),
        ("no_such_module:x", "'no_such_module' cannot be imported"),
        ("own:Mine", "was an object given in Python .*: give it again"),
    ],
)
def test_a_wrong_choice_is_a_config_error(value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"option .*{words}"):
        found("option", value, TABLE)


@pytest.mark.parametrize("option", TABLES)
def test_every_row_of_every_table_can_be_loaded(option: str) -> None:
    for row in load(option, TABLES[option][0]).values():
        if isinstance(row, Row):
            assert callable(load(option, row.where))
            assert row.about


def test_settings_name_an_object_by_its_name_or_its_class() -> None:
    class Mine:
        pass

    assert word_of("gram") == "gram"
    assert word_of(Mine()) == word_of(Mine) == "own:Mine"
    assert word_of(len) == "own:len"
    check_word("option", Mine(), TABLE)  # any object passes here
