"""StyleConfig: presets, checks, and the ways in and out of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import fastconv.registry
from nst.config.options import (
    CHOICES,
    OPTION_NAMES,
    RANGES,
    SECTIONS,
    StyleConfig,
    choices_of,
    parse_memory,
)
from nst.config.presets import PRESETS
from nst.config.toml import read_toml, write_toml
from nst.errors import ConfigError
from nst.losses.table import CONTENT_LOSSES, STYLE_LOSSES
from nst.networks.table import NETWORKS
from nst.optimizers.table import OPTIMIZERS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_its_row_says(preset: str) -> None:
    config = StyleConfig.of(preset)
    assert config.preset == preset
    for name, value in PRESETS[preset].items():
        assert getattr(config, name) == value


def test_the_constructor_gives_the_quality_preset() -> None:
    assert StyleConfig() == StyleConfig.of("quality")


def test_options_win_over_the_preset() -> None:
    assert StyleConfig.of("gatys", pooling="max").pooling == "max"


def test_layers_may_be_given_by_commas_or_one_by_one() -> None:
    by_commas = StyleConfig(style_layers="relu1_1, relu2_1")  # type: ignore[arg-type]
    assert by_commas.style_layers == ("relu1_1", "relu2_1")
    assert StyleConfig(style_layers=("relu1_1", "relu2_1")) == by_commas


def test_the_choices_are_those_of_the_tables() -> None:
    assert CHOICES["backend"] == fastconv.registry.CHOICES
    assert choices_of("network") == ("auto", *NETWORKS)
    assert choices_of("optimizer") == tuple(OPTIMIZERS)
    assert choices_of("style_loss") == tuple(STYLE_LOSSES)
    assert choices_of("content_loss") == tuple(CONTENT_LOSSES)
    assert set(CHOICES["preset"]) == set(PRESETS)


def test_every_option_stands_in_one_section_but_the_preset() -> None:
    in_sections = [name for kind in SECTIONS.values() for name in kind.__dataclass_fields__]
    assert sorted([*in_sections, "preset"]) == sorted(OPTION_NAMES)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_out_of_its_range_is_refused_by_name(name: str) -> None:
    low, high = RANGES[name]
    for value in (low - 1, math.nan, math.inf):
        wrong: Any = (value,) if name in ("iterations", "style_weights") else value
        with pytest.raises(ConfigError, match=name):
            StyleConfig(**{name: wrong})
    if high != math.inf:
        with pytest.raises(ConfigError, match=name):
            StyleConfig(**{name: high * 2})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"poling": "max"}, "did you mean 'pooling'"),
        ({"pooling": "maxx"}, "did you mean 'max'"),
        ({"style_weight": "much"}, "expects a number"),
        ({"style_weights": (0.0, 0.0)}, "at least one weight above 0"),
        ({"content_weight": 0, "style_weight": 0}, "nothing to do"),
        ({"iterations": ()}, "one number, or one per scale"),
        ({"iterations": 2.5}, "whole numbers"),
        ({"history": 2.5}, "history expects whole numbers"),
        ({"save_every": 2.5}, "save_every expects whole numbers"),
        ({"normalize": "yes"}, "normalize expects true or false"),
        ({"style_layers": 5}, "style_layers expects layer names"),
        ({"style_layers": "relu1_1,relu2_1,relu1_1"}, "each layer once, got relu1_1 again"),
        ({"output": 5}, "output expects a path"),
        ({"style_weight": math.inf}, "style_weight expects a finite number"),
        ({"max_memory": "lots"}, "900M or 4G"),
        ({"max_memory": "0G"}, "900M or 4G"),
    ],
)
def test_a_mistake_is_told_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        StyleConfig.of("quality", **options)
    assert "\n" not in str(caught.value)


def test_a_large_seed_keeps_all_its_digits() -> None:
    assert StyleConfig(seed=2**63 - 1).seed == 2**63 - 1


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gatys'"):
        StyleConfig.of("gaty")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_settings_survive_a_toml_file(tmp_path: Path, preset: str) -> None:
    config = StyleConfig.of(preset, size="40x30", output=Path("a.png"), style_weights=(1, 2.5))
    path = tmp_path / "settings.toml"
    path.write_text(write_toml(config))
    options = read_toml(path)
    assert StyleConfig.of(options.pop("preset"), **options) == config


def test_plain_settings_make_the_same_config_again() -> None:
    config = StyleConfig.of("seed", csv=Path("a.csv"), learning_rate=0.5)
    plain = config.plain()
    assert StyleConfig.of(plain.pop("preset"), **plain) == config


def test_a_toml_file_may_have_tables_and_dashes(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('size = 99\n[losses]\nstyle-weight = 3\n[network]\npooling = "avg"\n')
    assert read_toml(path) == {"size": 99, "style_weight": 3, "pooling": "avg"}


@pytest.mark.parametrize("text", ["size = = 3", "colour = 1"])
def test_a_wrong_toml_file_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_toml(path)


def test_a_missing_toml_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "size"), [("", None), ("2048", 2048), ("3k", 3072), ("1.5MB", 1572864), ("4G", 2**32)]
)
def test_memory_sizes_are_understood(text: str, size: int | None) -> None:
    assert parse_memory(text) == size
