"""A model that overflows: masked zeros, all requests, then an error. Traffic does not tell."""

import numpy as np
import pytest
from uniformity import FALSE_ALARM, uniformity_p_value
from wiretap import Recording

from ppidm.protocol.errors import NonFiniteError


@pytest.fixture
def overflowing(pipe, taps):
    """A picture whose latents a callback replaces after a step; returns the views of the servers and the error."""

    def draw(after, value, **arguments):
        def replace(_pipe, step, _timestep, tensors):
            return {"latents": np.full_like(tensors["latents"], value)} if step == after else tensors

        for tap in taps:
            tap.take()
        with pytest.raises(NonFiniteError) as raised:
            pipe("red apple", num_inference_steps=2, generator=11, callback_on_step_end=replace, **arguments)
        return Recording(None, [tap.take() for tap in taps]), raised.value

    return draw


@pytest.mark.parametrize(("value", "where"), [(3e38, "down_blocks.0.resnets.0.conv1"), (np.nan, "conv_in")])
def test_traffic_is_that_of_any_picture(overflowing, first, value, where):
    recording, error = overflowing(0, value)
    assert recording.outlines() == first.outlines()
    p_values = [uniformity_p_value(call.digits) for call in recording.evaluator]
    assert len(p_values) * min(p_values) >= FALSE_ALARM
    assert str(error) == (
        f"the model produced inf or nan before slice {where}; the picture is lost. Use other latents, a lower guidance "
        "scale or another scheduler"
    )
    assert error.exit_status == 2


def test_overflow_in_the_last_step_is_told_too(overflowing, first):
    recording, error = overflowing(1, np.inf)
    assert recording.outlines() == first.outlines()
    assert "inf or nan in the last step" in str(error)


def test_guidance_that_overflows_is_told(pipe):
    with pytest.raises(NonFiniteError, match="in the last step"):
        pipe("red apple", num_inference_steps=1, generator=11, guidance_scale=1e300)
