"""Private pictures in relay mode, with truncated answers and audits; views of all that a party holds together."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from tools.evaluate.drawing import TIMEOUT, PrivatePainter, first_slice
from tools.evaluate.relay_transcripts import PRECISION, RelayRecorder
from tools.evaluate.settings import MODEL
from tools.evaluate.views import RELAY, RELAY_DIFFERENCES, RELAY_SHARE
from tools.local_servers import local_servers

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.client.exchange import Mode
from ppidm.client.package import load_package
from ppidm.client.servers import connect
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.protocol.audit import DEFAULT_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tools.evaluate.relay_transcripts import RelayExchange
    from tools.evaluate.settings import Settings
    from tools.evaluate.views import Layout

    from ppidm.protocol.ring import Elements, Ring

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]


def _held(exchange: RelayExchange) -> dict[str, list[Elements]]:
    return {
        RELAY: [exchange.masked, *exchange.dealt, *exchange.answered],
        RELAY_SHARE: [exchange.share, *exchange.dealt],
    }


class RelayViewMaker:
    """Makes the views of relay mode, of all that a party holds of a request together.

    Args:
        ring: of the slices.
        first: of an earlier picture, by slice: what the evaluator held of a request. Attackers subtract it from later ones.
            Empty for that picture itself, which fills it.
    """

    def __init__(self, ring: Ring, first: dict[str, NDArray[np.uint32]]) -> None:
        self._ring, self._first = ring, first

    def views(self, name: str, exchange: RelayExchange) -> dict[str, list[Floats]]:
        """In half rings, as in direct mode: a list of arrays, the first of them of the activation's shape."""
        held = _held(exchange)
        flat = np.concatenate([part.ravel() for part in held[RELAY]])
        first = self._first.setdefault(name, flat)
        ends = np.cumsum([part.size for part in held[RELAY]])[:-1]
        differences = np.split((flat - first) & self._ring.mask, ends)
        held[RELAY_DIFFERENCES] = [d.reshape(p.shape) for d, p in zip(differences, held[RELAY], strict=True)]
        half = 2.0 ** (self._ring.bits - 1)
        return {
            view: [(self._ring.signed(part) / half).astype(np.float32) for part in parts]
            for view, parts in held.items()
        }

    def features(self, recorder: RelayRecorder, layout: Layout) -> dict[str, Floats]:
        """As those of `ViewMaker`; of an answer's map as many channels as the activation has: there are many."""
        maps: defaultdict[str, list[Floats]] = defaultdict(list)
        pooled: defaultdict[str, list[Floats]] = defaultdict(list)
        for index in range(recorder.counts()[layout.maps]):
            for view, parts in self.views(layout.maps, recorder.take(layout.maps, index)).items():
                channels = parts[0].shape[-1]
                maps[view] += [part[0, ..., :channels].transpose(2, 0, 1) for part in parts]
        for name, groups in layout.requests.items():
            for group in groups:
                for view, values in self._pooled(name, [recorder.take(name, index) for index in group]).items():
                    pooled[view].append(values)
        stacked = {f"{view}.maps": np.concatenate(parts) for view, parts in maps.items()}
        return stacked | {f"{view}.pooled": np.concatenate(parts) for view, parts in pooled.items()}

    def _pooled(self, name: str, exchanges: Sequence[RelayExchange]) -> dict[str, Floats]:
        each = [self.views(name, exchange) for exchange in exchanges]
        return {
            view: np.mean([_channel_means(seen[view]) for seen in each], axis=0, dtype=np.float32) for view in each[0]
        }


def _channel_means(parts: Sequence[Floats]) -> Floats:
    means = [part.reshape(-1, part.shape[-1]).mean(axis=0, dtype=np.float64) for part in parts]
    return np.concatenate(means).astype(np.float32)


class RelayPainter(PrivatePainter):
    """Draws in relay mode."""

    _recorder: RelayRecorder

    def features(self, _seed: int, first: dict[str, NDArray[np.uint32]]) -> dict[str, Floats]:
        """Of every view of the last picture."""
        return RelayViewMaker(PRECISION.ring, first).features(self._recorder, self.layout)

    def widths(self, first: dict[str, NDArray[np.uint32]]) -> dict[str, dict[str, int]]:
        """See `PrivatePainter.widths`; a view of relay mode has a layout of its own."""
        found: dict[str, dict[str, int]] = {}
        maker = RelayViewMaker(PRECISION.ring, first)
        for name, groups in self.layout.requests.items():
            for view, parts in maker.views(name, self._recorder.take(name, 0)).items():
                found.setdefault(view, {})[name] = len(groups) * sum(part.shape[-1] for part in parts)
        return found


@contextmanager
def relay_painter(folder: Path, settings: Settings, progress: Progress) -> Iterator[RelayPainter]:
    """Export the shipped model with truncated answers into `folder`, start an evaluator and a dealer, connect."""
    place = folder / "package-relay"
    export_package(ExportSettings(str(MODEL), place, precision=PRECISION, force=True), progress)
    package, engine = load_package(place / "client"), CpuEngine(PRECISION.ring, threads=1)
    runners = {name: engine.load(place / "server-1", subgraph) for name, subgraph in package.slices.items()}
    recorder = RelayRecorder(lambda name, digits: list(runners[name].run(digits)))
    with local_servers(place) as (evaluator, dealer):
        servers = recorder.around(connect(evaluator, [dealer], package.manifest.package, TIMEOUT))
        with PrivateStableDiffusionPipeline(package, servers, audit=DEFAULT_SHARE, mode=Mode.RELAY) as pipe:
            yield RelayPainter(pipe, recorder, first_slice(package), settings)
