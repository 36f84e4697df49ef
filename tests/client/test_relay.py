"""Relay mode between real servers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from command_line import serving
from precisions import balanced_package
from recorder import recording

from ppidm.client.exchange import Mode
from ppidm.client.pipeline import PrivateStableDiffusionPipeline as Pipeline
from ppidm.client.transport import Server
from ppidm.protocol.errors import CheckError, PeerError
from ppidm.protocol.relay_messages import close_request, connect_request, parse_connect, split_place

PICTURE = {"prompt": "red apple", "num_inference_steps": 2, "generator": 11, "output_type": "latent"}


@pytest.fixture
def draw(package, servers):
    """A picture in relay mode on servers that all tests share."""

    def draw(dealers=2, *, addresses=servers, client=package / "client", **options):
        options = {"mode": Mode.RELAY} | options
        evaluator, *others = addresses[: 1 + dealers]
        with Pipeline.from_package(client, evaluator=evaluator, dealers=others, **options) as pipe:
            return pipe(**PICTURE)

    return draw


def test_the_picture_is_the_same_bit_for_bit(draw, first):
    result = draw()
    assert np.array_equal(result.images, first.result.images)
    report, direct = result.report, first.result.report
    assert report.verified
    assert report.rounds == direct.rounds
    assert all(dealer.received < 0.05 * report.traffic.evaluator.received for dealer in report.traffic.dealers)
    assert report.traffic.relay == pytest.approx(2 * report.traffic.evaluator.received, rel=0.02)
    assert report.traffic.float16_split == direct.traffic.float16_split


@pytest.fixture(scope="module")
def balanced(package, tmp_path_factory):
    return balanced_package(package, tmp_path_factory.mktemp("balanced")) / "client"


def test_truncated_answers_audited_throughout(draw, first, balanced):
    """Half a unit of error, and every answer consistent, right, and of one round more."""
    result = draw(1, client=balanced, audit=1.0)
    exact = first.result.images
    noise, signal = (float(np.square(values, dtype=np.float64).sum()) for values in (exact - result.images, exact))
    assert 30 < 10 * np.log10(signal / noise) < 100
    assert result.report.audits == len(first.evaluator)


def test_the_clients_traffic_hardly_depends_on_the_number_of_dealers(package, servers, draw):
    with serving(package / "server-0") as fourth:
        reports = [draw(dealers, addresses=[*servers, fourth.address]).report for dealers in (1, 2, 3)]
    totals = [total(report.traffic) for report in reports]
    assert max(totals) < 1.01 * min(totals)
    assert [report.traffic.relay / reports[0].traffic.relay for report in reports] == [1, 2, 3]


def total(traffic):
    return sum(each.sent + each.received for each in (traffic.evaluator, *traffic.dealers))


@contextmanager
def tampered(monkeypatch, method, change):
    """A server's method, changed for the time of the block."""
    honest = getattr(Server, method)
    monkeypatch.setattr(Server, method, lambda *arguments: change(honest, *arguments))
    yield
    monkeypatch.setattr(Server, method, honest)


def test_an_evaluator_that_lies_is_named(draw, servers, monkeypatch):
    """It adds one to an answer of relay mode; its limb products, which nobody relays, are right."""

    def ask(honest, server, name, tensors):
        pending = honest(server, name, tensors)
        lies = name == "conv_out" and server.role == "evaluator" and any(t.name == "session" for t in tensors)
        return (lambda: [flipped(tensor) for tensor in pending()]) if lies else pending

    with tampered(monkeypatch, "ask", ask), pytest.raises(CheckError, match="relayed answer") as caught:
        draw(2)
    assert caught.value.liars == (f"evaluator {servers[0]}",)


def flipped(tensor):
    return replace(tensor, content=bytes([tensor.content[0] ^ 1]) + tensor.content[1:])


def test_an_evaluator_that_shows_nothing_is_named(draw, servers, monkeypatch):
    def ask(honest, server, name, tensors):
        pending = honest(server, name, tensors)
        lies = server.role == "evaluator" and any(t.name == "session" for t in tensors)
        return (lambda: [flipped(tensor) for tensor in pending()]) if lies else pending

    monkeypatch.setattr(Server, "relay", refusing(Server.relay, "Show"))
    with tampered(monkeypatch, "ask", ask), pytest.raises(CheckError, match="did not show what dealer") as caught:
        draw(1)
    assert caught.value.liars == (f"evaluator {servers[0]}",)


