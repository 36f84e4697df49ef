"""The client: it alone knows prompt, latents and picture. Needs neither torch nor diffusers nor onnx."""

from ppidm.client.base_pipeline import PrivateStableDiffusionOutput
from ppidm.client.graph import PrivateGraph
from ppidm.client.img2img import PrivateStableDiffusionImg2ImgPipeline
from ppidm.client.links import LinkSettings
from ppidm.client.pipeline import PrivateStableDiffusionPipeline

__all__ = [
    "LinkSettings",
    "PrivateGraph",
    "PrivateStableDiffusionImg2ImgPipeline",
    "PrivateStableDiffusionOutput",
    "PrivateStableDiffusionPipeline",
]
