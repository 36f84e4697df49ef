"""The targets of `tools/fuzz`, as modules."""

import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parents[2] / "tools" / "fuzz"
sys.path.append(str(FUZZ))
