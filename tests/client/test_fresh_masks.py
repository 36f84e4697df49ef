"""Masks are fresh whatever is fixed: the image seed, global generators, a fork."""

import os
import subprocess
import sys

import numpy as np
import pytest

FORK = """
import os, sys
from pathlib import Path
import numpy as np
from ppidm.client.account import Account
from ppidm.client.offload import Offloader
from ppidm.client.package import load_package
from ppidm.client.servers import Servers
from ppidm.client.transport import Traffic
from ppidm.protocol.errors import PeerError

class Deaf:
    traffic = Traffic(0, 0)

    def ask(self, name, tensors):
        os.write(1, tensors[0].content.hex()[:256].encode() + b"\\n")
        return self.hang_up

    def hang_up(self):
        raise PeerError("deaf")

package = load_package(Path(sys.argv[1]))
servers = Servers(Deaf(), (Deaf(), Deaf()))

def ask_once():
    try:
        Offloader(package, servers, Account(servers))("conv_in", np.ones((1, 16, 16, 4), np.float32))
    except PeerError:
        pass

status = 1
try:
    ask_once()  # whatever state there may be now exists before the forks
    first, second = os.fork(), os.fork()
    ask_once()
    own = [child for child in ((first, second) if second else ()) if child]
    status = any([os.waitpid(child, 0)[1] for child in own])
finally:
    os._exit(status)
"""


def test_two_calls_with_one_image_seed_share_no_seed_and_give_one_picture(first, again):
    """The fixtures set `random` and `numpy.random` to the same state before each call, too."""
    assert np.array_equal(first.result.images, again.result.images)
    assert not set(first.seeds()) & set(again.seeds())


def test_the_seeds_of_two_dealers_differ_within_every_request(first):
    views = [{(call.slice, call.tensors["seed"]) for call in view} for view in first.dealers]
    assert len(views[0]) == len(views[1]) == len(first.evaluator)
    assert not views[0] & views[1]
    assert len(set(first.seeds())) == 2 * len(first.evaluator)


def test_masks_take_nothing_from_the_image_generator(pipe, record):
    """After a call it is where the latents and the noise of the sampler alone would have brought it."""
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    shape = record(pipe, generator=rng, num_inference_steps=1, guidance_scale=1).result.images.shape
    twin.standard_normal(shape, np.float32)
    assert rng.bit_generator.state == twin.bit_generator.state
    record(pipe, generator=rng, num_inference_steps=2, guidance_scale=1, scheduler="EulerAncestralDiscreteScheduler")
    for _ in range(1 + 2):
        twin.standard_normal(shape, np.float32)
    assert rng.bit_generator.state == twin.bit_generator.state


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_clients_repeat_nothing(package):
    """A client before and after two forks, its two children and their child: five requests, to three servers each."""
    # Libraries may have started threads; Python 3.12 warns of a fork then. These threads do nothing here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(package / "client")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    sent = run.stdout.split()
    assert len(sent) == len(set(sent)) == 3 * 5
