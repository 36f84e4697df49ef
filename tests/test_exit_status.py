"""Exit statuses, what goes where, and what is left behind."""

import json
import signal
import socket
import time

import pytest
from command_line import ppidm, run_ppidm, start_ppidm
from wiretap import Wiretap

GENERATE = ("generate", "OUT/client", "red apple", "--evaluator", "127.0.0.1:1", "--dealer", "127.0.0.1:2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: ppidm"),
        (["paint"], "No such command 'paint'"),
        (["generate", "OUT/client"], "Missing argument"),
        (
            ["generate", "OUT/client", "red", "--evaluator", "a:1"],
            r"Missing option '--dealer' (env var: 'PPIDM_DEALER')",
        ),
        (["generate", "OUT/client", "red", "--dealer", "a:1"], r"Missing option '--evaluator'"),
        ([*GENERATE, "--seed", "x"], "Invalid value for '--seed'"),
        ([*GENERATE, "--verify", "maybe"], "'maybe' is not one of 'on', 'off'"),
        ([*GENERATE, "--sed", "1"], "No such option: --sed"),
        ([*GENERATE, "surplus"], "unexpected extra argument"),
        (["export", "MODEL", "OUT", "--offload", "some"], "--offload is 'some'; expected all, conv, or a share"),
    ],
)
def test_wrong_usage(arguments, message):
    shown = ppidm(*arguments)
    assert shown.status == 2
    assert message in shown.err + (shown.out if not arguments else "")


def test_status_2_of_a_process():
    shown = run_ppidm("generate", "OUT/client", "red apple", "--evaluator", "127.0.0.1:1")
    assert (shown.status, shown.out) == (2, "")
    assert "Missing option '--dealer'" in shown.err
    shown = run_ppidm("inspect", "no/such/folder")
    assert (shown.status, shown.out) == (2, "")
    assert shown.err.startswith("ppidm: no/such/folder/manifest.json: not a readable manifest")
    assert len(shown.err.splitlines()) == 1


def flip_a_bit(_slice, response):
    content = bytearray(response.raw_output_contents[0])
    content[-1] ^= 1
    response.raw_output_contents[0] = bytes(content)


def test_status_3_of_a_process(package, servers, tmp_path):
    output = tmp_path / "picture.png"
    with Wiretap(servers[0]) as tap:
        tap.alter = flip_a_bit
        arguments = "--evaluator", tap.address, "--dealer", servers[1], "--output", output
        shown = run_ppidm("generate", package / "client", "red apple", *arguments)
    assert (shown.status, shown.out) == (3, "")
    assert f"evaluator {tap.address}, dealer {servers[1]}" in shown.err
    assert "lied or is broken" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_status_4_of_a_process(package, servers, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    arguments = "--evaluator", servers[0], "--dealer", nobody, "--output", tmp_path / "picture.png"
    shown = run_ppidm("generate", package / "client", "red apple", *arguments)
    assert (shown.status, shown.out) == (4, "")
    assert f"dealer {nobody} failed: UNAVAILABLE" in shown.err
    assert "is `ppidm serve` running there?" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(package, servers, tmp_path):
    output = tmp_path / "picture.png"
    with Wiretap(servers[0]) as tap:
        arguments = "--evaluator", tap.address, "--dealer", servers[1], "--output", output
        with start_ppidm("generate", package / "client", "red apple", *arguments) as process:
            deadline = time.monotonic() + 60
            while not tap.calls and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert tap.calls
    assert (process.returncode, out, err) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_operating_system_is_no_traceback(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "a.png")

    monkeypatch.setattr("ppidm.client.command.generate", full)
    shown = ppidm(*GENERATE)
    assert (shown.status, shown.err) == (2, "ppidm: a.png: No space left on device\n")


def test_a_bug_of_ours_is_a_traceback(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("ppidm.client.command.generate", broken)
    with pytest.raises(ZeroDivisionError):
        ppidm(*GENERATE)


# serve and inspect


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_one_line_and_ends_with_status_0(package, number):
    with start_ppidm("serve", package / "server-1", LISTEN="127.0.0.1:0") as process:
        line = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert line.startswith("listening on 127.0.0.1:")
    assert 0 < int(line.rpartition(":")[2]) < 65536
    assert (process.returncode, out) == (0, "")
    events = [json.loads(row)["event"] for row in err.splitlines()]
    assert events == ["loading", "loaded", "listening", "stopping", "stopped"]


@pytest.mark.parametrize("kind", ["client", "server-0"])
def test_inspect_prints_every_slice(package, kind):
    shown = run_ppidm("inspect", package / kind) if kind == "client" else ppidm("inspect", package / kind)
    assert (shown.status, shown.err) == (0, "")
    manifest = json.loads((package / kind / "manifest.json").read_text())
    assert manifest["package"] in shown.out
    rows = {line.split()[0]: line for line in shown.out.splitlines() if line.strip()}
    for subgraph in manifest["slices"]:
        row = rows[subgraph["name"]]
        assert "x".join(map(str, subgraph["nominal_shape"])) in row.split()
        assert " 2^32 " in row
        assert f"{max(layer['bound'] for layer in subgraph['layers']) / 2**24:.2f}" in row.split()
    convolution = rows["conv_in"].split()  # 4 -> 64 channels, 3x3, at 16x16
    flops, up, down = 2 * 16 * 16 * 4 * 64 * 9, 4 * 16 * 16 * 4, 4 * 16 * 16 * 64
    assert {f"{flops / 1e6:.2f}", f"{up / 1e3:.1f}", f"{down / 1e3:.1f}"} <= set(convolution)
