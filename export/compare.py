"""An export is finished when its outputs were compared: the composed programs against the graphs as they were.

Twice. With float32 products in place of the slices the two must agree to float32 rounding, which proves the partition.
With the slices themselves, loaded from the package and self-tested, the error must be that of the quantised weights.
"""

from __future__ import annotations

from math import inf, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

PARTITION_TOLERANCE = 1e-3  # of the largest output: float32 rounding over some hundred layers
QUANTIZED_SNR_DB = {  # a wrong slice gives less than 10
    Precision.EXACT: 40.0,  # 12-bit weights give 50 to 65 dB
    Precision.BALANCED: 30.0,
    Precision.FAST: 20.0,
}


def snr_db(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal-to-noise ratio in decibels; infinite without noise."""
    noise = float(np.square(expected - got, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    if noise == 0 or signal == 0:
        return -inf if noise else inf
    return 10 * log10(signal / noise)


def require_equal(expected: Floats, got: Floats) -> float:
    """The largest error, relative to the largest output.

    Raises:
        UnsupportedError: the partitioned graph computes something else than the original one.
    """
    _require_shape(expected, got)
    error, largest = float(np.abs(expected - got).max()), float(np.abs(expected).max())
    if not error <= PARTITION_TOLERANCE * largest:
        raise UnsupportedError(
            f"the partitioned graph differs from the original one by {error:.1e} where the largest output is "
            f"{largest:.1e}; expected at most {PARTITION_TOLERANCE:.0e} of it. This graph is not carried exactly; "
            "please report it with the model's configuration"
        )
    return error / largest if largest else 0.0


def require_close(expected: Floats, got: Floats, precision: Precision = Precision.EXACT) -> float:
    """The SNR of the quantised graph.

    Raises:
        UnsupportedError: it is too low for the weights' bits.
    """
    _require_shape(expected, got)
    snr, least = snr_db(expected, got), QUANTIZED_SNR_DB[precision]
    if not snr >= least:
        raise UnsupportedError(
            f"the quantised graph has an SNR of {snr:.1f} dB; expected at least {least:.0f} dB. The weights "
            "or activations of this model have too wide a range for this precision"
        )
    return snr


def _require_shape(expected: Floats, got: Floats) -> None:
    if got.shape != expected.shape:
        raise UnsupportedError(f"the partitioned graph gives shape {got.shape}; the original one {expected.shape}")
