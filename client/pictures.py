"""Latents in, pictures out: the VAE decoder, whole on the client or partitioned like the U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ppidm.engines.onnxruntime import open_graph
from ppidm.engines.program import FLOPS, ProgramResult, ProgramRunner

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.protocol.manifest import ClientManifest

    Floats = NDArray[np.float32]

_LATENTS, _IMAGES = "latent_sample", "sample"


class ImageDecoder:
    """Latents -> pictures.

    Args:
        directory: `OUT/client`.
        manifest: of the package.
        pool: where the steps of a partitioned decoder run; a whole one needs none.
        threads: intra-op threads; 0 means one per core.
    """

    def __init__(
        self, directory: Path, manifest: ClientManifest, pool: Executor | None = None, threads: int = 0
    ) -> None:
        self._config, self._pool, program = manifest.image, pool, manifest.programs.decoder
        self._program = None if program is None else ProgramRunner(directory, program, threads)
        if self._program is None:
            path = directory / "vae_decoder.onnx"
            self._session = open_graph(path, [_LATENTS], [_IMAGES, FLOPS], threads)

    @property
    def is_offloaded(self) -> bool:
        """Whether servers take part."""
        return self._program is not None

    def __call__(self, latents: Floats, offload: OffloadCallable | None = None) -> tuple[Floats, ProgramResult]:
        """Decode (N, C, h, w).

        Args:
            latents: as the U-Net sees them.
            offload: asks the servers for a slice of a partitioned decoder.

        Returns:
            Float32 in [0, 1], (N, height, width, 3), and what it cost.
        """
        scaled = latents / np.float32(self._config.scaling_factor) + np.float32(self._config.shift_factor)
        if self._program is None:
            images, flops = self._session.run([_IMAGES, FLOPS], {_LATENTS: scaled})
            result = ProgramResult({_IMAGES: images}, int(flops), 0, 0.0)
        else:
            assert self._pool is not None
            assert offload is not None
            result = self._program.run({_LATENTS: scaled}, offload, self._pool)
        [images] = result.outputs.values()
        half = np.float32(0.5)
        return np.clip(half * images + half, 0, 1).transpose(0, 2, 3, 1), result


def pil_from_floats(images: Floats) -> list[Image.Image]:
    """(N, height, width, 3) in [0, 1] -> one picture each."""
    return [Image.fromarray(image) for image in np.rint(images * 255).astype(np.uint8)]
