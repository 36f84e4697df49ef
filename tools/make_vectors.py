"""Write the test vectors of the protocol into `tests/vectors` (or a directory that is named): `make vectors`.

Inputs come from SHAKE-256 of the vector's name, so the files are the same on every machine; a test compares them.

`direct_*.json` is a run of all parties; `truncated_*.json` one with answers of 16 bits, and an audit; `relay_*.json` one of relay
mode, with all its messages. Integers are exact; `v` and `u` of a check are 64-bit, as decimal text; the content of a tensor is
hexadecimal, or its SHA-256 if it is long.

`bad_*.json` must be refused. `step` says by whom: `mask` (the client draws masks from `seeds`), `request` (a server
reads it), `open` (the client opens `answers`), `audit` (it compares a truncated answer with a whole one), `relay` (whoever gets
the message `kind` of relay mode), `share` (the evaluator, or in a dispute the client: did this dealer sign it, for this input?) or
`open_relayed` (the client opens a relayed `answer`); `error` and `message` are the class and a part of the text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vectors.bad import bad_audits, bad_masks, bad_requests
from vectors.bad_answers import bad_answers
from vectors.bad_relay import bad_relay_messages, bad_relayed_answers, bad_shares
from vectors.direct import direct_vectors, truncated_vectors
from vectors.relayed import relay_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.described import Vector

COMMITTED = Path(__file__).parents[1] / "tests" / "vectors"


def main() -> None:
    """Write every vector into the directory that the command line names, or where they are committed."""
    directory = Path(sys.argv[1]) if sys.argv[1:] else COMMITTED
    for name, vector in [*direct_vectors(), *truncated_vectors(), *relay_vectors(), *bad_vectors()]:
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in vector.items()]
        (directory / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def bad_vectors() -> Iterator[tuple[str, Vector]]:
    """What must be refused."""
    yield from bad_masks()
    yield from bad_requests()
    yield from bad_answers()
    yield from bad_audits()
    yield from bad_relay_messages()
    yield from bad_shares()
    yield from bad_relayed_answers()


if __name__ == "__main__":
    main()
