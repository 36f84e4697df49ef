"""The report of a picture: what was offloaded, what crossed the wire, where the time went. No prompt, no content."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ppidm.protocol.precision import Precision  # noqa: TC001  (pydantic reads it at run time)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class OffloadReport(_Part):
    """Shares of the FLOPs: 2 x MAC of Conv, MatMul, Gemm and attention products; hoisted work counted once."""

    fraction: float  # of text encoder, U-Net and VAE decoder together
    unet_fraction: float


class TrafficReport(_Part):
    """Bytes of serialised messages with one server; framing excluded."""

    sent: int
    received: int


class TrafficReports(_Part):
    """Bytes by server.

    Attributes:
        relay: from dealers to the evaluator, as declared (`protocol.cost`).
        float16_split: what an unprotected split of the same layers would have moved, in float16.
    """

    evaluator: TrafficReport
    dealers: tuple[TrafficReport, ...]
    relay: int
    float16_split: int


class SecondsReport(_Part):
    """Wall-clock seconds; the last four are summed over threads, and overlap."""

    total: float
    text_encoder: float
    vae_encoder: float
    unet: float
    vae_decoder: float
    client_segments: float
    mask: float
    open: float
    wait: float


class Report(_Part):
    """What one call cost.

    Attributes:
        rounds: dependent exchanges.
        evaluations: of the U-Net, in samples: guidance counts two per step and picture.
        verified: whether every answer was checked.
        precision: of the package.
        audits: requests with truncated answers that were made again, for whole ones; not among the rounds.
    """

    model: str
    package: str
    scheduler: str
    steps: int
    height: int
    width: int
    pictures: int
    verified: bool
    precision: Precision
    audits: int
    offload: OffloadReport
    traffic: TrafficReports
    rounds: int
    evaluations: int
    seconds: SecondsReport


class GraphReport(_Part):
    """What one call of a graph that is no pipeline cost."""

    model: str
    package: str
    verified: bool
    precision: Precision
    audits: int
    offload_fraction: float
    traffic: TrafficReports
    rounds: int
    seconds: dict[str, float]
