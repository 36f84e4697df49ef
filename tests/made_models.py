"""Pipelines of `tools/make_model.py` at a reduced size."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1] / "tools"
NAMES = ("sd15", "sd21", "sd-turbo", "lcm", "sdxl")


def tool(name):
    """A module of `tools`."""
    if str(TOOLS) not in sys.path:
        sys.path.append(str(TOOLS))
    return import_module(name)


def make(name, out, **options):
    """Write a small pipeline."""
    tool("make_model").make_model(name, out, small=True, **options)
    return out
