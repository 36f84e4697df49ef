"""`make audits`: how often m altered answers escape audits of a share q, measured against (1 - q)^m.

A run is a session of ppidm's client with a server that alters m truncated answers; it escapes if nobody is accused. Writes
docs/measurements/audits.json, and fails if a count is more than five standard deviations away from the formula.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import track

from ppidm.protocol.audit import DEFAULT_SHARE, escape_probability
from ppidm.protocol.errors import CheckError
from ppidm.protocol.precision import Precision

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools" / "attacks"))

from parties import Party, Slice, client_of, draw_activation  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.messages import Tensor

RESULT = ROOT / "docs" / "measurements" / "audits.json"
SHAPE = (1, 1, 1, 2)
DEVIATIONS = 5.0  # a Gaussian leaves them with probability 6e-7


@dataclass(frozen=True)
class Line:
    """Of one number of altered answers."""

    altered: int
    share: float
    runs: int
    escaped: int
    formula: float

    @property
    def deviations(self) -> float:
        """Between measurement and formula, in standard deviations."""
        spread = (self.runs * self.formula * (1 - self.formula)) ** 0.5
        return abs(self.escaped - self.runs * self.formula) / max(spread, 1e-9)


def alter(_name: str, _request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
    """The lowest bit of the first value, whatever is asked: an audit finds the two answers inconsistent, or wrong."""
    return [type(t)(t.name, t.datatype, t.shape, bytes([t.content[0] ^ 1]) + t.content[1:]) for t in answer]


def measure(altered: int, share: float, runs: int) -> Line:
    """Play `runs` sessions."""
    rng = np.random.default_rng(altered)
    held = Slice.draw(rng, channels=(2, 2))
    x, slices = draw_activation(rng, SHAPE), {held.name: held}
    escaped = sum(escapes(held, slices, x, altered, share) for _ in range(runs))
    return Line(altered, share, runs, escaped, escape_probability(share, altered))


def escapes(held: Slice, slices: dict[str, Slice], x: np.ndarray, altered: int, share: float) -> bool:
    """Whether a session of `altered` altered answers ends without an accusation."""
    servers = [Party("evaluator", slices, alter), Party("dealer", slices)]
    client = client_of([held], servers, SHAPE, Precision.BALANCED, share)
    try:
        for _ in range(altered):
            client(held.name, x)
    except CheckError as error:
        if error.liars != ("evaluator",):
            raise
        return False
    return True


def main(
    runs: Annotated[int, typer.Option(min=1, help="Sessions for each number of altered answers.")] = 10_000,
    share: Annotated[float, typer.Option(help="Of the answers that are audited.")] = DEFAULT_SHARE,
    output: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
) -> None:
    """Measure, print, write."""
    lines = [measure(altered, share, runs) for altered in track((1, 5, 20), "altered answers")]
    for line in lines:
        print(
            f"{line.altered} altered: {line.escaped} of {line.runs} escape; (1 - q)^m gives {line.runs * line.formula:.0f}"
        )
    output.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n")
    if worst := [line for line in lines if line.deviations > DEVIATIONS]:
        raise SystemExit(f"{worst[0]} is {worst[0].deviations:.1f} standard deviations away from the formula")


if __name__ == "__main__":
    typer.run(main)
