"""A server that lies to a real client: the session ends, and the error names the servers.

The lies of these tests change the lowest bit of one element, or many rows: the check itself lets one of them pass with
probability 2**-64, or less.
"""

import re
import time
from copy import deepcopy

import numpy as np
import pytest

from ppidm.protocol.errors import CheckError, PeerError

STEPS = 1
REQUESTS_OF_A_HALF = 92
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"
TO_KEYS, TO_QUERIES, TO_OUT = f"{ATTENTION}.attn2.to_k", f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn1.to_out.0"
CONVOLUTION, LAST = "down_blocks.0.downsamplers.0.conv", "conv_out"


@pytest.fixture
def lying(taps):
    """Lets a server lie. At the end waits until no request is under way: one that was called off may never arrive."""

    def start(server, lie):
        for tap in taps:
            tap.take()
        taps[server].alter = lie

    yield start
    for tap in taps:
        tap.alter = None
    seen, since = None, time.monotonic()
    while len(set(calls := [len(tap.calls) for tap in taps])) > 1 and time.monotonic() < since + 1:
        if calls != seen:
            seen, since = calls, time.monotonic()
        time.sleep(0.01)


def lie_about(name, change):
    """`change` the raw contents of the answer for one slice."""

    def alter(model, response):
        if model == name:
            response.raw_output_contents[-1] = change(response.raw_output_contents[-1])

    return alter


def flip_lowest_bit(content):
    return bytes([content[0] ^ 1]) + content[1:]


def swap_halves(content):
    return content[len(content) // 2 :] + content[: len(content) // 2]


class Replay:
    """The first answer for a slice, once more for every later request."""

    def __init__(self):
        self.first = {}

    def __call__(self, model, response):
        response.CopyFrom(self.first.setdefault(model, deepcopy(response)))


class Mixed:
    """The answer for one slice in place of that for another of the same shape."""

    def __init__(self, source, target):
        self.source, self.target, self.content = source, target, None

    def __call__(self, model, response):
        if model == self.source:
            self.content = response.raw_output_contents[0]
        if model == self.target:
            response.raw_output_contents[0] = self.content


def draw(pipe, **changes):
    common = {"prompt": "red apple", "num_inference_steps": STEPS, "generator": 11, "output_type": "latent"}
    return pipe(**common | changes)


def assert_names_the_liar(error, taps, liar, layer):
    evaluator, *dealers = (tap.address for tap in taps)
    servers = [f"evaluator {evaluator}", *(f"dealer {address}" for address in dealers)]
    expected = (
        rf"{layer}: \d+ rows of the sum of 3 answers are wrong\. {servers[liar]} lied or is broken: {layer}: .*limb.*\. "
        rf"Took part: {', '.join(servers)}\. The picture is abandoned; use another server in its place"
    )
    assert re.fullmatch(expected, str(error)), error
    assert error.liars == (servers[liar],)
    assert error.exit_status == 3
    assert error.__cause__ is None


@pytest.mark.parametrize("server", range(3))
@pytest.mark.parametrize(
    ("lie", "layer"),
    [
        (lie_about(TO_KEYS, flip_lowest_bit), r"up_blocks\.2\S+\.attn2\.to_v"),
        (lie_about(LAST, flip_lowest_bit), "conv_out"),
        (lie_about(CONVOLUTION, lambda content: bytes(len(content))), re.escape(CONVOLUTION)),
        (lie_about(CONVOLUTION, swap_halves), re.escape(CONVOLUTION)),
        (Replay(), "conv_in"),
        (Mixed(TO_OUT, f"{ATTENTION}.attn2.to_q"), r"\S+attn2\.to_q"),
    ],
    ids=["flipped bit, prompt", "flipped bit, last slice", "zeros", "swapped rows", "replay", "another slice"],
)
def test_a_lie_ends_the_session(pipe, taps, lying, server, lie, layer):
    lying(server, deepcopy(lie))
    with pytest.raises(CheckError) as raised:
        draw(pipe, guidance_scale=1 if not isinstance(lie, Replay) else 7.5)
    assert_names_the_liar(raised.value, taps, server, layer)


def test_after_a_lie_nobody_is_asked_again_and_the_pipeline_works(pipe, taps, lying, first):
    """The other half of guidance stops, too: of its 92 requests most are never made."""
    pending = [1]

    def lie_once(model, response):
        if model == "conv_in" and pending:
            pending.pop()
            response.raw_output_contents[0] = flip_lowest_bit(response.raw_output_contents[0])

    lying(0, lie_once)
    with pytest.raises(CheckError):
        draw(pipe)
    asked = [len(tap.take()) for tap in taps]
    assert not pending
    assert max(asked) < REQUESTS_OF_A_HALF
    assert np.array_equal(draw(pipe, num_inference_steps=2).images, first.result.images)
    assert [len(tap.take()) for tap in taps] == [len(first.evaluator)] * 3


def test_without_verification_a_lie_passes(connected, lying, record):
    with connected(verify=False) as unverified:
        honest = record(unverified, num_inference_steps=STEPS).result
        lying(0, lie_about(LAST, lambda content: bytes(len(content))))
        result = draw(unverified)
    assert (honest.report.verified, result.report.verified) == (False, False)
    assert not np.array_equal(result.images, honest.images)


def malformed(change):
    def alter(model, response):
        if model == TO_KEYS:
            change(response)

    return alter


@pytest.mark.parametrize("server", [0, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda response: response.raw_output_contents.__setitem__(0, response.raw_output_contents[0][:-4]),
        lambda response: response.raw_output_contents.pop(),
        lambda response: (response.raw_output_contents.pop(), response.outputs.pop()),
        lambda response: response.outputs[0].shape.__setitem__(0, 1),
        lambda response: setattr(response.outputs[0], "datatype", "FP32"),
        lambda response: setattr(response.outputs[0], "name", "answer_1"),
        lambda response: response.Clear(),
    ],
    ids=["short", "a content less", "a tensor less", "shape", "datatype", "name", "empty"],
)
def test_a_malformed_answer_is_blamed_on_the_one_who_gave_it(pipe, taps, lying, server, change):
    lying(server, malformed(change))
    with pytest.raises(PeerError) as raised:
        draw(pipe)
    assert str(raised.value).startswith(f"{'dealer' if server else 'evaluator'} {taps[server].address}: ")
    assert not [tap.address for tap in taps if tap is not taps[server] and tap.address in str(raised.value)]
    assert raised.value.exit_status == 4
