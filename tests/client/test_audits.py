"""Truncated answers of real servers: fewer bytes, pictures that are close, liars that are named when they are audited."""

from collections import Counter

import numpy as np
import pytest
from precisions import balanced_package
from tritonclient.grpc import service_pb2 as pb

from ppidm.protocol.errors import CheckError, InputError
from ppidm.protocol.precision import Precision

CONV = "down_blocks.0.downsamplers.0.conv"


@pytest.fixture(scope="module")
def balanced(package, tmp_path_factory):
    return balanced_package(package, tmp_path_factory.mktemp("balanced"))


@pytest.fixture(scope="module")
def connect(balanced, connected, taps):
    """A pipeline of the balanced package; `connected` gives that of the exact one."""
    assert connected
    from ppidm.client.pipeline import PrivateStableDiffusionPipeline as Pipeline  # noqa: PLC0415

    def connect(**options):
        evaluator, *dealers = (tap.address for tap in taps)
        return Pipeline.from_package(balanced / "client", evaluator=evaluator, dealers=dealers, **options)

    return connect


@pytest.fixture(scope="module")
def unaudited(connect, record):
    with connect(audit=0) as pipe:
        return record(pipe)


def names(calls):
    return Counter(call.slice for call in calls)


def test_the_picture_is_close_and_its_answers_have_half_of_the_bytes(unaudited, first):
    exact, balanced = first.result.images, unaudited.result.images
    noise, signal = (float(np.square(values, dtype=np.float64).sum()) for values in (exact - balanced, exact))
    assert 30 < 10 * np.log10(signal / noise) < 100
    report, whole = unaudited.result.report, first.result.report
    assert (report.precision, report.audits, report.verified) == (Precision.BALANCED, 0, False)
    assert (whole.precision, whole.audits, whole.verified) == (Precision.EXACT, 0, True)
    for mine, theirs in zip(
        [report.traffic.evaluator, *report.traffic.dealers],
        [whole.traffic.evaluator, *whole.traffic.dealers],
        strict=True,
    ):
        assert mine.received < 0.51 * theirs.received
    assert report.traffic.evaluator.sent < 1.01 * whole.traffic.evaluator.sent


@pytest.mark.slow
def test_every_request_is_made_again_if_all_are_audited(connect, record, unaudited):
    with connect(audit=1) as pipe:
        recording = record(pipe)
    for view, once in zip(recording.views, unaudited.views, strict=True):
        assert names(view) == Counter({name: 2 * count for name, count in names(once).items()})
        contents = Counter(next(iter(call.tensors.values())) for call in view)
        assert set(contents.values()) == {2}  # the identical bytes
        asked = Counter("answer_bits" in call.tensors for call in view)
        assert asked[True] == asked[False]
    assert recording.result.report.audits == len(unaudited.evaluator)
    snr = np.square(recording.result.images - unaudited.result.images).sum() / np.square(unaudited.result.images).sum()
    assert snr < 1e-3  # other masks, so other errors of truncation


@pytest.fixture
def lying(taps):
    def start(server, alter):
        taps[server].alter = alter

    yield start
    for tap in taps:
        tap.alter = None


def lie_in_one(values_of):
    """Change one value of the answers for one slice."""

    def alter(model, response):
        if model == CONV:
            datatype = response.outputs[0].datatype
            values = np.frombuffer(response.raw_output_contents[0], {"INT16": "<i2", "INT32": "<i4"}[datatype]).copy()
            values_of[datatype](values)
            response.raw_output_contents[0] = values.tobytes()

    return alter


def nothing(_values):
    """Honest."""


def one_more(values):
    values[3] ^= 1


def a_unit_more(values):
    values[3] ^= 1 << 20


@pytest.mark.parametrize("liar", [0, 2], ids=["evaluator", "second dealer"])
@pytest.mark.parametrize(
    ("short", "long", "verdict"),
    [
        (one_more, nothing, "1 values of its truncated answer"),
        (nothing, one_more, "limb"),
        (nothing, a_unit_more, "1 values of its truncated answer"),
    ],
    ids=["truncated", "below truncation", "whole"],
)
def test_an_audit_names_the_liar(connect, taps, lying, liar, short, long, verdict):
    role = "dealer" if liar else "evaluator"
    with connect(audit=1) as pipe:
        lying(liar, lie_in_one({"INT16": short, "INT32": long}))
        with pytest.raises(CheckError, match=verdict) as caught:
            pipe("red apple", num_inference_steps=1, guidance_scale=1, output_type="latent")
    assert caught.value.liars == (f"{role} {taps[liar].address}",)


@pytest.mark.parametrize("options", [{"audit": 0}, {"audit": 1, "verify": False}], ids=["no audits", "no verification"])
def test_without_audits_a_lie_passes(connect, lying, options):
    with connect(**options) as pipe:
        lying(0, lie_in_one({"INT16": one_more, "INT32": nothing}))
        result = pipe("red apple", num_inference_steps=1, guidance_scale=1, output_type="latent")
    assert result.report.audits == 0


def test_a_share_that_is_none(connect):
    with pytest.raises(InputError, match=r"--audit is 1\.5"):
        connect(audit=1.5)


def test_the_wiretap_sees_what_is_asked(unaudited):
    call = unaudited.evaluator[0]
    assert isinstance(call.request, pb.ModelInferRequest)
    assert call.tensors["answer_bits"] == b"\x10"
