"""Another build of the native backend under test, say with sanitizers: FASTCONV_TEST_EXTENSION.

Importing this module puts the named file in the place of the installed `fastconv._C`.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import torch  # noqa: F401  (the extension is linked against its libraries)

ENVIRONMENT_VARIABLE = "FASTCONV_TEST_EXTENSION"


def load(path: str) -> None:
    spec = importlib.util.spec_from_file_location("fastconv._C", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["fastconv._C"] = module


if path := os.environ.get(ENVIRONMENT_VARIABLE):
    load(path)
