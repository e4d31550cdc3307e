"""`python -m nst` is the `nst` command."""

from __future__ import annotations

import sys

from .cli.main import command

sys.exit(command())
