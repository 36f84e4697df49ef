"""The command line: parses into frozen settings, calls one typed function, turns errors into exit statuses."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import ppidm
from ppidm import keys_cli
from ppidm.console import print_error, stage_progress, step_progress, warnings_on_stderr
from ppidm.hygiene import forbid_core_dumps
from ppidm.protocol.errors import InputError, PpidmError

EPILOG = (
    "Exit status: 0 done; 2 usage or bad input; 3 an answer failed the check; 4 a server failed; 130 interrupted. "
    "Every option can also be set by the environment variable shown beside it; the command line wins."
)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
app.add_typer(keys_cli.app, name="keys", epilog=EPILOG)


def main() -> None:
    """Run the command line; the entry point `ppidm`."""
    forbid_core_dumps()
    try:
        with warnings_on_stderr():
            app(prog_name="ppidm")
    except PpidmError as error:
        print_error(str(error))
        sys.exit(error.exit_status)
    except OSError as error:  # no space left, permission denied: nothing of ours, and no reason for a traceback
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(InputError.exit_status)


def _setting(name: str, help_text: str) -> Any:  # noqa: ANN401
    """An option that the environment variable PPIDM_`name` sets too."""
    return typer.Option(envvar=f"PPIDM_{name}", help=help_text)


Signer = Annotated[
    Path | None,
    _setting("SIGNER", "Ed25519 public key, PEM: refuse the package unless its maker signed it with `export --sign`."),
]


def _print_version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"ppidm {ppidm.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Private image generation with Stable Diffusion on rented servers that nobody has to trust.

    [bold]1.[/] One package for a client and its servers:
       [cyan]ppidm export models/default package[/]
    [bold]2.[/] On two servers of different operators (or in two terminals):
       [cyan]ppidm serve package/server-0 --listen 127.0.0.1:8001[/]
       [cyan]ppidm serve package/server-1 --listen 127.0.0.1:8002[/]
    [bold]3.[/] On your own machine:
       [cyan]ppidm generate package/client "red apple, 3d style"
           --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002[/]
    """


