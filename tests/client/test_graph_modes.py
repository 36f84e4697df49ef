"""Every precision in both modes, on a small graph, with servers in this process."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from command_line import ppidm
from in_process import serving_here
from small_graphs import proto_from_text

from ppidm.client.exchange import Mode
from ppidm.client.graph import PrivateGraph
from ppidm.export.graph_package import export_graph
from ppidm.export.settings import ExportSettings
from ppidm.protocol.precision import Precision

TEXT = """g (float[n,6,9,7] x) => (float[n,5,9,7] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)  b = Sigmoid(a)  c = Conv<pads=[1,1,1,1]>(b, w2)  d = Conv(b, w3)  y = Add(c, d) }"""
WEIGHTS = {"w1": (8, 6, 3, 3), "w2": (5, 8, 3, 3), "w3": (5, 8, 1, 1)}
LEAST_DB = {Precision.EXACT: 50, Precision.BALANCED: 45, Precision.FAST: 25}
INPUTS = {"x": np.random.default_rng(6).standard_normal((2, 6, 9, 7), np.float32)}


@pytest.fixture(scope="module", params=Precision)
def served(request, tmp_path_factory):
    """Precision, package, and addresses of an evaluator and three dealers."""
    folder = tmp_path_factory.mktemp("graph")
    onnx.save(proto_from_text(TEXT, WEIGHTS), folder / "g.onnx")
    out = folder / "package"
    result = export_graph(folder / "g.onnx", ExportSettings("", out, precision=request.param))
    assert result.snr_db > LEAST_DB[request.param]
    with serving_here(out, 4) as addresses:
        yield request.param, out, addresses


def run(served, mode, dealers=1, **options):
    _, package, (evaluator, *others) = served
    options = {"audit": 1.0, "mode": mode} | options
    with PrivateGraph.from_package(
        package / "client", evaluator=evaluator, dealers=others[:dealers], **options
    ) as graph:
        return graph(INPUTS)


def test_both_modes_give_the_same(served):
    direct, relay = run(served, Mode.DIRECT), run(served, Mode.RELAY)
    (first,), (second,) = direct.outputs.values(), relay.outputs.values()
    if served[0] is Precision.EXACT:
        assert np.array_equal(first, second)
    else:
        noise, signal = (float(np.square(values, dtype=np.float64).sum()) for values in (first - second, first))
        assert signal / noise > 10 ** (LEAST_DB[served[0]] / 10)
    audits = 0 if served[0] is Precision.EXACT else 3  # one per slice
    for report in (direct.report, relay.report):
        assert (report.precision, report.audits, report.verified) == (served[0], audits, not audits)
    assert direct.report.traffic.relay == 0 < relay.report.traffic.relay
    assert direct.report.traffic.float16_split == relay.report.traffic.float16_split


@pytest.mark.parametrize("dealers", [1, 2, 3])
def test_the_client_downloads_once(served, dealers):
    one, several = run(served, Mode.RELAY, audit=0.0), run(served, Mode.RELAY, dealers, audit=0.0)
    ours, theirs = (result.report.traffic.evaluator.received for result in (one, several))
    assert abs(ours - theirs) < 100  # the session's
    assert several.report.traffic.relay == dealers * one.report.traffic.relay


def test_from_the_command_line(served, tmp_path):
    precision, package, (evaluator, dealer, *_) = served
    np.save(tmp_path / "x.npy", INPUTS["x"])
    words = "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "out", "--mode", "relay", "--audit", "0.5"
    shown = ppidm("run", package / "client", *words, EVALUATOR=evaluator, DEALER=dealer)
    assert (shown.status, shown.err) == (0, "")
    (expected,) = run(served, Mode.DIRECT).outputs.values()
    got = np.load(tmp_path / "out" / "y.npy")
    assert np.abs(got - expected).max() <= (0 if precision is Precision.EXACT else 0.3)