def refusing(honest, refused):
    def relay(server, method, tensors):
        if method == refused:
            raise PeerError(f"{server} refuses {method}")
        return honest(server, method, tensors)

    return relay


@pytest.mark.parametrize("refused", ["Open", "Connect"])
def test_servers_that_do_not_relay(draw, first, monkeypatch, refused):
    monkeypatch.setattr(Server, "relay", refusing(Server.relay, refused))
    with pytest.warns(UserWarning, match="the relay failed .*; going on in direct mode"):
        result = draw()
    assert np.array_equal(result.images, first.result.images)
    assert result.report.traffic.relay == 0


def test_a_session_that_ends_in_the_middle(draw, first, monkeypatch):
    """The evaluator drops what it holds; the picture goes on in direct mode, under fresh masks."""
    asked, seeds = [], []

    def ask(honest, server, name, tensors):
        seeds.extend(t.content for t in tensors if t.name == "seed")
        place, _ = split_place(tensors)
        if server.role == "evaluator" and place is not None:
            asked.append(name)
            if len(asked) == 100:
                server.relay("Close", close_request(place.session))
        return honest(server, name, tensors)

    with tampered(monkeypatch, "ask", ask), pytest.warns(UserWarning, match=r"going on in direct mode") as warned:
        result = draw()
    assert len(warned) == 1
    assert np.array_equal(result.images, first.result.images)
    assert len(set(seeds)) == len(seeds)
    assert 0 < result.report.traffic.relay < 2 * result.report.traffic.evaluator.received


def test_a_link_between_dealer_and_evaluator_that_breaks(draw, first, servers, monkeypatch):
    """Both servers live on; the picture goes on in direct mode, and is the right one."""
    with recording(servers[0]) as [recorder]:
        asked = []

        def relay(honest, server, method, tensors):
            ours = method == "Connect"
            elsewhere = replace(parse_connect(tensors), peer=recorder.address) if ours else None
            return honest(server, method, connect_request(elsewhere) if ours else tensors)

        def ask(honest, server, name, tensors):
            asked.append(name)
            if len(asked) == 150:
                recorder.cut()
            return honest(server, name, tensors)

        with (
            tampered(monkeypatch, "relay", relay),
            tampered(monkeypatch, "ask", ask),
            pytest.warns(UserWarning, match="the relay failed .*; going on in direct mode"),
        ):
            result = draw(1)
    assert b"relayed_0" in recorder.sent
    assert np.array_equal(result.images, first.result.images)


def test_dealers_run_ahead_after_the_first_evaluation(draw, monkeypatch):
    """When a request is made, what dealers contribute to it has long been sent for."""
    dealt, late = set(), []

    def ask(honest, server, name, tensors):
        place, _ = split_place(tensors)
        if place is not None and server.role == "dealer":
            dealt.add(place.ticket)
        if place is not None and server.role == "evaluator":
            late.append(max(dealt) - place.ticket)
        return honest(server, name, tensors)

    with tampered(monkeypatch, "ask", ask):
        draw(1)
    assert np.mean(late[len(late) // 2 : -40]) > 20


@pytest.mark.parametrize("dead", ["evaluator", "dealer"])
def test_a_server_that_dies_is_a_clear_error(package, servers, draw, monkeypatch, dead):
    with serving(package / "server-1") as server:
        addresses = [server.address, servers[0]] if dead == "evaluator" else [servers[0], server.address]
        asked = []

        def ask(honest, asked_server, name, tensors):
            asked.append(name)
            if len(asked) == 150:
                server.process.kill()
                server.process.wait()
            return honest(asked_server, name, tensors)

        with (
            tampered(monkeypatch, "ask", ask),
            pytest.warns(UserWarning, match="going on in direct mode"),
            pytest.raises(PeerError, match=f"{dead} {server.address} failed: UNAVAILABLE"),
        ):
            draw(1, addresses=addresses)


def test_a_request_that_no_window_holds_goes_direct(draw, first, monkeypatch):
    monkeypatch.setattr("ppidm.client.relay.parse_window", lambda _tensors: 1 << 15)
    result = draw(1)
    assert np.array_equal(result.images, first.result.images)
    traffic = result.report.traffic
    assert 0 < traffic.relay < 0.5 * traffic.evaluator.received
    assert traffic.dealers[0].received > 0.5 * traffic.evaluator.received
