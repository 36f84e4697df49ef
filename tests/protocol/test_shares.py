import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppidm.protocol.ring import Ring
from ppidm.protocol.shares import aggregate


@pytest.mark.parametrize("bits", [16, 24, 32])
@given(data=st.data())
def test_shares_of_a_secret_open_to_it(bits, data):
    half = 2 ** (bits - 1)
    secret = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=5))
    rows = st.lists(st.integers(0, 2**32 - 1), min_size=len(secret), max_size=len(secret))  # an int32, whatever k is
    others = data.draw(st.lists(rows, max_size=4))
    last = [(x - sum(column)) % 2**bits for x, *column in zip(secret, *others, strict=True)]
    opened = aggregate(Ring(bits), [np.array(row, np.uint32) for row in [*others, last]])
    assert opened.dtype == np.int64
    assert opened.tolist() == secret


def test_the_answers_stay_as_they_are():
    answers = [np.array([1, 2], np.uint32), np.array([3, 4], np.uint32)]
    assert aggregate(Ring(32), answers).tolist() == [4, 6]
    assert [answer.tolist() for answer in answers] == [[1, 2], [3, 4]]
