"""The settings of a run as a TOML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import LARGEST_TEXT, read_file
from .options import StyleConfig, check_names


def read_toml(path: Path | str) -> dict[str, Any]:
    """The options in a TOML file; tables may be used to group them, and mean nothing."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = read_file(Path(path), ConfigError, "config file", LARGEST_TEXT)
        content = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    options: dict[str, Any] = {}
    for name, value in content.items():
        options.update(value if isinstance(value, dict) else {name: value})
    options = {name.replace("-", "_"): value for name, value in options.items()}
    check_names(options)
    return options


def write_toml(config: StyleConfig) -> str:
    """The settings as a TOML file that `read_toml` takes back; what is not set is left out."""
    import tomli_w

    return tomli_w.dumps({k: v for k, v in config.plain().items() if v is not None})
