"""Do bytes look uniform? Tests for what a server sees, with a proven false alarm probability.

    assert_uniform(digits)           one message: its bytes, pairs of neighbours, differences along every axis
    assert_fresh_masks(messages)     many messages for the same slice: differences of every two of them

Both fail an honest build with probability below `FALSE_ALARM` per call; a p-value here is an upper bound, not an
approximation. Each test counts values in m cells and takes G = n * KL(observed || uniform), the likelihood-ratio form
of chi-square. For uniform draws, any n and m,

    P(G >= g)  <=  exp(-g) * (e g / (m - 1)) ** (m - 1)      for g > m - 1

(R. Agrawal, Finite-sample concentration of the multinomial in relative entropy, IEEE Trans. Inf. Theory 66, 2020). The
usual chi-square tail is only asymptotic, and tails of 1e-12 are where that matters. Several tests are combined by
Bonferroni's inequality: the smallest p-value times the number of tests.

Differences of neighbours find masks that repeat. If all bytes are uniform and independent, so are the differences along
an axis at one distance: given the first values of a line, the map from the others to their differences is one to one.
"""

from __future__ import annotations

from itertools import combinations
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FALSE_ALARM = 1e-12  # of one assertion
FEWEST = 64  # values per test: with fewer, even constant bytes would hardly be an alarm
PER_CELL = 16  # values that a cell should hold; fewer values are counted in fewer cells


def assert_uniform(content: bytes | NDArray[np.uint8], what: str = "content") -> None:
    """Assert that `content` is uniform; see `uniformity_p_value`. False alarms: below `FALSE_ALARM`."""
    p = uniformity_p_value(content)
    assert p >= FALSE_ALARM, f"{what} is not uniform: p < {p:.1e}"


def assert_fresh_masks(messages: Sequence[NDArray[np.uint32]], ring_bits: int = 32, what: str = "messages") -> None:
    """Assert that no two messages share a mask; see `smallest_difference_p_value`. False alarms: as above."""
    p = smallest_difference_p_value(messages, ring_bits)
    assert p >= FALSE_ALARM, f"two of {len(messages)} {what} share a mask: p < {p:.1e}"


def uniformity_p_value(content: bytes | NDArray[np.uint8]) -> float:
    """An upper bound of the probability that uniform bytes look as uneven as these, or more.

    Args:
        content: bytes; or an array of them, whose first axis is the limb: each limb is then tested for itself, and
            neighbours along every axis are compared.

    Raises:
        ValueError: a limb has fewer than `FEWEST` bytes, so that this test could not fail.
    """
    array = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
    if array.dtype != np.uint8:
        raise ValueError(f"got {array.dtype}; expected bytes")
    return _smallest(list(_uniformity_tests(np.atleast_2d(array))))


def smallest_difference_p_value(messages: Sequence[NDArray[np.uint32]], ring_bits: int = 32) -> float:
    """The same bound for the differences modulo 2**k of every two messages.

    Two inputs under one mask differ by their own, small difference; under fresh masks the difference is uniform.

    Args:
        messages: ring elements that one server received for one slice, all of one shape. Leave out retries, which
            send the same message again.
        ring_bits: k.

    Raises:
        ValueError: fewer than two messages, other shapes, or fewer than `FEWEST` elements.
    """
    ring = Ring(ring_bits)
    if len(messages) < 2 or len({message.shape for message in messages}) != 1:
        raise ValueError(f"got {[message.shape for message in messages]}; expected two or more messages of one shape")
    digits = (ring.to_digits((a - b) & ring.mask) for a, b in combinations(messages, 2))
    return _smallest([_g_test(limb.reshape(-1), 8) for limbs in digits for limb in limbs])


def _uniformity_tests(array: NDArray[np.uint8]) -> Iterator[float]:
    for limb in array.reshape(len(array), -1):
        yield _g_test(limb, 8)
        if limb.size >= 2 * FEWEST:
            yield _pair_test(limb)
    for axis, size in enumerate(array.shape):
        for distance in {1, size // 2} & set(range(1, size)):
            for limb in _differences(array, axis, distance):
                if limb.size >= FEWEST:
                    yield _g_test(limb.reshape(-1), 8)


def _differences(array: NDArray[np.uint8], axis: int, distance: int) -> NDArray[np.uint8]:
    lines = np.moveaxis(array, axis, 0)
    return np.moveaxis(lines[distance:] - lines[:-distance], 0, axis)  # modulo 256


def _pair_test(values: NDArray[np.uint8]) -> float:
    """Bytes 0 and 1, 2 and 3, ...: as many of their top bits as there are cells for."""
    first, second = values[0:-1:2].astype(np.int64), values[1::2].astype(np.int64)
    bits = min(8, max(1, _cell_bits(first.size) // 2))
    return _g_test((first >> (8 - bits) << bits) + (second >> (8 - bits)), 2 * bits)


def _g_test(values: NDArray[np.integer], bits: int) -> float:
    """Test values below 2**`bits`, by as many of their top bits as there are cells for."""
    if values.size < FEWEST:
        raise ValueError(f"{values.size} values; expected at least {FEWEST}: with fewer this test cannot fail")
    kept = min(bits, _cell_bits(values.size))
    observed = np.bincount(values >> (bits - kept), minlength=2**kept)
    share = observed[observed > 0] / values.size
    return tail_bound(values.size * float(np.sum(share * np.log(share * 2**kept))), 2**kept)


def _cell_bits(values: int) -> int:
    return max(1, (values // PER_CELL).bit_length() - 1)


def tail_bound(g: float, cells: int) -> float:
    """An upper bound of P(G >= g) for uniform draws in `cells` cells."""
    free = cells - 1
    return 1.0 if g <= free else exp(-g + free * (1 + log(g / free)))


def _smallest(p_values: Sequence[float]) -> float:
    return min(1.0, len(p_values) * min(p_values))
