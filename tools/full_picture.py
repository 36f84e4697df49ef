"""A whole picture of a full-size model through two server processes, against diffusers with the same weights in float32.

    tools/make_model.py sd-turbo /tmp/sd-turbo
    tools/full_picture.py /tmp/sd-turbo /tmp/sd-turbo-package --components unet,vae --output docs/measurements/sd-turbo.json

Exports if the package is not there. With random weights the picture shows nothing; what it costs, and how far it is from the plain
one, is that of the real model. Seconds are those of a machine that client and both servers share.
"""

from __future__ import annotations

import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from full_size import PATIENT, TIMEOUT, client_bytes, export, forget_peak, peak_megabytes
from local_servers import local_processes

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.export.client_files import config_from_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def plain(model: Path, latents: Floats, arguments: dict[str, Any]) -> tuple[Floats, float]:
    """The picture of diffusers, (1, height, width, 3) in [0, 1], and its seconds; for a process of its own."""
    import diffusers  # noqa: PLC0415  (the client's memory is measured without it)
    import torch  # noqa: PLC0415

    from ppidm.export.torch_modules import quiet  # noqa: PLC0415

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        pipe = diffusers.DiffusionPipeline.from_pretrained(model, local_files_only=True, torch_dtype=torch.float32)
        start = perf_counter()
        images: Floats = pipe(**arguments, latents=torch.from_numpy(latents), output_type="np").images
    return images, perf_counter() - start


def private(package: Path, latents: Floats, arguments: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
    """The picture of ppidm, and what it cost."""
    with local_processes([package / "server-0", package / "server-1"], PATIENT) as (evaluator, dealer):
        forget_peak()
        with PrivateStableDiffusionPipeline.from_package(
            package / "client", evaluator=evaluator.address, dealers=[dealer.address], timeout=TIMEOUT
        ) as pipe:
            result = pipe(**arguments, latents=latents, output_type="np", return_dict=True)
        peaks = {"evaluator": peak_megabytes(evaluator.pid), "dealer": peak_megabytes(dealer.pid)}
        report = result.report.model_dump(mode="json")
        return result.images, {"report": report, "peak_megabytes": {"client": peak_megabytes(), **peaks}}


def psnr_db(got: Floats, expected: Floats) -> float:
    """Of pictures in [0, 1]."""
    return float(-10 * np.log10(np.square(got - expected, dtype=np.float64).mean()))


def measure(model: Path, package: Path, components: str, steps: int, guidance_scale: float) -> dict[str, Any]:
    """Both pictures."""
    figures: dict[str, Any] = {} if package.exists() else {"export": export(model, package, "--components", components)}
    image = config_from_model(model)
    latents = np.random.default_rng(1).standard_normal((1, *image.sample_shape), np.float32)
    arguments = {"prompt": "a red apple", "num_inference_steps": steps, "guidance_scale": guidance_scale}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        expected, seconds = pool.submit(plain, model, latents, arguments).result()
    got, cost = private(package, latents, arguments)
    figures |= {"psnr_db": round(psnr_db(got, expected), 2), "contrast": round(float(expected.std()), 4)}
    return figures | cost | {"plain_seconds": round(seconds), "bytes": client_bytes(package, model)}


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="pipeline folder, as of tools/make_model.py")
    parser.add_argument("package", type=Path, help="package of `ppidm export`; made if it is not there")
    parser.add_argument("--components", default="unet,vae", help="of the export")
    parser.add_argument("--steps", type=int, default=1, help="of the scheduler")
    parser.add_argument("--guidance-scale", type=float, default=0.0, help="1 or less: no guidance")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    figures = measure(options.model, options.package, options.components, options.steps, options.guidance_scale)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
