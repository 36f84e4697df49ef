"""`PrivateStableDiffusionPipeline`: diffusers' call, with a U-Net that runs on servers which learn nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.client.arguments import make_generator, make_request
from ppidm.client.base_pipeline import SAMPLERS, Drawing, Pipeline, PrivateStableDiffusionOutput, require_output_type
from ppidm.client.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ppidm.client.base_pipeline import OutputType, StepCallback

    Floats = NDArray[np.float32]


class PrivateStableDiffusionPipeline(Pipeline):
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
        output_type: OutputType = "pil",
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
        require_output_type(output_type)
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
        output = self._draw(
            Drawing(
                request,
                name,
                num_inference_steps,
                sampler,
                lambda _account: sampler.start(request.initial_latents(image, rng)),
                rng,
                output_type,
                callback_on_step_end,
            )
        )
        return output if return_dict else (output.images, None)
