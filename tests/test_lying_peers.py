"""Servers that lie, die or hang: the client says which one, and leaves nothing behind."""

import signal
import time

import numpy as np
import pytest
from command_line import ppidm, serving, start_ppidm
from wiretap import Wiretap

PROMPT = "red apple"


@pytest.fixture
def failing(package, tmp_path):
    """A call of generate that must fail; returns its error."""

    def generate(evaluator, dealer, status, *arguments):
        common = "--evaluator", evaluator, "--dealer", dealer, "--output", tmp_path / "picture.png"
        shown = ppidm("generate", package / "client", PROMPT, *common, *arguments)
        assert (shown.status, shown.out) == (status, "")
        assert list(tmp_path.iterdir()) == []
        [line] = shown.err.splitlines()
        return line

    return generate


# liars


def other_shape(_slice, response):
    response.outputs[0].shape[0] += 1


def transposed(_slice, response):
    response.outputs[0].shape[:] = reversed(response.outputs[0].shape)


def other_datatype(_slice, response):
    response.outputs[0].datatype = "FP32"


def other_name(_slice, response):
    response.outputs[0].name = "answer_9"


def one_output_fewer(_slice, response):
    del response.outputs[-1], response.raw_output_contents[-1]


def one_output_more(_slice, response):
    response.outputs.append(response.outputs[0])
    response.raw_output_contents.append(response.raw_output_contents[0])


def no_content(_slice, response):
    del response.raw_output_contents[:]


def too_few_bytes(_slice, response):
    response.raw_output_contents[0] = response.raw_output_contents[0][:-4]


def too_many_bytes(_slice, response):
    response.raw_output_contents[0] += bytes(4)


LIES = {
    other_shape: "answer of shape",
    transposed: "answer of shape",
    other_datatype: "is 'FP32'; expected INT32",
    other_name: "an answer with tensors ['answer_9'",
    one_output_fewer: "an answer with tensors ",
    one_output_more: "an answer with tensors ['answer_0', ",
    no_content: "outputs and 0 raw contents; expected one content per output",
    too_few_bytes: " needs ",
    too_many_bytes: " needs ",
}


@pytest.mark.parametrize("role", ["evaluator", "dealer"])
@pytest.mark.parametrize("lie", LIES)
def test_an_answer_of_another_form(failing, servers, lie, role):
    with Wiretap(servers[0]) as tap:
        tap.alter = lie
        addresses = (tap.address, servers[1]) if role == "evaluator" else (servers[1], tap.address)
        error = failing(*addresses, 4)
    assert error.startswith(f"ppidm: {role} {tap.address}: ")
    assert LIES[lie] in error


def wrong_sum(_slice, response):
    answers = np.frombuffer(response.raw_output_contents[0], "<i4").copy()
    answers[0] ^= np.int32(1 << 30)
    response.raw_output_contents[0] = answers.tobytes()


@pytest.mark.parametrize("role", ["evaluator", "dealer"])
def test_a_wrong_answer_names_all_who_took_part(failing, servers, role):
    with Wiretap(servers[0]) as tap:
        tap.alter = lambda name, response: wrong_sum(name, response) if name == "conv_out" else None
        addresses = (tap.address, servers[1]) if role == "evaluator" else (servers[1], tap.address)
        error = failing(*addresses, 3, "--num-inference-steps", "1", "--guidance-scale", "1")
    assert "conv_out" in error
    assert f"evaluator {addresses[0]}, dealer {addresses[1]}" in error


# the dead


@pytest.mark.parametrize(
    ("role", "number", "message"),
    [
        ("evaluator", signal.SIGKILL, "UNAVAILABLE, "),
        ("dealer", signal.SIGKILL, "UNAVAILABLE, "),
        ("dealer", signal.SIGSTOP, "DEADLINE_EXCEEDED, "),
    ],
)
def test_a_server_that_dies_or_hangs_in_the_middle(package, servers, tmp_path, role, number, message):
    """After hundreds of answers, in a picture of 50 steps."""
    with serving(package / "server-0") as server, Wiretap(servers[1]) as tap:
        addresses = {"EVALUATOR": tap.address, "DEALER": tap.address} | {role.upper(): server.address}
        arguments = "--output", tmp_path / "picture.png", "--timeout", "5"
        with start_ppidm("generate", package / "client", PROMPT, *arguments, **addresses) as process:
            wait_until(lambda: len(tap.calls) > 200 or process.poll() is not None)
            server.process.send_signal(number)
            signalled = time.monotonic()
            out, err = process.communicate(timeout=60)
    assert len(tap.calls) > 200
    assert time.monotonic() - signalled < 20
    assert (process.returncode, out) == (4, "")
    assert err.startswith(f"ppidm: {role} {server.address} failed: {message}")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def wait_until(done):
    deadline = time.monotonic() + 60
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
