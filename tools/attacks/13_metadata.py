"""The evaluator reads resolution, steps, guidance and number of pictures from names and shapes alone.

Has: the masked requests of a session, and the public package. Tries: rows of the timestep's slices are evaluations, rows of the
prompt's are texts, the input of the first convolution is a latent image. Expected to succeed: SECURITY.md lists it under "What is
not hidden". The prompt is not among it: another prompt gives the same shapes in the same numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import whole_model
from verdict import SUCCEEDS, Size, Verdict
from whole_model import ShippedParty

from ppidm.client.package import load_package
from ppidm.client.pipeline import PrivateStableDiffusionPipeline
from ppidm.client.servers import Servers

EXPECTED = SUCCEEDS
FEW = [(64, 64, 1, True, 1), (64, 96, 2, False, 1)]  # height, width, steps, guided, pictures
MORE = [(128, 64, 3, True, 2), (96, 96, 5, True, 1), (64, 64, 8, False, 3)]
PROMPTS = ("red apple, 3d style", "a very different and much longer prompt about a dog at the sea")


@dataclass(frozen=True)
class Settings:
    """What a user chose."""

    height: int
    width: int
    steps: int
    guided: bool
    pictures: int


def run(size: Size) -> Verdict:
    """Sessions of several settings, each with two prompts."""
    chosen = [Settings(*each) for each in size.pick(FEW, FEW + MORE)]
    right = same = 0
    for settings in chosen:
        views = [session(settings, prompt) for prompt in PROMPTS]
        right += all(read(view) == settings for view in views)
        same += shapes(views[0]) == shapes(views[1])
    number = f"{right} of {len(chosen)} settings read right; {same} of {len(chosen)} the same for another prompt"
    if same < len(chosen):
        raise AssertionError(number)  # worse than documented
    return Verdict(right == len(chosen), number)


def session(settings: Settings, prompt: str) -> ShippedParty:
    """A picture with ppidm's own pipeline; what its evaluator saw."""
    package = load_package(whole_model.package() / "client")
    evaluator, dealer = ShippedParty("evaluator"), ShippedParty("dealer 1")
    servers = Servers(cast("Any", evaluator), (cast("Any", dealer),))
    with PrivateStableDiffusionPipeline(package, servers) as pipe:
        pipe(
            prompt,
            settings.height,
            settings.width,
            settings.steps,
            guidance_scale=4.0 if settings.guided else 1.0,
            num_images_per_prompt=settings.pictures,
            output_type="latent",
        )
    return evaluator


def shapes(evaluator: ShippedParty) -> Counter[str]:
    """All requests, without contents; slices that run side by side come in any order."""
    return Counter(str((name, tensors)) for name, tensors in evaluator.seen)


def read(evaluator: ShippedParty) -> Settings:
    """The attack. A `masked` tensor has shape (limbs, ...)."""
    of = {name: tensors[0].shape[1:] for name, tensors in evaluator.seen}
    nominal = {subgraph.name: subgraph.nominal_shape for subgraph in whole_model.manifest().slices}
    pictures, height, width, _ = of["conv_in"]
    (prompt,) = [name for name in of if name.endswith("attn2.to_k")]
    texts = of[prompt][0] // nominal[prompt][0]
    pixels = 64 // nominal["conv_in"][1]  # per latent; the model's picture size is public
    steps = of["time_embedding.linear_1"][0]
    return Settings(height * pixels, width * pixels, steps, texts == 2, pictures)  # noqa: PLR2004
