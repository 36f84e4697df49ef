"""What the pipelines have in common: a package, its servers, and everything of a call behind its arguments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ppidm.client.account import Account
from ppidm.client.conditions import Conditioner
from ppidm.client.connected import Connected
from ppidm.client.denoiser import Denoiser
from ppidm.client.exchange import Mode
from ppidm.client.offload import Offloader
from ppidm.client.package import load_package
from ppidm.client.pictures import ImageDecoder, pil_from_floats
from ppidm.engines.unet import PartitionedUNet
from ppidm.protocol.audit import DEFAULT_SHARE
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from ppidm.client.arguments import Request
    from ppidm.client.package import ClientPackage
    from ppidm.client.report import Report
    from ppidm.client.sampler import Sampler, SamplerState
    from ppidm.client.servers import Servers
    from ppidm.protocol.manifest import ClientManifest

Floats = NDArray[np.float32]
SAMPLERS = "samplers.npz"
OutputType: TypeAlias = Literal["pil", "np", "latent"]
StepCallback: TypeAlias = Callable[[Any, int, float, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PrivateStableDiffusionOutput:
    """What a call returns, like diffusers' StableDiffusionPipelineOutput.

    Attributes:
        images: PIL images, or an array: float32 (N, height, width, 3) in [0, 1] for "np", latents for "latent".
        nsfw_content_detected: always None; there is no safety checker.
        report: offloaded share, bytes, rounds, seconds.
    """

    images: list[Image.Image] | Floats
    nsfw_content_detected: None
    report: Report


@dataclass(frozen=True, repr=False)
class Drawing:
    """One call: what to draw, and how.

    Attributes:
        request: prompts, sizes, guidance.
        scheduler: diffusers' class name.
        steps: as asked for; evaluations are the sampler's.
        sampler: of them.
        start: makes the first latents; called when the text is encoded.
        rng: of the sampler's noise.
        output_type: see `__call__` of the pipelines; so is `callback`.
    """

    request: Request
    scheduler: str
    steps: int
    sampler: Sampler
    start: Callable[[Account], SamplerState]
    rng: np.random.Generator
    output_type: OutputType
    callback: StepCallback | None


def require_output_type(output_type: str) -> None:
    """Check `output_type`.

    Raises:
        InputError: it is none of three.
    """
    if output_type not in ("pil", "np", "latent"):
        raise InputError(f'output_type is {output_type!r}; expected "pil", "np" or "latent"')


class Pipeline(Connected["ClientManifest"]):
    """Base of the pipelines. Use `from_package`, and the pipeline as a context manager, or call `close`.

    Attributes:
        num_evaluations: of the U-Net per half in the current call; some schedulers make more than one per step.
    """

    _load = staticmethod(load_package)

    def __init__(
        self,
        package: ClientPackage[ClientManifest],
        servers: Servers,
        threads: int = 0,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        super().__init__(package, servers, threads, audit, mode)
        self.num_evaluations = 0
        self._conditioner = Conditioner(package.directory, self._manifest, threads)
        self._decoder = ImageDecoder(package.directory, self._manifest, self._pool, threads)
        self._unet = PartitionedUNet(package.directory, self._manifest.programs, self._pool, threads)

    def _draw(self, drawing: Drawing) -> PrivateStableDiffusionOutput:
        self.num_evaluations = len(drawing.sampler.timesteps)
        account = Account(self._servers)
        with closing(Offloader(self._package, self._servers, account, self._audit, self._mode)) as offload:
            latents = self._denoise(offload, account, drawing)
            images = latents if drawing.output_type == "latent" else self._decode(offload, account, latents)
        offload.raise_if_not_finite(latents, images)
        report = account.report(self._package, drawing.request, drawing.scheduler, drawing.steps)
        pictures = pil_from_floats(images) if drawing.output_type == "pil" else images
        return PrivateStableDiffusionOutput(pictures, None, report)

    def _denoise(self, offload: Offloader, account: Account, drawing: Drawing) -> Floats:
        request, sampler, image = drawing.request, drawing.sampler, self._manifest.image
        with account.timed("text_encoder"):
            conditions, flops = self._conditioner(request)
            account.add_client(flops)
        state = drawing.start(account)
        with account.timed("unet"), np.errstate(over="ignore", invalid="ignore"):  # told at the end, and only then
            denoiser = Denoiser(self._unet, offload, account, request)
            denoiser.prepare(conditions, sampler.timesteps)
            offload.expect(self._requests(request, len(sampler.timesteps)))
            for step, timestep in enumerate(sampler.timesteps):
                state.step(denoiser(state.model_input(), step), lambda: request.draw(image, drawing.rng))
                if drawing.callback is not None:
                    tensors = drawing.callback(self, step, timestep, {"latents": state.latents})
                    state.latents = tensors.get("latents", state.latents)
        return state.latents

    def _requests(self, request: Request, evaluations: int) -> dict[str, int]:
        """How often each slice will be asked for, by the steps of the sampler."""
        times = evaluations * (2 if request.guided else 1)
        steps = self._manifest.programs.sample.steps
        return {step.slice: times for step in steps if step.kind == "offload"}

    def _decode(self, offload: Offloader, account: Account, latents: Floats) -> Floats:
        if not self._decoder.is_offloaded:
            offload.raise_if_not_finite(latents)  # there are no more requests
        account.begin_decoder()
        with account.timed("vae_decoder"), np.errstate(over="ignore", invalid="ignore"):
            images, result = self._decoder(latents, offload)
            account.add_decoder(result)
        return images
