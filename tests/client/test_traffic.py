"""What a picture costs: as declared, as reported, whatever the number of dealers; and no way around the servers."""

import socket

import numpy as np
import pytest

from ppidm.client.transport import Server
from ppidm.protocol.cost import direct_cost
from ppidm.protocol.manifest import ClientManifest, load_manifest
from ppidm.protocol.messages import seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring

NAMES = 200  # bytes: what the names, types and shapes of the tensors of a message take at most, per tensor
OVERHEAD = 0.01


@pytest.fixture(scope="module")
def one_dealer(connected, record):
    """The picture of `first` with one dealer instead of two."""
    with connected(1) as pipe:
        return record(pipe)


def declared(package, calls):
    """Payload by `direct_cost`: sent to the evaluator, sent to a dealer, received from each."""
    layers = {s.name: s.layers for s in load_manifest(package / "client", ClientManifest).slices}
    costs = [direct_cost(Ring(32), layers[call.slice], call.digits.shape[1:]) for call in calls]
    assert {cost.rounds for cost in costs} == {1}
    return [sum(values) for values in zip(*((c.evaluator_sent, c.dealer_sent, c.received) for c in costs), strict=True)]


def measured(calls):
    return sum(len(call.content) for call in calls), sum(call.answer_size for call in calls)


def test_the_declared_cost_is_the_measured_traffic(package, first):
    to_evaluator, to_dealer, received = declared(package, first.evaluator)
    sent_by_declaration, sent = to_evaluator + 2 * to_dealer, sum(measured(view)[0] for view in first.views)
    assert sent_by_declaration < sent < sent_by_declaration * (1 + OVERHEAD)
    for view, payload in zip(first.views, (to_evaluator, to_dealer, to_dealer), strict=True):
        content, answers = measured(view)
        assert payload < content < payload + NAMES * len(view)
        assert received < answers < received * (1 + OVERHEAD)


def test_the_report_counts_every_byte(first, other, one_dealer):
    for recording in (first, other, one_dealer):
        traffic = recording.result.report.traffic
        for reported, view in zip((traffic.evaluator, *traffic.dealers), recording.views, strict=True):
            assert (reported.sent, reported.received) == measured(view)


def test_an_answer_is_counted_before_it_is_used(servers):
    """gRPC's own callbacks run in another thread, sometimes after the answer was used: 4 times in 100 with 4 MiB."""
    server = Server("dealer", servers[0], 30)
    received = [0]
    for _ in range(40):
        server.ask("conv_in", seed_request(Seed.fresh(), (1, 128, 128, 4)))()
        received.append(server.traffic.received)
    server.close()
    assert min(np.diff(received)) > 2**22


def test_two_dealers_cost_no_round_and_the_evaluator_no_byte(first, one_dealer):
    one, two = one_dealer.result.report, first.result.report
    assert (one.rounds, one.evaluations) == (two.rounds, two.evaluations)
    assert one.traffic.evaluator == two.traffic.evaluator
    assert one.traffic.dealers * 2 == two.traffic.dealers
    assert one_dealer.outlines() == first.outlines()[:2]


def test_rounds_and_evaluations(first):
    """One chain of slices per evaluation, both halves of guidance at once; and the hoisted ones before."""
    report = first.result.report
    assert report.evaluations == 4
    assert 2 * 80 < report.rounds <= 2 * 92 + 4
    assert report.rounds < len(first.evaluator)


def test_the_number_of_dealers_changes_no_bit(first, one_dealer):
    assert np.array_equal(first.result.images, one_dealer.result.images)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_no_proxy_is_asked(servers, monkeypatch, variable):
    """A proxy between a client and all its servers sees what colluding servers would."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        server = Server("dealer", servers[0], 30)
        assert server.handshake().package
        server.close()
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()
