"""The evaluator's side of relay mode: windows, tokens, ends of sessions."""

from hashlib import sha256
from threading import Thread
from time import monotonic

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppidm.protocol.messages import Tensor
from ppidm.protocol.relay import sign_share
from ppidm.protocol.relay_messages import OpenRelay
from ppidm.runtime.inbox import RelayError
from ppidm.runtime.limits import Admission, GoneError, Limits, RefusedError
from ppidm.runtime.relays import Relays

SESSION, TOKENS = bytes(16), [b"a" * 32, b"b" * 32]
KEYS = [Ed25519PrivateKey.generate() for _ in TOKENS]
OPENED = OpenRelay(
    SESSION,
    tuple(sha256(token).digest() for token in TOKENS),
    tuple(key.public_key().public_bytes_raw() for key in KEYS),
)
MIB = 1 << 20


def share(ticket, size=MIB, dealer=0, session=SESSION):
    return sign_share(KEYS[dealer], session, "slice", ticket, (Tensor("relayed_0", "UINT8", (size,), bytes(size)),))


@pytest.fixture
def relays():
    return Relays(Admission(Limits(memory=128 * MIB), 1), MIB)


@pytest.fixture
def session(relays):
    assert relays.open("client", OPENED) == relays.window - MIB == 3 * MIB
    return relays.session(SESSION)


def receive(inbox, message, wanted=lambda: True):
    """What the stream's handler does."""
    inbox.reserve(MIB, wanted)
    inbox.settle(MIB, SESSION, message)


def test_a_dealer_that_runs_ahead_waits_at_the_window(session):
    inbox = session.accept(TOKENS[0])
    asked = []

    def three_times():
        asked.append(1)
        return len(asked) < 3

    for ticket in range(4):
        receive(inbox, share(ticket))
    assert inbox.used == 4 * MIB
    with pytest.raises(GoneError):
        receive(inbox, share(9), three_times)
    assert inbox.used == 4 * MIB
    session.release([2])
    receive(inbox, share(4))
    assert inbox.get(2) is None


def test_room_that_comes_free_wakes_the_stream(session):
    inbox = session.accept(TOKENS[0])
    for ticket in range(4):
        receive(inbox, share(ticket))
    stream = Thread(target=receive, args=(inbox, share(4)))
    stream.start()
    session.release([0, 1])
    stream.join(10)
    assert inbox.get(4) is not None
    assert inbox.used == 3 * MIB


def test_waiting_for_all_dealers(session):
    inboxes = [session.accept(token) for token in TOKENS]
    found = []
    waiter = Thread(target=lambda: found.extend(session.wait(7, monotonic() + 30, lambda: True)))
    waiter.start()
    for dealer, inbox in enumerate(inboxes):
        receive(inbox, share(7, dealer=dealer))
    waiter.join(10)
    assert [each.ticket for each in found] == [7, 7]


def test_a_token_opens_one_stream(session):
    assert session.accept(b"c" * 32) is None
    assert session.accept(TOKENS[0]) is session.inboxes[0]
    assert session.accept(TOKENS[0]) is None
    assert session.accept(TOKENS[1]) is session.inboxes[1]


def test_which_streams_a_server_with_tokens_lets_through(relays, session):
    assert session.name == SESSION
    assert relays.knows(SESSION.hex(), TOKENS[0].hex())
    for other in [(SESSION.hex(), (b"c" * 32).hex()), ("11" * 16, TOKENS[0].hex()), ("xyz", "xyz"), ("", "")]:
        assert not relays.knows(*other)
    session.accept(TOKENS[0])
    assert not relays.knows(SESSION.hex(), TOKENS[0].hex())


@pytest.mark.parametrize(
    "bad", [share(1, dealer=1), share(1, session=b"x" * 16)], ids=["signed by another", "of another session"]
)
def test_a_share_that_the_dealer_did_not_sign(session, bad):
    inbox = session.accept(TOKENS[0])
    with pytest.raises(RelayError, match="not signed"):
        receive(inbox, bad)
    assert inbox.used == 0


def test_a_ticket_comes_once(session):
    inbox = session.accept(TOKENS[0])
    receive(inbox, share(1))
    with pytest.raises(RelayError, match="second share"):
        receive(inbox, share(1))
    assert inbox.used == MIB


def test_a_dealer_that_dies_ends_the_wait(session):
    inboxes = [session.accept(token) for token in TOKENS]
    receive(inboxes[0], share(1))
    inboxes[1].fail("the dealer's stream has ended")
    with pytest.raises(RelayError, match="ticket 1 is missing: the dealer's stream has ended"):
        session.wait(1, monotonic() + 30, lambda: True)
    receive(inboxes[1], None)


def test_a_share_that_never_comes_and_a_client_that_goes(session):
    with pytest.raises(RelayError, match="in time"):
        session.wait(1, monotonic() + 0.1, lambda: True)
    with pytest.raises(GoneError):
        session.wait(1, monotonic() + 30, lambda: False)


def test_what_is_released_before_it_comes_is_dropped(session):
    inbox = session.accept(TOKENS[0])
    session.release([5])
    receive(inbox, share(5))
    assert (inbox.get(5), inbox.used) == (None, 0)


def test_the_end_of_a_session_drops_everything_and_ends_its_streams(relays, session):
    ended, inbox = [], session.accept(TOKENS[0])
    inbox.end = lambda: ended.append(1)
    receive(inbox, share(1))
    assert relays.used == MIB
    relays.close(SESSION)
    relays.close(SESSION)
    assert (ended, inbox.used, relays.used) == ([1], 0, 0)
    with pytest.raises(RelayError, match="no such session"):
        relays.session(SESSION)
    assert relays.open("client", OPENED)  # its memory was given back


def test_a_client_that_stalls_loses_its_session(relays, session):
    relays.purge()
    assert relays.session(SESSION) is session
    session.until = monotonic() - 1
    relays.purge()
    with pytest.raises(RelayError, match="not heard of"):
        relays.session(SESSION)


def test_sessions_are_bounded_by_memory(relays):
    """Two windows of 4 MiB each; a client has half of 64 MiB."""
    others = [OpenRelay(bytes([number] * 16), OPENED.token_digests, OPENED.signers) for number in range(1, 7)]
    for opened in others[:4]:
        assert relays.open("client", opened)
    with pytest.raises(RefusedError, match="no room"):
        relays.open("client", others[4])
    assert relays.open("another", others[5])


def test_a_session_has_a_name_of_its_own(relays, session):
    assert session.name == SESSION
    with pytest.raises(RelayError, match="is open"):
        relays.open("client", OPENED)
