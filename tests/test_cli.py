"""What the command line shows, and the settings that it reads."""

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from command_line import ppidm, refused

import ppidm as package_of_ours
from ppidm.cli import app
from ppidm.client.command import GenerateSettings
from ppidm.client.connected import Connection
from ppidm.client.exchange import Mode
from ppidm.client.links import LinkSettings
from ppidm.client.run_command import RunSettings
from ppidm.engines.build import BuildResult, BuildSettings
from ppidm.engines.choice import EngineChoice
from ppidm.export.settings import ExportResult, ExportSettings, OffloadChoice
from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.runtime.links import LinkSettings as ServerLinks
from ppidm.runtime.server import ServeSettings

COMMANDS = typer.main.get_command(app).commands
OPTIONS = [
    pytest.param(command, option, id=f"{command} {option.opts[0]}")
    for command in COMMANDS
    for option in COMMANDS[command].params
    if option.param_type_name == "option"
]
GENERATE = ("generate", "OUT/client", "red apple", "--evaluator", "127.0.0.1:1", "--dealer", "127.0.0.1:2")


# help


def test_the_root_help_is_a_quick_start():
    shown = ppidm("--help").out
    places = [shown.index(line) for line in ("1. ", "ppidm export", "2. ", "ppidm serve", "3. ", "ppidm generate")]
    assert places == sorted(places)
    assert all(command in shown for command in COMMANDS)