@app.command(epilog=EPILOG)
def export(
    model: Annotated[str, typer.Argument(help="Pipeline folder in diffusers' layout, or hub id.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    *,
    servers: Annotated[int, _setting("SERVERS", "Server directories; all are full copies.")] = 2,
    offload: Annotated[
        Literal["all", "conv"],
        _setting("OFFLOAD", "Linear layers of the U-Net that servers run: all, or convolutions."),
    ] = "all",
    retrace: Annotated[
        bool, typer.Option("--retrace", envvar="PPIDM_RETRACE", help="Trace even if model.onnx is there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", envvar="PPIDM_FORCE", help="Replace OUT if it is a package.")
    ] = False,
    sign: Annotated[
        Path | None, _setting("SIGN", "Ed25519 private key, PEM, to sign all manifests with; see `ppidm keys sign`.")
    ] = None,
) -> None:
    """Partition a Stable Diffusion pipeline into a client package and server packages.

    [cyan]ppidm export models/default package[/]

    Writes OUT/client (for users), OUT/server-0, OUT/server-1, ... (one per
    operator), and OUT/check: secret and personal, the vectors by which a wrong
    answer is caught. All or nothing; ends with a comparison.

    Needs the extra `partition`; a folder that is not traced yet is traced first,
    which needs the extra `export`.
    """
    package = _import("ppidm.export.package", "partition")
    choice = _import("ppidm.export.offload", "partition").OffloadChoice(offload)
    settings = package.ExportSettings(
        model=model, out=out, servers=servers, offload=choice, retrace=retrace, force=force, sign=sign
    )
    with stage_progress() as report:
        result = package.export_package(settings, report)
    typer.echo(
        f"{result.out}: {result.slices} slices, {result.segments} client segments, {servers} servers; partition error "
        f"{result.partition_error:.1e}, SNR of the quantised U-Net {result.snr_db:.1f} dB"
    )


@app.command(epilog=EPILOG)
def serve(
    directory: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`.")],
    *,
    listen: Annotated[
        str, _setting("LISTEN", "HOST:PORT; outside of loopback with TLS only. Port 0 picks one.")
    ] = "127.0.0.1:8001",
    tls_cert: Annotated[Path | None, _setting("TLS_CERT", "This server's certificate, PEM; see `ppidm keys`.")] = None,
    tls_key: Annotated[Path | None, _setting("TLS_KEY", "Its elliptic-curve key, PEM.")] = None,
    client_ca: Annotated[
        Path | None, _setting("CLIENT_CA", "Certificates of clients that may connect, PEM; others get nothing.")
    ] = None,
    token_file: Annotated[
        Path | None, _setting("TOKEN_FILE", "SHA-256 of bearer tokens, one a line; who has none of them gets nothing.")
    ] = None,
    threads: Annotated[int, _setting("THREADS", "Threads per request; 0: one per core.")] = 0,
    workers: Annotated[int, _setting("WORKERS", "Requests computed at once.")] = 4,
    signer: Signer = None,
    max_scale: Annotated[
        int, _setting("MAX_SCALE", "Largest input, in elements, relative to the model's own picture size.")
    ] = 64,
    memory: Annotated[int, _setting("MEMORY", "MiB for all requests together, beyond the loaded slices.")] = 4096,
    max_requests: Annotated[int, _setting("MAX_REQUESTS", "Requests read, computed or answered at once.")] = 128,
    max_client_requests: Annotated[
        int, _setting("MAX_CLIENT_REQUESTS", "The same for one client (an IP address; an IPv6 /64).")
    ] = 64,
    max_connections: Annotated[int, _setting("MAX_CONNECTIONS", "Connections at once; more are closed.")] = 256,
    max_seconds: Annotated[
        float, _setting("MAX_SECONDS", "From the start of a request until its answer has been taken.")
    ] = 120.0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _setting("LOG_LEVEL", "debug: every request, never its content.")
    ] = "info",
) -> None:
    """Serve the slices of a package over the Open Inference Protocol (KServe v2, gRPC).

    [cyan]ppidm serve package/server-0 --listen 127.0.0.1:8001[/]

    [cyan]ppidm serve package/server-0 --listen 0.0.0.0:8001 --token-file tokens.sha256
        --tls-cert server.pem --tls-key server.key[/]

    Prints `listening on HOST:PORT` when ready; logs go to stderr. A server has no
    fixed role: each request makes it an evaluator (masked activations) or a
    dealer (a seed). On SIGTERM and Ctrl-C it finishes what it has begun.

    Outside of loopback it needs TLS (1.3, nothing older) and --client-ca or
    --token-file; `ppidm keys` makes all of it.

    Its memory stays below that of the loaded slices plus --memory plus 256 MiB,
    whatever clients do. One client gets at most half of it.

    Needs the extra `server`.
    """
    server = _import("ppidm.runtime.server", "server")
    address = _import("ppidm.protocol.address", "server").parse_address(listen)
    links = _import("ppidm.runtime.links", "server").LinkSettings(tls_cert, tls_key, client_ca, token_file)
    limits = _import("ppidm.runtime.limits", "server").Limits(
        max_scale, memory << 20, max_requests, max_client_requests, max_connections, max_seconds
    )
    server.serve(
        server.ServeSettings(
            directory=directory,
            listen=address,
            threads=threads,
            workers=workers,
            log_level=log_level,
            links=links,
            limits=limits,
            signer=signer,
        )
    )


@app.command(epilog=EPILOG)
def generate(
    package: Annotated[Path, typer.Argument(help="OUT/client of `ppidm export`.")],
    prompt: Annotated[str, typer.Argument(help="What to draw. Never leaves this machine.")],
    *,
    evaluator: Annotated[str, _setting("EVALUATOR", "HOST:PORT of the server that gets masked activations.")],
    dealer: Annotated[
        list[str],
        _setting(
            "DEALER",
            "HOST:PORT of a server that gets seeds, of another operator. Repeatable; in the variable, by spaces.",
        ),
    ],
    negative_prompt: Annotated[str | None, _setting("NEGATIVE_PROMPT", "What to keep away from.")] = None,
    num_inference_steps: Annotated[int, _setting("NUM_INFERENCE_STEPS", "Steps of the scheduler.")] = 50,
    guidance_scale: Annotated[float, _setting("GUIDANCE_SCALE", "1 or less turns guidance off: half the work.")] = 7.5,
    num_images_per_prompt: Annotated[int, _setting("NUM_IMAGES_PER_PROMPT", "Pictures.")] = 1,
    scheduler: Annotated[
        str | None,
        _setting("SCHEDULER", "diffusers' class name, such as EulerDiscreteScheduler; the model's own by default."),
    ] = None,
    seed: Annotated[
        int | None, _setting("SEED", "Of the noise: numpy's, so never the picture of torch's. Never of a mask.")
    ] = None,
    latents: Annotated[
        Path | None, _setting("LATENTS", "Initial noise instead: .npy, float32, (N, C, h, w), before scaling.")
    ] = None,
    height: Annotated[int | None, _setting("HEIGHT", "Pixels; the model's own by default.")] = None,
    width: Annotated[int | None, _setting("WIDTH", "Pixels; the model's own by default.")] = None,
    output: Annotated[Path, _setting("OUTPUT", "PNG; of several pictures, NAME-0.png, NAME-1.png, ...")] = Path(
        "picture.png"
    ),
    metadata: Annotated[
        Literal["off", "on"],
        _setting("METADATA", "on: write prompt, seed and settings into the PNG, for whoever gets the file."),
    ] = "off",
    report: Annotated[
        Path | None, _setting("REPORT", "JSON to write: offloaded share, bytes, rounds, seconds.")
    ] = None,
    check: Annotated[
        Path | None, _setting("CHECK", "Your check vectors, OUT/check; PACKAGE/../check by default.")
    ] = None,
    signer: Signer = None,
    verify: Annotated[Literal["on", "off"], _setting("VERIFY", "Check every answer; off is for measurements.")] = "on",
    timeout: Annotated[float, _setting("TIMEOUT", "Seconds that one request may take.")] = 60.0,
    pin: Annotated[
        list[str],
        _setting(
            "PIN",
            "HOST:PORT=SHA256, a server's certificate; one for each server outside of loopback. Repeatable; in the "
            "variable, by spaces.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    ca: Annotated[Path | None, _setting("CA", "Certificates that must vouch for the servers, too, PEM.")] = None,
    tls_cert: Annotated[Path | None, _setting("TLS_CERT", "Your certificate, PEM, for servers that ask.")] = None,
    tls_key: Annotated[Path | None, _setting("TLS_KEY", "Its key, PEM.")] = None,
    token_file: Annotated[
        Path | None,
        _setting(
            "TOKEN_FILE",
            "Your bearer tokens, for servers that ask: lines HOST:PORT TOKEN; or one token for all, but then each "
            "operator can pass for you at the others.",
        ),
    ] = None,
) -> None:
    """Draw a picture on servers that learn nothing of it.

    [cyan]ppidm generate package/client "red apple, 3d style"
        --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002
        --num-inference-steps 25 --guidance-scale 4 --output apple.png[/]

    Prompt, latents and picture stay here. Servers see sizes, the number of steps,
    guidance on or off, and timing. Evaluator and dealer must not collude: rent
    them from different operators. A wrong answer ends the call.

    Servers outside of loopback are reached over TLS 1.3, with the certificate
    that --pin names; get the pins from the operators by a way that you trust.
    """
    command = _import("ppidm.client.command", "")
    links = _import("ppidm.client.links", "").LinkSettings(tuple(pin), ca, tls_cert, tls_key, token_file)
    settings = command.GenerateSettings(
        package=package,
        prompt=prompt,
        evaluator=evaluator,
        dealers=tuple(dealer),
        negative_prompt=negative_prompt,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        num_images_per_prompt=num_images_per_prompt,
        scheduler=scheduler,
        seed=seed,
        latents=latents,
        height=height,
        width=width,
        output=output,
        metadata=metadata == "on",
        report=report,
        check=check,
        verify=verify == "on",
        signer=signer,
        timeout=timeout,
        links=links,
    )
    with step_progress("drawing") as report_step:
        paths = command.generate(settings, report_step)
    for path in paths:
        typer.echo(str(path))


@app.command(epilog=EPILOG)
def check_keys(
    server: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`: the public quantised weights.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, for `ppidm generate --check`.")],
    *,
    force: Annotated[bool, typer.Option("--force", envvar="PPIDM_FORCE", help="Replace OUT.")] = False,
    signer: Signer = None,
) -> None:
    """Draw fresh check vectors for one user.

    [cyan]ppidm check-keys package/server-0 my-check[/]

    Whoever made a client package for others must not know the vectors by which
    wrong answers are caught: draw your own, on your own machine.

    Needs the extra `partition`.
    """
    module = _import("ppidm.export.check_keys", "partition")
    with stage_progress() as report:
        count = module.draw_check_keys(server, out, force=force, signer=signer, progress=report)
    typer.echo(f"{out}: check vectors for {count} slices; secret, and yours alone")


@app.command(epilog=EPILOG)
def inspect(
    directory: Annotated[Path, typer.Argument(help="OUT/client or OUT/server-<i>.")], *, signer: Signer = None
) -> None:
    """Print the partition: every slice with shape, FLOPs, bytes, ring and the bound on its sums.

    [cyan]ppidm inspect package/server-0[/]

    One line per slice, at the model's own picture size: what a client sends to
    the evaluator and gets from each server for one evaluation; and the largest
    sum of a product as a share of 2^24, up to which float32 is exact.
    """
    _import("ppidm.inspection", "").print_partition(directory, signer)


def _import(module: str, extra: str) -> Any:  # noqa: ANN401
    """Import a command's module late: `ppidm --help` stays fast, and the client needs no extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("ppidm"):
            raise
        raise InputError(f"this command needs {error.name}; pip install 'ppidm[{extra}]'") from error
