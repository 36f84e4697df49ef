"""The scripts of `tools/attacks`, as modules."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ATTACKS = Path(__file__).resolve().parents[2] / "tools" / "attacks"
sys.path.append(str(ATTACKS))


@pytest.fixture(scope="session")
def shipped(package):
    """The shipped model, exported once for all tests."""
    module = import_module("whole_model")
    module.use(package)
    return module