def test_the_quick_start_is_right():
    """Its words are names of commands and options that there are."""
    lines = [line.strip(" │") for line in ppidm("--help").out.splitlines()]
    steps = [line.split() for line in lines if line.startswith(("ppidm ", "--evaluator"))]
    assert {words[1] for words in steps if words[0] == "ppidm"} == {"export", "serve", "generate"}
    known = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    assert {word for words in steps for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_command(command, flag):
    shown = ppidm(command, flag)
    assert shown.status == 0
    assert f"\n ppidm {command} " in shown.out  # an example
    assert "Exit status: 0 done; 2 usage or bad input; 3 an answer failed the check; 4 a server failed" in shown.out


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_has_help_and_a_variable(command, option):
    name = option.opts[0].removeprefix("--").replace("-", "_").upper()
    assert option.envvar == f"PPIDM_{name}"
    assert f"[env var: PPIDM_{name}]" in ppidm(command, "--help").out
    assert option.help


def test_there_are_options():
    assert {option.values[0] for option in OPTIONS} == {
        "export",
        "build",
        "serve",
        "generate",
        "run",
        "check-keys",
        "doctor",
        "inspect",
    }


def test_version():
    assert ppidm("--version").out == f"ppidm {package_of_ours.__version__}\n"


# settings


@pytest.fixture
def generated(monkeypatch):
    """The settings that `generate` was called with."""
    calls = []
    monkeypatch.setattr("ppidm.client.command.generate", lambda settings, _: calls.append(settings) or [Path("a.png")])
    return calls


def test_defaults_of_generate(generated):
    assert ppidm(*GENERATE).out == "a.png\n"
    [settings] = generated
    assert settings == GenerateSettings(Connection(Path("OUT/client"), "127.0.0.1:1", ("127.0.0.1:2",)), "red apple")
    assert settings.connection.verify


PINS = "localhost:1=" + "ab" * 32, "localhost:2=" + "cd" * 32
CHOSEN = GenerateSettings(
    connection=Connection(
        package=Path("OUT/client"),
        evaluator="localhost:1",
        dealers=("localhost:2", "localhost:3"),
        signer=Path("signer.pem"),
        check=Path("check"),
        verify=False,
        audit=0.25,
        mode=Mode.RELAY,
        timeout=2.5,
        links=LinkSettings(PINS, Path("ca"), Path("cert"), Path("key"), Path("tokens")),
    ),
    prompt="red apple",
    negative_prompt="blurry, dark",
    num_inference_steps=7,
    guidance_scale=3.5,
    num_images_per_prompt=2,
    scheduler="LCMScheduler",
    seed=5,
    latents=Path("latents.npy"),
    image=Path("apple.png"),
    strength=0.6,
    height=96,
    width=32,
    output=Path("b.png"),
    metadata=True,
    report=Path("r.json"),
)
VALUES = {  # of every option of generate
    "evaluator": "localhost:1",
    "dealer": "localhost:2 localhost:3",
    "negative-prompt": "blurry, dark",
    "num-inference-steps": "7",
    "guidance-scale": "3.5",
    "num-images-per-prompt": "2",
    "scheduler": "LCMScheduler",
    "seed": "5",
    "latents": "latents.npy",
    "image": "apple.png",
    "strength": "0.6",
    "height": "96",
    "width": "32",
    "output": "b.png",
    "metadata": "on",
    "signer": "signer.pem",
    "report": "r.json",
    "check": "check",
    "verify": "off",
    "audit": "0.25",
    "mode": "relay",
    "timeout": "2.5",
    "pin": " ".join(PINS),
    "ca": "ca",
    "tls-cert": "cert",
    "tls-key": "key",
    "token-file": "tokens",
}


def test_every_option_of_generate_from_the_environment(generated):
    assert set(VALUES) == {option.values[1].opts[0][2:] for option in OPTIONS if option.values[0] == "generate"}
    settings = {name.replace("-", "_").upper(): value for name, value in VALUES.items()}
    assert ppidm("generate", "OUT/client", "red apple", **settings).status == 0
    assert generated == [CHOSEN]


def test_every_option_of_generate_from_the_command_line(generated):
    pairs = [(f"--{name}", value) for name, value in VALUES.items() if name not in ("dealer", "pin")]
    pairs += [("--dealer", "localhost:2"), ("--dealer", "localhost:3"), *(("--pin", pin) for pin in PINS)]
    assert ppidm("generate", "OUT/client", "red apple", *[word for pair in pairs for word in pair]).status == 0
    assert generated == [CHOSEN]


def test_the_command_line_wins(generated):
    assert ppidm(*GENERATE, DEALER="127.0.0.1:8 127.0.0.1:9", EVALUATOR="127.0.0.1:7").status == 0
    connection = generated[0].connection
    assert (connection.evaluator, connection.dealers) == ("127.0.0.1:1", ("127.0.0.1:2",))


def test_a_bad_value_in_the_environment():
    shown = ppidm(*GENERATE, NUM_INFERENCE_STEPS="many")
    assert shown.status == 2
    assert "Invalid value for '--num-inference-steps' (env var: 'PPIDM_NUM_INFERENCE_STEPS')" in shown.err


def test_the_settings_show_no_prompt():
    assert "apple" not in repr(CHOSEN)
    assert "blurry" not in repr(CHOSEN)


@pytest.fixture
def exported(monkeypatch):
    calls = []
    result = ExportResult(Path("OUT"), 96, 113, 1e-6, 64.6)
    monkeypatch.setattr("ppidm.export.package.export_package", lambda settings, _: calls.append(settings) or result)
    return calls


def test_options_of_export(exported):
    shown = ppidm("export", "MODEL", "OUT")
    assert shown.out.startswith("OUT: 96 slices, 113 client segments, 2 servers; ")
    ppidm("export", "MODEL", "OUT", SERVERS=5, OFFLOAD="conv", RETRACE=1, FORCE="true")
    ppidm("export", "MODEL", "OUT", "--servers", "5", "--offload", "conv", "--retrace", "--force")
    chosen = ExportSettings("MODEL", Path("OUT"), 5, OffloadChoice.CONV, retrace=True, force=True)
    assert exported == [ExportSettings("MODEL", Path("OUT")), chosen, chosen]


def test_what_export_takes_to_servers(exported):
    ppidm("export", "MODEL", "OUT", "--offload", "0.67", "--components", "unet,vae")
    [settings] = exported
    assert (settings.offload, settings.components) == (0.67, ("unet", "vae"))
    for offload in ("most", "0", "1.5", "nan"):
        assert "expected all, conv, or a share of the FLOPs" in refused("export", "MODEL", "OUT", OFFLOAD=offload)
    for components in ("vae", "unet,vae,text"):
        assert "expected unet or unet,vae" in refused("export", "MODEL", "OUT", COMPONENTS=components)


def test_export_of_a_graph(monkeypatch):
    calls = []
    result = ExportResult(Path("OUT"), 9, 8, 1e-6, 64.6, 0.5)
    monkeypatch.setattr("ppidm.export.graph_package.export_graph", lambda *arguments: calls.append(arguments) or result)
    words = "export", "a.onnx", "OUT", "--input-shape", "x=1x2", "--input-shape", "y=3"
    assert ppidm(*words).out.startswith("OUT: 9 slices, 8 client segments, 2 servers; 50.0 % of the FLOPs offloaded")
    [(path, settings, _)] = calls
    assert (path, settings.input_shapes) == (Path("a.onnx"), ("x=1x2", "y=3"))


def test_options_of_run(monkeypatch):
    calls = []
    monkeypatch.setattr("ppidm.client.run_command.run", lambda settings: calls.append(settings) or [Path("y.npy")])
    words = "run", "OUT/client", "--output", "DIR", "--evaluator", "localhost:1", "--dealer", "localhost:2"
    assert ppidm(*words, "--input", "a=a.npy", "--input", "b=b.npy").out == "y.npy\n"
    assert ppidm(*words, INPUT="a=a.npy b=b.npy", TIMEOUT=5, VERIFY="off").status == 0
    connection = Connection(Path("OUT/client"), "localhost:1", ("localhost:2",))
    both = RunSettings(connection, ("a=a.npy", "b=b.npy"), Path("DIR"))
    assert calls == [both, replace(both, connection=replace(connection, timeout=5.0, verify=False))]


def test_options_of_build(monkeypatch):
    calls = []

    class Recorded:
        estimate = None

        def __init__(self, settings):
            calls.append(settings)

        def run(self, _):
            return BuildResult(3, 1, (), 0.5)

    monkeypatch.setattr("ppidm.engines.build.Build", Recorded)
    assert ppidm("build", "OUT/server-0", "--engine", "tensorrt").out == "compiled 3 of 3 slices\n"
    ppidm("build", "OUT", ENGINE="tensorrt-rtx", TARGET="sm89 sm120", JOBS=3, LARGEST=4, CACHE="C", SIGNER="S")
    words = "--target", "sm89", "--target", "sm120", "--jobs", "3", "--largest", "4", "--cache", "C", "--signer", "S"
    ppidm("build", "OUT", "--engine", "tensorrt-rtx", *words)
    chosen = BuildSettings(Path("OUT"), "tensorrt-rtx", ("sm89", "sm120"), 3, 4, Path("C"), Path("S"))
    assert calls == [BuildSettings(Path("OUT/server-0"), "tensorrt"), chosen, chosen]


@pytest.fixture
def served(monkeypatch):
    calls = []
    monkeypatch.setattr("ppidm.runtime.server.serve", calls.append)
    return calls


def test_options_of_serve(served):
    ppidm("serve", "OUT/server-0")
    ppidm("serve", "OUT/server-0", LISTEN="[::1]:0", THREADS=2, WORKERS=1, LOG_LEVEL="debug")
    words = "--listen", "[::1]:0", "--threads", "2", "--workers", "1", "--log-level", "debug"
    ppidm("serve", "OUT/server-0", *words)
    chosen = ServeSettings(Path("OUT/server-0"), Address("::1", 0), 2, 1, "debug")
    assert served == [ServeSettings(Path("OUT/server-0")), chosen, chosen]


def test_the_engine_of_serve(served):
    ppidm("serve", "OUT", "--engine", "tensorrt-rtx", "--cache", "C")
    ppidm("serve", "OUT", ENGINE="onnxruntime-cuda")
    assert [settings.engine for settings in served] == [
        EngineChoice("tensorrt-rtx", Path("C")),
        EngineChoice("onnxruntime-cuda"),
    ]
    assert EngineChoice() == EngineChoice("onnxruntime")
    shown = ppidm("serve", "OUT", "--engine", "openvino")
    assert (shown.status, "is not one of" in shown.err) == (2, True)
    with pytest.raises(InputError, match="--engine openvino; expected one of onnxruntime, onnxruntime-cuda, tensorrt"):
        EngineChoice("openvino")


def test_links_of_serve(served):
    ppidm("serve", "OUT", TLS_CERT="cert", TLS_KEY="key", CLIENT_CA="clients", TOKEN_FILE="digests")
    words = "--tls-cert", "cert", "--tls-key", "key", "--client-ca", "clients", "--token-file", "digests"
    ppidm("serve", "OUT", *words)
    links = ServerLinks(Path("cert"), Path("key"), Path("clients"), Path("digests"))
    assert [settings.links for settings in served] == [links, links]
