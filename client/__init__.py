"""The client: it alone knows prompt, latents and picture. Needs neither torch nor diffusers nor onnx."""

from ppidm.client.graph import PrivateGraph
from ppidm.client.links import LinkSettings
from ppidm.client.pipeline import PrivateStableDiffusionOutput, PrivateStableDiffusionPipeline

__all__ = ["LinkSettings", "PrivateGraph", "PrivateStableDiffusionOutput", "PrivateStableDiffusionPipeline"]
