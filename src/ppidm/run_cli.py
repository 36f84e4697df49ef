"""`ppidm run`: its options, parsed into frozen settings."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations)
from typing import Annotated

import typer

from ppidm.options import (
    Audit,
    Ca,
    Check,
    Dealer,
    Evaluator,
    Mode,
    Pin,
    Report,
    Signer,
    Timeout,
    TlsCert,
    TlsKey,
    TokenFile,
    Verify,
    import_late,
    setting,
)


def run(
    package: Annotated[Path, typer.Argument(help="OUT/client of `ppidm export FILE.onnx OUT`.")],
    *,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", envvar="PPIDM_INPUT", help="NAME=FILE.npy, float32. Repeatable; in the variable, by spaces."
        ),
    ],
    output: Annotated[Path, setting("OUTPUT", "Folder to write to: one NAME.npy per output.")],
    evaluator: Evaluator,
    dealer: Dealer,
    report: Report = None,
    check: Check = None,
    signer: Signer = None,
    verify: Verify = "on",
    audit: Audit = 0.05,
    mode: Mode = "direct",
    timeout: Timeout = 60.0,
    pin: Pin = [],  # noqa: B006  (typer copies it)
    ca: Ca = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
) -> None:
    """Run any exported graph on servers that learn nothing of its inputs and outputs.

    [cyan]ppidm run package/client --input x=x.npy --output results
        --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002[/]

    Servers see the sizes of the inputs, and timing. See `ppidm generate` for links
    and servers.
    """
    command = import_late("ppidm.client.run_command", "")
    links = import_late("ppidm.client.links", "").LinkSettings(tuple(pin), ca, tls_cert, tls_key, token_file)
    connection = import_late("ppidm.client.connected", "").Connection(
        package=package,
        evaluator=evaluator,
        dealers=tuple(dealer),
        check=check,
        verify=verify == "on",
        audit=audit,
        mode=import_late("ppidm.client.exchange", "").Mode(mode),
        signer=signer,
        timeout=timeout,
        links=links,
    )
    settings = command.RunSettings(connection, tuple(inputs), output, report)
    for path in command.run(settings):
        typer.echo(str(path))
