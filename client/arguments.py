"""The arguments of a call, checked before anything is computed or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.protocol.manifest import ImageConfig

    Floats = NDArray[np.float32]

MAX_PIXELS = 4096


@dataclass(frozen=True, repr=False)
class Request:
    """What to draw.

    Attributes:
        prompts: one or more.
        negative_prompts: as many; without guidance they are not used.
        pictures: for each prompt.
        height, width: in pixels.
        guidance_scale: at most 1 turns guidance off.
        latents: the initial noise, float32, (prompts * pictures, C, h, w), before the sampler's scaling; None draws it.
    """

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    pictures: int
    height: int
    width: int
    guidance_scale: float
    latents: Floats | None

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance_scale > 1

    @property
    def texts(self) -> tuple[str, ...]:
        """What the text encoder gets: under guidance the negative prompts first."""
        return (*self.negative_prompts, *self.prompts) if self.guided else self.prompts

    def latents_shape(self, image: ImageConfig) -> tuple[int, int, int, int]:
        """(N, C, h, w)."""
        factor = image.vae_scale_factor
        return len(self.prompts) * self.pictures, image.latent_channels, self.height // factor, self.width // factor

    def initial_latents(self, image: ImageConfig, rng: np.random.Generator) -> Floats:
        """The given latents, or fresh noise from `rng`."""
        return rng.standard_normal(self.latents_shape(image), np.float32) if self.latents is None else self.latents


def make_request(
    image: ImageConfig,
    prompt: str | Sequence[str],
    negative_prompt: str | Sequence[str] | None,
    pictures: int,
    size: tuple[int | None, int | None],
    guidance_scale: float,
    latents: Floats | None,
) -> Request:
    """Check the arguments of a call.

    Raises:
        InputError: names the argument, what was got and what was expected.
    """
    prompts = _prompts("prompt", prompt)
    negative = _prompts("negative_prompt", negative_prompt or "")
    if len(negative) not in (1, len(prompts)):
        raise InputError(f"negative_prompt has {len(negative)} texts; expected 1 or {len(prompts)}, as many as prompt")
    if pictures < 1:
        raise InputError(f"num_images_per_prompt is {pictures}; expected at least 1")
    if not np.isfinite(guidance_scale):
        raise InputError(f"guidance_scale is {guidance_scale}; expected a finite number, 1 or less to turn guidance off")
    height, width = (_size(name, given, image) for name, given in zip(("height", "width"), size, strict=True))
    request = Request(prompts, negative * (len(prompts) // len(negative)), pictures, height, width, guidance_scale, latents)
    if latents is not None:
        _check_latents(latents, request.latents_shape(image))
    return request


def _prompts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} is no text; expected a string or a non-empty list of strings")
    return texts


def _size(name: str, value: int | None, image: ImageConfig) -> int:
    size = getattr(image, name) if value is None else value
    if not image.size_multiple <= size <= MAX_PIXELS or size % image.size_multiple:
        raise InputError(f"{name} is {size}; expected a multiple of {image.size_multiple} pixels, at most {MAX_PIXELS}")
    return int(size)


def _check_latents(latents: Floats, expected: tuple[int, ...]) -> None:
    if latents.shape != expected or latents.dtype != np.float32:
        raise InputError(f"latents is {latents.dtype}{latents.shape}; expected float32{expected}")
    if not np.isfinite(latents).all():
        raise InputError("latents holds inf or nan; expected finite noise")
