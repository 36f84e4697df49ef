"""Bad options, and bad files of latents: an error that names the option and says what was expected."""

import pickle

import numpy as np
import pytest
from command_line import refused

PROMPT = "red apple"


@pytest.fixture
def generate(package, servers, tmp_path):
    """A call of generate that must fail, by default before anything is loaded."""

    def generate(*arguments, **settings):
        common = {"EVALUATOR": servers[0], "DEALER": servers[1], "OUTPUT": tmp_path / "picture.png"}
        error = refused("generate", package / "client", PROMPT, *arguments, **common | settings)
        assert not (tmp_path / "picture.png").exists()
        return error

    return generate


def test_seed_and_latents_together(generate):
    assert generate("--seed", "1", "--latents", "a.npy") == (
        "ppidm: --seed and --latents are both given; expected one of them: either draws the initial noise"
    )


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"SEED": -1}, "--seed is -1; expected 0 or more"),
        ({"TIMEOUT": 0}, "--timeout is 0; expected more than 0 and at most 86400 seconds"),
        ({"TIMEOUT": "nan"}, "--timeout is nan; expected more than 0 "),
        ({"TIMEOUT": "inf"}, "--timeout is inf; expected more than 0 "),
        ({"AUDIT": 1.5}, "--audit is 1.5; expected the share of the slices to audit, from 0 to 1"),
        ({"AUDIT": "nan"}, "--audit is nan; expected the share"),
        ({"OUTPUT": "picture.jpg"}, "--output is picture.jpg; expected a name that ends in .png"),
        ({"OUTPUT": "no/such/folder/a.png"}, "--output is no/such/folder/a.png, in "),
        ({"REPORT": "no/such/folder/a.json"}, "--report is no/such/folder/a.json, in "),
        ({"OUTPUT": "a.png", "REPORT": "./a.png"}, "--report and --output are both a.png; expected two files"),
        ({"NUM_IMAGES_PER_PROMPT": 0}, "num_images_per_prompt is 0; expected a whole number, at least 1"),
        ({"HEIGHT": 70}, "height is 70; expected a multiple of 16 pixels from 16 to 4096, for example 64"),
        ({"SCHEDULER": "HeunDiscreteScheduler"}, "this package has no scheduler 'HeunDiscreteScheduler'; it has DDIM"),
        ({"NUM_INFERENCE_STEPS": 101}, "DDIMScheduler cannot do 101 steps in this package; it can do 1-100"),
        (
            {"SCHEDULER": "LCMScheduler", "NUM_INFERENCE_STEPS": 100},
            "LCMScheduler cannot do 100 steps in this package; it can do 1-50",
        ),
        ({"EVALUATOR": "8001"}, "address '8001'; expected HOST:PORT, for example 127.0.0.1:8001"),
        ({"DEALER": "127.0.0.1:99999"}, "address '127.0.0.1:99999': port 99999; expected 0 to 65535"),
        ({"EVALUATOR": "192.0.2.1:8001"}, "address 192.0.2.1:8001 is 192.0.2.1; expected a loopback address"),
        ({"DEALER": "192.0.2.1:8001"}, "address 192.0.2.1:8001 is 192.0.2.1; expected a loopback address"),
    ],
)
def test_bad_settings(generate, settings, error):
    assert generate(**settings).startswith(f"ppidm: {error}")


def test_the_output_is_a_folder(generate, tmp_path):
    (tmp_path / "a.png").mkdir()
    assert generate(OUTPUT=tmp_path / "a.png") == (
        f"ppidm: --output is {tmp_path / 'a.png'}, a folder; expected a file in an existing folder"
    )
    (tmp_path / "b-1.png").mkdir()
    assert "b-1.png, a folder" in generate(OUTPUT=tmp_path / "b.png", NUM_IMAGES_PER_PROMPT=2)


GOOD = np.zeros((1, 4, 16, 16), np.float32)


def saved(path, array):
    np.save(path, array, allow_pickle=True)


def pickled(path, array):
    path.write_bytes(pickle.dumps(array))


def archived(path, array):
    with path.open("wb") as file:
        np.savez(file, array)


def cut(path, array):
    np.save(path, array)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("write", "content", "error"),
    [
        (saved, GOOD.astype(np.float64), r"latents is float64(1, 4, 16, 16); expected float32(1, 4, 16, 16)"),
        (saved, GOOD[0], r"latents is float32(4, 16, 16); expected float32(1, 4, 16, 16)"),
        (saved, GOOD[:, :, :8], r"latents is float32(1, 4, 8, 16); expected float32(1, 4, 16, 16)"),
        (saved, GOOD + np.float32("nan"), "latents holds inf or nan; expected finite noise"),
        (saved, GOOD - np.float32("inf"), "latents holds inf or nan; expected finite noise"),
        (saved, GOOD.astype(object), "--latents is FILE: Object arrays cannot be loaded when allow_pickle=False"),
        (pickled, GOOD, "--latents is FILE: the magic string is not correct"),
        (archived, GOOD, "--latents is FILE: the magic string is not correct"),
        (cut, GOOD, "--latents is FILE: "),
        (
            lambda path, _: path.write_text("standard normal noise"),
            None,
            "--latents is FILE: the magic string is not correct",
        ),
        (lambda path, _: path.write_bytes(b""), None, "--latents is FILE: EOF: reading magic string"),
        (lambda path, _: path.mkdir(), None, "--latents is FILE: Is a directory"),
        (lambda _path, _: None, None, "--latents is FILE: No such file or directory"),
    ],
)
def test_bad_latents(generate, tmp_path, write, content, error):
    path = tmp_path / "latents.npy"
    write(path, content)
    got = generate("--latents", path)
    assert got.startswith(f"ppidm: {error.replace('FILE', str(path))}")
    if "FILE" in error:
        assert got.endswith("; expected one array of float32 in a .npy file")


# serve


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8001"])
def test_serve_listens_on_loopback_only(package, address):
    host = address.rpartition(":")[0].strip("[]")
    error = refused("serve", package / "server-0", LISTEN=address)
    assert error.startswith(f"ppidm: address {address} is {host}; expected a loopback address")
    assert "give --tls-cert and --tls-key" in error


def test_serve_with_a_peer_that_is_none(package):
    error = refused("serve", package / "server-0", "--allow-peer", "gpu.example.org")
    assert error.startswith("ppidm: address 'gpu.example.org'; expected HOST:PORT")


def test_serve_on_a_port_in_use(package, servers):
    error = refused("serve", package / "server-0", "--listen", servers[0])
    assert error == (
        f"ppidm: cannot listen on {servers[0]}: Address already in use; stop what uses it, or choose another port "
        "(0 picks a free one)"
    )


def test_serve_with_no_workers(package):
    assert "workers 0; expected at least 0 threads and 1 worker" in refused(
        "serve", package / "server-0", "--workers", "0", "--listen", "127.0.0.1:0"
    )
