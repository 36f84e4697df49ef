"""Everything that is drawn, in the cache: what the measurements start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.evaluate.drawing import LAYOUT, Drawing, draw_plainly, private_painter
from tools.evaluate.relaying import relay_painter
from tools.evaluate.settings import code_digest
from tools.evaluate.task import View
from tools.evaluate.views import RELAY_SIZES, RELAY_VIEWS, SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tools.evaluate.cache import Cache
    from tools.evaluate.drawing import PrivatePainter
    from tools.evaluate.references import Reference
    from tools.evaluate.settings import Settings

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]

TOLD_APART = ("red apple, 3d style", "automobile, 3d style")  # what the distinguishers have to tell apart
_OTHER_SEEDS, _TRANSCRIPT_SEEDS, _FIRST_SEED = 100_000, 200_000, 300_000
_FIRST = "first"
RELAYED = f"relay-{code_digest('relay_transcripts', 'relaying')}"  # beside what is drawn in direct mode


@dataclass(frozen=True)
class Collection:
    """Pictures and views, read from the cache as they are needed.

    Attributes:
        references: prompts, and the data's pictures.
    """

    cache: Cache
    settings: Settings
    references: Sequence[Reference]

    @property
    def prompts(self) -> list[str]:
        """One per picture."""
        return [reference.prompt for reference in self.references]

    @property
    def pictures(self) -> list[str]:
        """Names in the cache of the private pictures."""
        return [f"pictures/{index:04}" for index in range(len(self.references))]

    @property
    def transcripts(self) -> list[str]:
        """Names of the transcripts of two prompts in turn."""
        return [f"transcripts/{index:04}" for index in range(self.settings.transcripts)]

    def relayed(self, names: list[str]) -> list[str]:
        """Those of the pictures, or of the transcripts, that are drawn in relay mode as well."""
        most = self.settings.relayed if names == self.pictures else self.settings.relayed_transcripts
        return names[:most]

    def drawings(self, first_seed: int = 0) -> list[Drawing]:
        """Of every prompt."""
        return [Drawing(prompt, first_seed + index) for index, prompt in enumerate(self.prompts)]

    def draw(self, folder: Path, progress: Progress) -> None:
        """Draw what is missing.

        Args:
            folder: for the exported package.
            progress: (stage, done, of).
        """
        told_apart = [Drawing(TOLD_APART[i % 2], _TRANSCRIPT_SEEDS + i) for i in range(self.settings.transcripts)]
        wanted = dict(zip(self.pictures + self.transcripts, self.drawings() + told_apart, strict=True))
        if missing := {name: drawing for name, drawing in wanted.items() if not self.cache.has(name)}:
            self._draw_privately(folder, missing, len(wanted), progress)
        relayed = self.relayed(self.pictures) + self.relayed(self.transcripts)
        if missing := {name: wanted[name] for name in relayed if not self.cache.has(f"{RELAYED}/{name}")}:
            self._draw_relayed(folder, missing, len(relayed), progress)
        for name, seed in (("plain", 0), ("plain_again", _OTHER_SEEDS)):
            self.cache.get(name, lambda name=name, seed=seed: self._draw_plainly(name, seed, progress))  # type: ignore[misc]

    def _draw_privately(self, folder: Path, missing: dict[str, Drawing], total: int, progress: Progress) -> None:
        with private_painter(folder, self.settings, progress) as painter:
            first = self._first(painter)
            for done, (name, drawing) in enumerate(missing.items(), total - len(missing)):
                progress("private pictures and transcripts", done, total)
                self.cache.store(name, painter.draw(drawing, first))

    def _draw_relayed(self, folder: Path, missing: dict[str, Drawing], total: int, progress: Progress) -> None:
        with relay_painter(folder, self.settings, progress) as painter:
            first = self._first(painter, f"{RELAYED}/")
            for done, (name, drawing) in enumerate(missing.items(), total - len(missing)):
                progress("the same in relay mode", done, total)
                self.cache.store(f"{RELAYED}/{name}", painter.draw(drawing, first))

    def _first(self, painter: PrivatePainter, place: str = "") -> dict[str, NDArray[np.uint32]]:
        """See `ViewMaker`; drawn once."""
        if not self.cache.has(f"{place}{_FIRST}"):
            first: dict[str, NDArray[np.uint32]] = {}
            painter.draw(Drawing(self.prompts[-1], _FIRST_SEED), first)
            for layout, widths in painter.widths(first).items():
                self.cache.store(f"{place}{layout}", {name: np.array(width) for name, width in widths.items()})
            self.cache.store(f"{place}{_FIRST}", first)
        return self.cache.load(f"{place}{_FIRST}")

    def _draw_plainly(self, name: str, seed: int, progress: Progress) -> dict[str, Floats]:
        stage = f"{name.replace('_', ' ')}: pictures by diffusers"
        return {"pictures": draw_plainly(self.drawings(seed), self.settings, stage, progress)}

    def private(self) -> Floats:
        """The private pictures, (n, height, width, 3)."""
        return self.cache.stack(self.pictures, "picture")

    def plain(self, *, again: bool = False) -> Floats:
        """The same from the same latents by diffusers; or `again`, from others."""
        return self.cache.load("plain_again" if again else "plain")["pictures"]

    def view(self, names: list[str], view: str) -> View:
        """What a view of `names` holds."""
        if view in (*RELAY_VIEWS, RELAY_SIZES):
            names = [f"{RELAYED}/{name}" for name in self.relayed(names)]
        sizes = self.cache.stack(names, "sizes")
        if view in (SIZES, RELAY_SIZES):
            return View(np.zeros((len(names), 1, 16, 16), np.float32), np.zeros((len(names), 1), np.float32), sizes)
        return View(self.cache.stack(names, f"{view}.maps"), self.cache.stack(names, f"{view}.pooled"), sizes)

    def layers(self, view: str, pooled: Floats) -> dict[str, Floats]:
        """`pooled` (n, values) of a view, by slice."""
        widths = self.cache.load(f"{RELAYED}/{view}" if view in RELAY_VIEWS else LAYOUT)
        return dict(zip(widths, np.split(pooled, np.cumsum(list(widths.values()))[:-1], axis=1), strict=True))
