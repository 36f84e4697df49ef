"""The account of one call: FLOPs, rounds, seconds, bytes. Safe to use from several threads at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

from ppidm.client.report import GraphReport, OffloadReport, Report, SecondsReport, TrafficReport, TrafficReports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ppidm.client.arguments import Request
    from ppidm.client.package import ClientPackage
    from ppidm.client.servers import Servers
    from ppidm.engines.program import ProgramResult
    from ppidm.protocol.manifest import ClientManifest, GraphManifest

FLOAT16_BYTES = 2  # of a value in an unprotected split


class Account:
    """What a call has cost since it began.

    Args:
        servers: whose traffic to count.
    """

    def __init__(self, servers: Servers) -> None:
        self._lock, self._servers = Lock(), servers
        self._start = perf_counter()
        self._traffic = [server.traffic for server in servers.all]
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._flops: Counter[str] = Counter()
        self._rounds = self._evaluations = self._audits = self._relayed = self._float16_bytes = 0
        self._stage = "unet"

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds of a block to `what`."""
        start = perf_counter()
        yield
        with self._lock:
            self._seconds[what] += perf_counter() - start

    def begin_decoder(self) -> None:
        """What is offloaded from now on is the decoder's."""
        self._stage = "decoder"

    def add_offloaded(self, flops: int, values: int = 0) -> None:
        """FLOPs of a slice; a server's work, counted once whatever the number of servers. `values` went in and came out."""
        with self._lock:
            self._flops[self._stage] += flops
            self._float16_bytes += FLOAT16_BYTES * values

    def add_relayed(self, payload: int) -> None:
        """Bytes that dealers sent to the evaluator, as declared."""
        with self._lock:
            self._relayed += payload

    def add_audit(self) -> None:
        """A request that was made again, for whole answers."""
        with self._lock:
            self._audits += 1

    def add_client(self, flops: int) -> None:
        """FLOPs of text encoder, VAE encoder or VAE decoder."""
        with self._lock:
            self._flops["components"] += flops

    def add_decoder(self, result: ProgramResult) -> None:
        """The client's part of the VAE decoder."""
        self.add_client(result.flops)
        with self._lock:
            self._rounds += result.rounds
            self._seconds["client_segments"] += result.segment_seconds

    def add_side_by_side(self, results: list[ProgramResult], evaluations: int = 0) -> None:
        """Programs that ran at the same time: their rounds count once."""
        with self._lock:
            self._rounds += max(result.rounds for result in results)
            self._evaluations += evaluations
            self._flops["segments"] += sum(result.flops for result in results)
            self._seconds["client_segments"] += sum(result.segment_seconds for result in results)

    def report(self, package: ClientPackage[ClientManifest], request: Request, scheduler: str, steps: int) -> Report:
        """Close the account."""
        self._seconds["total"] = perf_counter() - self._start
        return Report(
            model=package.manifest.model,
            package=package.manifest.package,
            scheduler=scheduler,
            steps=steps,
            height=request.height,
            width=request.width,
            pictures=len(request.prompts) * request.pictures,
            verified=package.checks is not None and not package.precision.dropped_bits,
            precision=package.precision,
            audits=self._audits,
            offload=self._offload_report(),
            traffic=self._traffic_report(),
            rounds=self._rounds,
            evaluations=self._evaluations,
            seconds=SecondsReport(**{name: self._seconds[name] for name in SecondsReport.model_fields}),
        )

    def graph_report(self, package: ClientPackage[GraphManifest]) -> GraphReport:
        """Close the account of a graph that is no pipeline."""
        self._seconds["total"] = perf_counter() - self._start
        return GraphReport(
            model=package.manifest.model,
            package=package.manifest.package,
            verified=package.checks is not None and not package.precision.dropped_bits,
            precision=package.precision,
            audits=self._audits,
            offload_fraction=self._offload_report().fraction,
            traffic=self._traffic_report(),
            rounds=self._rounds,
            seconds={name: self._seconds[name] for name in ("total", "client_segments", "mask", "open", "wait")},
        )

    def _offload_report(self) -> OffloadReport:
        unet, decoder = self._flops["unet"], self._flops["decoder"]
        evaluations = unet + self._flops["segments"]
        everything = evaluations + decoder + self._flops["components"]
        return OffloadReport(fraction=(unet + decoder) / everything, unet_fraction=unet / evaluations)

    def _traffic_report(self) -> TrafficReports:
        evaluator, *dealers = (
            TrafficReport(sent=server.traffic.sent - before.sent, received=server.traffic.received - before.received)
            for server, before in zip(self._servers.all, self._traffic, strict=True)
        )
        return TrafficReports(
            evaluator=evaluator, dealers=tuple(dealers), relay=self._relayed, float16_split=self._float16_bytes
        )
