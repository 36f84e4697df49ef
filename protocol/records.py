"""What manifests are made of: slices, steps, programs, pictures (PROTOCOL.md, section 10)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from ppidm.protocol.linear import Layer  # noqa: TC001  (pydantic reads it at run time)
from ppidm.protocol.messages import check_sizes
from ppidm.protocol.ring import DIGIT_BITS, Ring

if TYPE_CHECKING:
    from typing import Self

TF32_BITS = 11  # of a significand, the implicit one included: what tensor cores keep of a float32 operand
EXACT_FLOAT32 = 2.0**24  # integers up to here are exact in float32
_LONGEST_QUOTE = 200  # characters of a hostile file that an error message repeats


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or not path.isprintable():
        raise ValueError(f"{_quote(path)} is no path inside of a package directory")
    return path


def _quote(value: object) -> str:
    return ascii(value)[:_LONGEST_QUOTE]


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, AfterValidator(_inside)]
RingBits = Annotated[int, AfterValidator(lambda bits: Ring(bits).bits)]
SliceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class Record(BaseModel):
    """Base of everything in a manifest: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SelfTest(Record):
    """A public input (`engines.selftest`) of `shape`, and the SHA-256 of the exact answers to it."""

    shape: tuple[PositiveInt, ...]
    digest: Digest


class Proof(Record):
    """That float32 products of a slice are exact, and TF32 ones too: the exporter, which knows the weights, shows it.

    Operands are integers of `operand_bits` bits without sign: digits have 8, and TF32 keeps 11. Every partial sum, in any order
    of summation, stays within `sum_bound`: twelve standard deviations for uniform digits (PROTOCOL.md, section 8). Float32
    holds every integer up to 2**24.
    """

    operand_bits: int = Field(ge=DIGIT_BITS, le=TF32_BITS)
    sum_bound: float = Field(ge=0, lt=EXACT_FLOAT32)


class Subgraph(Record):
    """A slice: the ONNX subgraph that a server runs for the layers that share one input."""

    name: SliceName
    file: RelativePath
    sha256: Digest
    layers: tuple[Layer, ...] = Field(min_length=1)
    nominal_shape: tuple[PositiveInt, ...]  # of the input, at the model's own picture size, batch 1
    self_test: SelfTest
    proof: Proof | None = None  # None: nobody showed it, and no engine may round operands to TF32

    @model_validator(mode="after")
    def _proof_covers_every_layer(self) -> Self:
        if self.proof is not None and self.proof.sum_bound < max(layer.bound for layer in self.layers):
            raise ValueError(f"{self.name}: a proof for sums of {self.proof.sum_bound}; a layer's reach further")
        return self

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        for shape in (self.nominal_shape, self.self_test.shape):
            check_sizes(self.layers, shape)
        return self


class Segment(Record):
    """A step of a program that the client runs: an ONNX file. It also writes `flops`, what it cost."""

    kind: Literal["segment"] = "segment"
    file: RelativePath
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Offload(Record):
    """A step of a program that servers run: a slice."""

    kind: Literal["offload"] = "offload"
    slice: SliceName
    reads: tuple[str]
    writes: tuple[str, ...]


Step = Annotated[Segment | Offload, Field(discriminator="kind")]


class Program(Record):
    """A partitioned graph: a DAG of steps, each run as soon as what it reads is there."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]


class Programs(Record):
    """The U-Net in three: what depends on the prompt only, on the timestep only, and the rest; and the VAE decoder."""

    prompt: Program
    timestep: Program
    sample: Program
    decoder: Program | None = None  # None: the client keeps it whole

    @property
    def all(self) -> tuple[Program, ...]:
        """In the order in which they run."""
        unet = (self.prompt, self.timestep, self.sample)
        return unet if self.decoder is None else (*unet, self.decoder)


class ImageConfig(Record):
    """Latents and pictures. Sizes are in pixels."""

    height: PositiveInt
    width: PositiveInt
    latent_channels: PositiveInt
    vae_scale_factor: PositiveInt  # pixels per latent, in each direction
    size_multiple: PositiveInt  # what height and width must be multiples of
    scaling_factor: float
    shift_factor: float = 0.0


class Conditioning(Record):
    """What a U-Net is told besides latents, timestep and text."""

    guidance_features: PositiveInt | None = None  # of the embedded guidance scale, where the model is distilled on it
    sizes: bool = False  # SDXL's: a second text encoder's summary of the text, and sizes in pixels
    empty_is_zero: bool = False  # no negative prompt means zeros, and not the empty text


class GraphInput(Record):
    """An input of a graph: float32, with the shape that it was exported at."""

    name: str
    shape: tuple[PositiveInt, ...]
