"""`PrivateStableDiffusionImg2ImgPipeline`: a picture and a prompt -> pictures, with diffusers' call."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ppidm.client.arguments import make_generator, make_request
from ppidm.client.base_pipeline import SAMPLERS, Drawing, Pipeline, PrivateStableDiffusionOutput, require_output_type
from ppidm.client.image_encoder import ImageEncoder, floats_from_image
from ppidm.client.sampler import Sampler
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ppidm.client.account import Account
    from ppidm.client.base_pipeline import OutputType, StepCallback
    from ppidm.client.sampler import SamplerState

    Floats = NDArray[np.float32]


class PrivateStableDiffusionImg2ImgPipeline(Pipeline):
    """Image to image. Prompt and both pictures stay in this process.

    Use `from_package`, and the pipeline as a context manager, or call `close`.

    Attributes:
        num_evaluations: of the U-Net per half in the current call; some schedulers make more than one per step.

    Example:
        with PrivateStableDiffusionImg2ImgPipeline.from_package(
            "OUT/client", evaluator="127.0.0.1:8001", dealers=["127.0.0.1:8002"]
        ) as pipe:
            pipe("green apple, 3d style", Image.open("apple.png"), strength=0.6).images[0].save("green.png")
    """

    @cached_property
    def _encoder(self) -> ImageEncoder:
        """Opened by the first call that needs it, and kept."""
        return ImageEncoder(self._package.directory, self._manifest.image, self._threads)

    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Floats,
        strength: float = 0.8,
        num_inference_steps: int = 50,
        *,
        guidance_scale: float = 7.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: np.random.Generator | int | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        scheduler: str | None = None,
    ) -> PrivateStableDiffusionOutput | tuple[list[Image.Image] | Floats, None]:
        """Draw pictures, as diffusers' StableDiffusionImg2ImgPipeline does.

        Args:
            prompt: one text or several.
            image: what to begin with, PIL's or float32 (height, width, 3) in [0, 1]; the pictures have its size, rounded
                down to what the model can draw.
            strength: share of the steps that are made, above 0 and at most 1; the more, the less is left of `image`.
            num_inference_steps: of the scheduler, before `strength` takes its share.
            guidance_scale: classifier-free guidance; 1 or less turns it off, which halves the work.
            negative_prompt: what to keep away from; one text, or one per prompt.
            num_images_per_prompt: pictures per prompt.
            generator: numpy's generator, or a seed for one. Draws latents and the sampler's noise, never a mask.
            output_type: "pil", "np" or "latent".
            return_dict: False returns (images, None).
            callback_on_step_end: called as f(pipeline, step, timestep, {"latents": ...}) after every evaluation;
                "latents" in what it returns replaces them.
            scheduler: diffusers' class name; the model's own by default.

        Raises:
            InputError: an argument is wrong, the package has no encoder, or its model or scheduler cannot do it.
            CheckError: an answer was wrong.
            PeerError: a server failed.
            NonFiniteError: the model itself overflowed.

        Security:
            Servers learn sizes, the number of evaluations, guidance on or off, and timing; see SECURITY.md.
        """
        require_output_type(output_type)
        if self._manifest.conditioning.guidance_features is not None:
            raise InputError(
                f"{self._manifest.model} is distilled on its guidance scale, whose image to image takes timesteps of its own; "
                "expected a model without time_cond_proj_dim"
            )
        config = self._manifest.image
        picture = floats_from_image(image, config)
        request = make_request(
            config,
            prompt,
            negative_prompt,
            pictures=num_images_per_prompt,
            size=(picture.shape[2], picture.shape[3]),
            guidance_scale=guidance_scale,
        )
        name = scheduler or self._manifest.scheduler
        samplers = self._package.directory / SAMPLERS
        sampler = Sampler.load_for_picture(samplers, name, num_inference_steps, strength)
        encoder = self._encoder
        rng = make_generator(generator)

        def start(account: Account) -> SamplerState:
            with account.timed("vae_encoder"):
                latents, flops = encoder(picture, lambda shape: rng.standard_normal(shape, np.float32))
                account.add_client(flops)
            return sampler.start(request.draw(config, rng), latents)

        output = self._draw(
            Drawing(request, name, num_inference_steps, sampler, start, rng, output_type, callback_on_step_end)
        )
        return output if return_dict else (output.images, None)
