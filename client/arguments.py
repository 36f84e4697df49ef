"""The arguments of a call, checked before anything is computed or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.protocol.records import ImageConfig

    Floats = NDArray[np.float32]

MAX_PIXELS = 4096
_WHOLE = (int, np.integer)


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
        has_negative: whether negative prompts were given; what stands in for them is the model's choice.
        embeds_guidance: whether the model reads the guidance scale itself, instead of two evaluations per step.
    """

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    pictures: int
    height: int
    width: int
    guidance_scale: float
    latents: Floats | None
    has_negative: bool = True
    embeds_guidance: bool = False

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance_scale > 1 and not self.embeds_guidance

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
        return self.draw(image, rng) if self.latents is None else self.latents

    def draw(self, image: ImageConfig, rng: np.random.Generator) -> Floats:
        """Standard normal noise in the shape of the latents."""
        return rng.standard_normal(self.latents_shape(image), np.float32)


def make_request(
    image: ImageConfig,
    prompt: str | Sequence[str],
    negative_prompt: str | Sequence[str] | None = None,
    *,
    pictures: int = 1,
    size: tuple[int | None, int | None] = (None, None),
    guidance_scale: float = 7.5,
    latents: Floats | None = None,
    embeds_guidance: bool = False,
) -> Request:
    """Check the arguments of a call.

    Args:
        image: of the manifest.
        prompt: one text or several.
        negative_prompt: one text, or one per prompt; None is the empty text.
        pictures: for each prompt.
        size: height and width in pixels; None is the model's own.
        guidance_scale: any finite number.
        latents: see `Request`.
        embeds_guidance: see `Request`.

    Raises:
        InputError: names the argument, what was got and what was expected.
    """
    prompts = _prompts("prompt", prompt)
    negative = _prompts("negative_prompt", "" if negative_prompt is None else negative_prompt)
    if len(negative) not in (1, len(prompts)):
        raise InputError(f"negative_prompt has {len(negative)} texts; expected 1 or {len(prompts)}, as many as prompt")
    if not isinstance(pictures, _WHOLE) or pictures < 1:
        raise InputError(f"num_images_per_prompt is {pictures!r}; expected a whole number, at least 1")
    if not np.isfinite(guidance_scale):
        raise InputError(
            f"guidance_scale is {guidance_scale}; expected a finite number, 1 or less to turn guidance off"
        )
    height, width = (_size(name, given, image) for name, given in zip(("height", "width"), size, strict=True))
    negative *= len(prompts) // len(negative)
    given = negative_prompt is not None
    numbers = int(pictures), height, width, guidance_scale
    request = Request(prompts, negative, *numbers, latents, has_negative=given, embeds_guidance=embeds_guidance)
    if latents is not None:
        _check_latents(latents, request.latents_shape(image))
    return request


def make_generator(generator: np.random.Generator | int | None) -> np.random.Generator:
    """The source of the initial noise and of the sampler's; never of a mask.

    Args:
        generator: numpy's, or a seed for one; None takes entropy from the operating system.

    Raises:
        InputError: something else, such as torch's: its noise cannot be drawn without torch.
    """
    seed = generator is None or (isinstance(generator, _WHOLE) and generator >= 0)
    if not seed and not isinstance(generator, np.random.Generator):
        raise InputError(
            f"generator is {_described(generator)}; expected a seed of at least 0, or a numpy.random.Generator. To "
            "repeat a picture of torch's, draw its noise there and pass it as latents"
        )
    return np.random.default_rng(generator)


def _described(value: object) -> str:
    return repr(value) if isinstance(value, _WHOLE) else f"a {type(value).__module__}.{type(value).__qualname__}"


def _prompts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} is not text; expected a string or a non-empty list of strings")
    return tuple(texts)


def _size(name: str, value: int | None, image: ImageConfig) -> int:
    size, multiple = getattr(image, name) if value is None else value, image.size_multiple
    if not isinstance(size, _WHOLE) or not multiple <= size <= MAX_PIXELS or size % multiple:
        expected = f"a multiple of {multiple} pixels from {multiple} to {MAX_PIXELS}"
        raise InputError(f"{name} is {size!r}; expected {expected}, for example {getattr(image, name)}")
    return int(size)


def _check_latents(latents: Floats, expected: tuple[int, ...]) -> None:
    shape = "(pictures, channels, height / factor, width / factor)"
    if not isinstance(latents, np.ndarray):
        raise InputError(f"latents is {_described(latents)}; expected a numpy array, float32{expected}: {shape}")
    if latents.shape != expected or latents.dtype != np.float32:
        raise InputError(f"latents is {latents.dtype}{latents.shape}; expected float32{expected}: {shape}")
    if not np.isfinite(latents).all():
        raise InputError("latents holds inf or nan; expected finite noise")
