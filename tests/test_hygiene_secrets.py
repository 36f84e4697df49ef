"""Seeds, masks, activations, scales and latents that were really used: in no log, file, error or wrong message.

The client runs in this process, so that a test can note its secrets while it makes them.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from canaries import bytes_canary, files_below, number_canary, search, text_canary
from evidence import Evidence, debugged_server
from recorder import recording

from ppidm.client import PrivateStableDiffusionPipeline, direct, offload, transport
from ppidm.protocol import masks
from ppidm.protocol.errors import CheckError, NonFiniteError, PeerError
from ppidm.protocol.messages import Tensor
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recorder import Recorder

PROMPT, NEGATIVE = "wubbazorp flimquatch xylovent", "grimboldic plonkarious"
KEPT = 12  # activations, spread over the slices


@dataclass
class Secrets:
    """What the client made."""

    seeds: list[bytes] = field(default_factory=list)
    activations: list[np.ndarray] = field(default_factory=list)
    encoded: list[np.ndarray] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    latents: list[np.ndarray] = field(default_factory=list)

    def canaries(self) -> list:
        step = max(1, len(self.encoded) // KEPT)
        encoded = self.encoded[::step]
        found = [
            text_canary("prompt", f"{PROMPT} {NEGATIVE}"),
            bytes_canary("seed", *self.seeds[::step]),
            bytes_canary("activation", *(x.tobytes() for x in self.activations[::step])),
            bytes_canary("encoded", *(x.tobytes() for x in encoded), *(x.astype("<i4").tobytes() for x in encoded)),
            bytes_canary("digits", *(Ring().to_digits(Ring().reduce(x)).tobytes() for x in encoded)),
            bytes_canary("mask", *(r.tobytes() for r in self.masks[::step])),
            number_canary("scale", *(scale for scale in self.scales[::step] if scale != 1)),
        ]
        return found + ([bytes_canary("latents", *(x.tobytes() for x in self.latents))] if self.latents else [])


@pytest.fixture
def secrets(monkeypatch) -> Secrets:
    """Notes secrets where they are made."""
    noted = Secrets()
    encode, share, fresh = offload.encode, masks.dealer_share, Seed.fresh

    def noting_encode(x, scale):
        noted.activations.append(x)
        noted.scales.append(float(scale))
        noted.encoded.append(encode(x, scale))
        return noted.encoded[-1]

    def noting_share(*arguments):
        noted.masks.append(share(*arguments))
        return noted.masks[-1]

    def noting_fresh(_cls):
        seed = fresh()
        noted.seeds.append(seed.reveal())
        return seed

    monkeypatch.setattr(offload, "encode", noting_encode)
    monkeypatch.setattr(masks, "dealer_share", noting_share)
    monkeypatch.setattr(Seed, "fresh", classmethod(noting_fresh))
    return noted


@pytest.fixture(scope="module")
def running(package, tmp_path_factory) -> Iterator[tuple[list[str], Path]]:
    """Addresses of two servers at debug level, and the folder with their logs, HOME and TMPDIR."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield [stack.enter_context(debugged_server(package, index, folder)) for index in range(2)], folder


