"""Pictures in, latents out, for image to image: the VAE's encoder, which the client keeps whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from ppidm.client.arguments import MAX_PIXELS
from ppidm.engines.onnxruntime import open_graph
from ppidm.engines.program import FLOPS
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.records import ImageConfig

    Floats = NDArray[np.float32]

FILE = "vae_encoder.onnx"
_IMAGES, _PARAMETERS = "sample", "latent_parameters"
_LOG_VARIANCES = (-30.0, 20.0)  # diffusers' DiagonalGaussianDistribution
_COLOURS = 3


class ImageEncoder:
    """A picture -> latents, drawn from the distribution that the encoder gives, as diffusers does.

    Args:
        directory: `OUT/client`.
        image: of the manifest.
        threads: intra-op threads; 0 means one per core.

    Raises:
        InputError: the package has no encoder.
    """

    def __init__(self, directory: Path, image: ImageConfig, threads: int = 0) -> None:
        path = directory / FILE
        if not path.is_file():
            raise InputError(
                f"{directory} has no {FILE}, which image to image needs; trace the pipeline anew with `ppidm export --retrace`"
            )
        self._config = image
        self._session = open_graph(path, [_IMAGES], [_PARAMETERS, FLOPS], threads)

    def __call__(self, picture: Floats, draw: Callable[[tuple[int, ...]], Floats]) -> tuple[Floats, int]:
        """Encode.

        Args:
            picture: (1, 3, height, width), in [-1, 1].
            draw: standard normal noise of a shape.

        Returns:
            Latents as the U-Net sees them, (1, C, h, w), and the FLOPs.
        """
        parameters, flops = self._session.run([_PARAMETERS, FLOPS], {_IMAGES: picture})
        mean, log_variance = np.split(parameters, 2, axis=1)
        deviation = np.exp(np.float32(0.5) * np.clip(log_variance, *_LOG_VARIANCES))
        latents = mean + deviation * draw(mean.shape)
        scaled = (latents - np.float32(self._config.shift_factor)) * np.float32(self._config.scaling_factor)
        return scaled.astype(np.float32), int(flops)


def floats_from_image(image: Image.Image | Floats, config: ImageConfig) -> Floats:
    """A picture as the encoder reads it: (1, 3, height, width), in [-1, 1].

    Args:
        image: PIL's, upright by its EXIF data and resampled to the next smaller size that the model can draw; or float32
            (height, width, 3) in [0, 1], of such a size.
        config: of the manifest.

    Raises:
        InputError: something else, or too small or large.
    """
    if isinstance(image, Image.Image):
        image = _resampled(image, config.size_multiple)
    if not isinstance(image, np.ndarray) or image.dtype != np.float32 or image.shape[2:] != (_COLOURS,):
        got = f"{image.dtype}{image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__qualname__}"
        raise InputError(f"image is {got}; expected a PIL image, or float32 (height, width, {_COLOURS}) in [0, 1]")
    multiple = config.size_multiple
    if not all(multiple <= side <= MAX_PIXELS and side % multiple == 0 for side in image.shape[:2]):
        raise InputError(
            f"image has height {image.shape[0]} and width {image.shape[1]}; expected multiples of {multiple} pixels from "
            f"{multiple} to {MAX_PIXELS}"
        )
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError("image holds values outside of [0, 1]; expected float32 from 0, black, to 1")
    return np.ascontiguousarray(2 * image.transpose(2, 0, 1)[None] - 1)


def _resampled(image: Image.Image, multiple: int) -> Floats:
    upright = ImageOps.exif_transpose(image).convert("RGB")
    width, height = (side // multiple * multiple or side for side in upright.size)
    if (width, height) != upright.size:
        upright = upright.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(upright, np.float32) / np.float32(255)
