"""`PrivateStableDiffusionPipeline`: diffusers' call, with a U-Net that runs on servers which learn nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ppidm.client.account import Account
from ppidm.client.arguments import Request, make_generator, make_request
from ppidm.client.conditions import Conditioner
from ppidm.client.denoiser import Denoiser
from ppidm.client.exchange import Mode
from ppidm.client.links import LOOPBACK, LinkSettings
from ppidm.client.offload import Offloader
from ppidm.client.package import ClientPackage, load_package
from ppidm.client.pictures import ImageDecoder, pil_from_floats
from ppidm.client.sampler import Sampler
from ppidm.client.servers import Servers, connect
from ppidm.engines.unet import PartitionedUNet
from ppidm.protocol.audit import DEFAULT_SHARE, require_share
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from PIL import Image

    from ppidm.client.report import Report
    from ppidm.protocol.manifest import ClientManifest

Floats = NDArray[np.float32]
SAMPLERS = "samplers.npz"
IN_FLIGHT = 8  # steps of the programs at the same time, over both halves of guidance
StepCallback = Callable[["PrivateStableDiffusionPipeline", int, float, dict[str, Any]], dict[str, Any]]


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


class PrivateStableDiffusionPipeline:
    """Text to image. Prompt, latents and picture stay in this process.

    Use `from_package`, and the pipeline as a context manager, or call `close`.

    Attributes:
        num_evaluations: of the U-Net per half in the current call; some schedulers make more than one per step.

    Example:
        with PrivateStableDiffusionPipeline.from_package(
            "OUT/client", evaluator="127.0.0.1:8001", dealers=["127.0.0.1:8002"]
        ) as pipe:
            pipe("red apple, 3d style").images[0].save("apple.png")
    """

    def __init__(
        self,
        package: ClientPackage[ClientManifest],
        servers: Servers,
        threads: int = 0,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        self._audit, self._mode = audit, mode
        self._package, self._servers, self._manifest = package, servers, package.manifest
        self.num_evaluations = 0
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "ppidm-step")
        self._conditioner = Conditioner(package.directory, self._manifest, threads)
        self._decoder = ImageDecoder(package.directory, self._manifest, self._pool, threads)
        self._unet = PartitionedUNet(package.directory, self._manifest.programs, self._pool, threads)

    @classmethod
    def from_package(
        cls,
        path: str | Path,
        *,
        evaluator: str,
        dealers: Sequence[str],
        check: str | Path | None = None,
        verify: bool = True,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
        signer: str | Path | None = None,
        timeout: float = 60.0,
        threads: int = 0,
        links: LinkSettings = LOOPBACK,
    ) -> Self:
        """Load `OUT/client` and connect to the servers.

        Args:
            path: the client directory of `ppidm export`.
            evaluator: HOST:PORT of the server that gets masked activations.
            dealers: HOST:PORT of the servers that get seeds; one or more, run by other operators than the evaluator.
            check: this user's check vectors; by default the folder `check` beside `path`.
            verify: check every answer, or audit truncated ones. Turn it off for measurements only.
            audit: share of truncated answers that are audited; packages of precision exact have none.
            mode: direct: every server answers the client. relay: dealers send their shares to the evaluator, ahead, and the
                client downloads one answer, whatever the number of dealers.
            signer: PEM file with the public key of who must have signed the package; None takes any.
            timeout: seconds that one request may take.
            threads: of each of the client's own graphs; 0 means one per core.
            links: pins, certificates and tokens, for servers outside of loopback.

        Raises:
            PackageError: the package is corrupt or of another version.
            InputError: a bad address, or a server in two roles.
            PeerError: a server cannot be reached or has another package.
        """
        require_share(audit)
        check, signer = (None if given is None else Path(given) for given in (check, signer))
        package = load_package(Path(path), check, verify=verify, signer=signer)
        return cls(package, connect(evaluator, dealers, package.manifest.package, timeout, links), threads, audit, mode)

    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        *,
        guidance_scale: float = 7.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: np.random.Generator | int | None = None,
        latents: Floats | None = None,
        output_type: Literal["pil", "np", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        scheduler: str | None = None,
    ) -> PrivateStableDiffusionOutput | tuple[list[Image.Image] | Floats, None]:
        """Draw pictures, as diffusers' StableDiffusionPipeline does. Positions agree with diffusers up to the steps.

        Args:
            prompt: one text or several.
            height: in pixels; the model's own by default.
            width: in pixels; the model's own by default.
            num_inference_steps: of the scheduler.
            guidance_scale: classifier-free guidance; 1 or less turns it off, which halves the work.
            negative_prompt: what to keep away from; one text, or one per prompt.
            num_images_per_prompt: pictures per prompt.
            generator: numpy's generator, or a seed for one. Draws latents and the sampler's noise, never a mask.
            latents: initial noise, float32, (N, C, h, w), before the sampler's scaling.
            output_type: "pil", "np" or "latent".
            return_dict: False returns (images, None).
            callback_on_step_end: called as f(pipeline, step, timestep, {"latents": ...}) after every evaluation;
                "latents" in what it returns replaces them.
            scheduler: diffusers' class name; the model's own by default.

        Raises:
            InputError: an argument is wrong.
            CheckError: an answer was wrong.
            PeerError: a server failed.
            NonFiniteError: the model itself overflowed.

        Security:
            Servers learn sizes, steps, guidance on or off, and timing; see SECURITY.md.
        """
        if output_type not in ("pil", "np", "latent"):
            raise InputError(f'output_type is {output_type!r}; expected "pil", "np" or "latent"')
        image = self._manifest.image
        request = make_request(
            image,
            prompt,
            negative_prompt,
            pictures=num_images_per_prompt,
            size=(height, width),
            guidance_scale=guidance_scale,
            latents=latents,
            embeds_guidance=self._manifest.conditioning.guidance_features is not None,
        )
        name = scheduler or self._manifest.scheduler
        sampler = Sampler.load(self._package.directory / SAMPLERS, name, num_inference_steps)
        rng = make_generator(generator)
        self.num_evaluations = len(sampler.timesteps)
        account = Account(self._servers)
        with closing(Offloader(self._package, self._servers, account, self._audit, self._mode)) as offload:
            latents = self._denoise(offload, account, request, sampler, rng, callback_on_step_end)
            images = latents if output_type == "latent" else self._decode(offload, account, latents)
        offload.raise_if_not_finite(latents, images)
        report = account.report(self._package, request, name, num_inference_steps)
        output = PrivateStableDiffusionOutput(pil_from_floats(images) if output_type == "pil" else images, None, report)
        return output if return_dict else (output.images, None)

    def _denoise(
        self,
        offload: Offloader,
        account: Account,
        request: Request,
        sampler: Sampler,
        rng: np.random.Generator,
        callback: StepCallback | None,
    ) -> Floats:
        with account.timed("text_encoder"):
            conditions, flops = self._conditioner(request)
            account.add_client(flops)
        with account.timed("unet"), np.errstate(over="ignore", invalid="ignore"):  # told at the end, and only then
            denoiser = Denoiser(self._unet, offload, account, request)
            denoiser.prepare(conditions, sampler.timesteps)
            offload.expect(self._requests(request, len(sampler.timesteps)))
            state = sampler.start(request.initial_latents(self._manifest.image, rng))
            for step, timestep in enumerate(sampler.timesteps):
                state.step(denoiser(state.model_input(), step), lambda: request.draw(self._manifest.image, rng))
                if callback is not None:
                    tensors = callback(self, step, timestep, {"latents": state.latents})
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

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