@pytest.fixture
def recorders(running, tmp_path, monkeypatch, caplog) -> Iterator[list[Recorder]]:
    """In front of the servers; this process gets a TMPDIR and HOME of its own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    with recording(*running[0]) as recorders:
        yield recorders


def draw(package, recorders, **options):
    """One step; raises what the call raises."""
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=recorders[0].address, dealers=[recorders[1].address], timeout=30
    ) as pipe:
        return pipe(PROMPT, negative_prompt=NEGATIVE, output_type="np", **({"num_inference_steps": 1} | options))


@pytest.fixture
def everything(recorders, running, tmp_path, caplog, capfd):
    """A function that collects all that was said, written and sent."""

    def collect() -> Evidence:
        out, err = capfd.readouterr()
        evidence = Evidence({"log": caplog.text.encode(), "stdout": out.encode(), "stderr": err.encode()})
        evidence.content |= files_below(tmp_path) | files_below(running[1])
        evidence.add_traffic(recorders)
        return evidence

    return collect


def test_a_seed_goes_to_its_dealer_and_everything_else_nowhere(package, recorders, secrets, everything):
    def keep(_pipe, _step, _timestep, tensors):
        secrets.latents.append(tensors["latents"])
        return tensors

    before = requests_in(everything())
    picture = draw(package, recorders, callback_on_step_end=keep)
    secrets.latents.append(picture.images)
    evidence = everything()
    assert search(secrets.canaries(), evidence.content) == {("seed", "to dealer")}
    assert requests_in(evidence) - before == len(secrets.encoded) == len(secrets.seeds) > 180


def requests_in(evidence):
    return evidence.content["server-0.log"].count(b'"event": "request"')


def test_a_weak_build_is_found_out(package, recorders, secrets, everything, tmp_path, monkeypatch):
    """It names requests after activations, logs scales and keeps activations in a file."""
    ask, request, decode, held = direct.ask, transport._request_from_tensors, offload.decode, threading.local()
    cache = tmp_path / "tmp" / "activations"

    def noting_ask(ring, x, *rest):
        held.x = ring.to_digits(ring.reduce(x)).tobytes()[:4096].hex()
        return ask(ring, x, *rest)

    def leaking_request(model, tensors):
        message = request(model, tensors)
        message.id = held.x
        return message

    def leaking_decode(y, scale, *rest):
        logging.getLogger("weak").debug("scale %r", scale)
        if not cache.exists():
            cache.write_bytes(secrets.activations[0].tobytes())
        return decode(y, scale, *rest)

    monkeypatch.setattr(direct, "ask", noting_ask)
    monkeypatch.setattr(transport, "_request_from_tensors", leaking_request)
    monkeypatch.setattr(offload, "decode", leaking_decode)
    draw(package, recorders, guidance_scale=1.0)
    found = search(secrets.canaries(), everything().content)
    assert found >= {
        ("digits", "to evaluator"),
        ("scale", "log"),
        ("activation", "tmp/activations"),
        ("seed", "to dealer"),
    }


def flip_a_bit(monkeypatch):
    """Every answer is a lie."""
    before = transport._tensors_from_response

    def lying(response):
        first, *rest = before(response)
        content = bytes([first.content[0] ^ 1]) + first.content[1:]
        return [Tensor(first.name, first.datatype, first.shape, content), *rest]

    monkeypatch.setattr(transport, "_tensors_from_response", lying)


def hang_up(recorders):
    """After the first step the dealer is gone."""

    def callback(_pipe, _step, _timestep, tensors):
        recorders[1].cut()
        return tensors

    return callback


@pytest.mark.parametrize("expected", [CheckError, PeerError, NonFiniteError])
def test_errors_hold_no_secret(package, recorders, secrets, everything, monkeypatch, expected):
    options = {"guidance_scale": 1.0, "num_inference_steps": 2}
    if expected is CheckError:
        flip_a_bit(monkeypatch)
    elif expected is PeerError:
        options["callback_on_step_end"] = hang_up(recorders)
    else:
        options["latents"] = np.full((1, 4, 16, 16), 3e38, np.float32)
    with pytest.raises(expected) as error:
        draw(package, recorders, **options)
    evidence = everything()
    told = "".join(traceback.format_exception(error.value)) + repr(error.value) + repr(error.value.args)
    evidence.content["error"] = told.encode()
    known_to_dealer = {("seed", "to dealer")} | (
        {("mask", "to dealer")} if expected is CheckError else set()
    )  # in a dispute
    assert search(secrets.canaries(), evidence.content) == known_to_dealer
    assert "Error" in told
    planted = {"error": f"{told} {PROMPT.partition(' ')[0]} {secrets.seeds[0].hex()}".encode()}
    assert search(secrets.canaries(), planted) == {("prompt", "error"), ("seed", "error")}
