"""What a U-Net is told besides latents, timestep and text."""

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline

from ppidm.client.arguments import make_request
from ppidm.client.conditions import guidance_embedding
from ppidm.protocol.records import ImageConfig

IMAGE = ImageConfig(height=64, width=64, latent_channels=4, vae_scale_factor=8, size_multiple=8, scaling_factor=1.0)


@pytest.mark.parametrize("features", [32, 33, 256])
@pytest.mark.parametrize("scale", [1.0, 1.5, 8.5])
def test_the_guidance_scale_is_embedded_as_diffusers_does(features, scale):
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = embed(None, torch.tensor([scale - 1]), features).numpy()
    got = guidance_embedding(scale, features)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)  # sines of thousands, whose argument float32 rounds


def test_a_model_that_embeds_guidance_is_not_guided():
    assert make_request(IMAGE, "a", guidance_scale=8.5).guided
    request = make_request(IMAGE, "a", guidance_scale=8.5, embeds_guidance=True)
    assert not request.guided
    assert request.texts == ("a",)


@pytest.mark.parametrize(("negative", "given"), [(None, False), ("", True), ("blurry", True)])
def test_no_negative_prompt_is_not_an_empty_one(negative, given):
    request = make_request(IMAGE, "a", negative)
    assert request.has_negative is given
    assert request.texts == (negative or "", "a")
