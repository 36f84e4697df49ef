"""What an attack says in the end, and how large it is played."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

FAILS, SUCCEEDS, PROVES_NOTHING = "fails", "succeeds", "proves nothing"
T = TypeVar("T")


class Size(Enum):
    """`SMALL` takes seconds for all attacks together, `FULL` minutes."""

    SMALL = "small"
    FULL = "full"

    def pick(self, small: T, full: T) -> T:
        """The value for this size."""
        return small if self is Size.SMALL else full


@dataclass(frozen=True)
class Verdict:
    """How an attack went.

    Attributes:
        succeeded: against ppidm.
        number: what was measured.
        weak_succeeded: against the weak build in the attack's own file; None where there is none, because the attack is
            expected to succeed against ppidm itself.
    """

    succeeded: bool
    number: str
    weak_succeeded: bool | None = None

    @property
    def outcome(self) -> str:
        """An attack that fails everywhere proves nothing: perhaps it is only badly made."""
        if self.succeeded:
            return SUCCEEDS
        return FAILS if self.weak_succeeded else PROVES_NOTHING
