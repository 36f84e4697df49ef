"""`ppidm keys`: what operators and clients need for links outside of loopback, and what to do with it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ppidm.keys import KeyFiles

_DAYS = 365
_PORT = 8001
app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def _root() -> None:
    """Make certificates, pins and tokens for servers outside of loopback.

    Each operator, for certificate and pin, and for a client's token:

    [cyan]ppidm keys server KEYS --host gpu.example.org[/]
    [cyan]ppidm keys token KEYS --name alice[/]

    A client, where operators ask for certificates rather than tokens:

    [cyan]ppidm keys client KEYS[/]

    Who exports packages for others, to sign them:

    [cyan]ppidm keys sign KEYS[/]

    Certificates and pins are public; keys and tokens are not. Nothing is ever
    overwritten.
    """


@app.command()
def server(
    directory: Annotated[Path, typer.Argument(help="Folder to write to.")],
    *,
    host: Annotated[
        list[str],
        typer.Option(envvar="PPIDM_HOST", help="Name or IP address by which clients reach the server. Repeatable."),
    ],
    days: Annotated[int, typer.Option(envvar="PPIDM_DAYS", help="Until it expires.")] = _DAYS,
) -> None:
    """Make a server's key and certificate, and the pin for its clients.

    [cyan]ppidm keys server KEYS --host gpu.example.org[/]
    """
    from ppidm.keys import make_server_keys  # noqa: PLC0415  (`ppidm --help` stays fast)

    files = make_server_keys(directory, host, days)
    shown = f"[{host[0]}]" if ":" in host[0] else host[0]
    _tell(files)
    typer.echo(
        "\nFor your clients, with the port that you use, by a way that they trust (not the network that it protects):\n"
        f"  --pin {shown}:{_PORT}={files.fingerprint}\n"
        "\nThen make a token for each client (or get its certificate, and give --client-ca), and serve:\n"
        f"  ppidm keys token {directory} --name NAME\n"
        f"  ppidm serve OUT/server-0 --listen 0.0.0.0:{_PORT} --tls-cert {files.certificate} --tls-key {files.key} \\\n"
        f"      --token-file {directory / 'tokens.sha256'}"
    )


@app.command()
def client(
    directory: Annotated[Path, typer.Argument(help="Folder to write to.")],
    *,
    name: Annotated[str, typer.Option(envvar="PPIDM_NAME", help="Of the client; operators see it.")] = "client",
    days: Annotated[int, typer.Option(envvar="PPIDM_DAYS", help="Until it expires.")] = _DAYS,
) -> None:
    """Make a client's key and certificate.

    [cyan]ppidm keys client KEYS[/]

    One certificate serves for all servers: unlike a token, it lets no operator
    pass for you at another one.
    """
    from ppidm.keys import make_client_keys  # noqa: PLC0415

    files = make_client_keys(directory, name, days)
    _tell(files)
    typer.echo(
        f"\nGive {files.certificate} to each operator, who adds it to the file of --client-ca:\n"
        f"  cat {files.certificate.name} >> clients.pem\n"
        "  ppidm serve OUT/server-0 ... --client-ca clients.pem\n"
        "\nYour own options:\n"
        f"  ppidm generate OUT/client ... --tls-cert {files.certificate} --tls-key {files.key}"
    )


@app.command()
def token(
    directory: Annotated[Path, typer.Argument(help="The operator's folder.")],
    *,
    name: Annotated[str, typer.Option(envvar="PPIDM_NAME", help="Of the client that gets it.")],
) -> None:
    """Make a bearer token for a client of this operator.

    [cyan]ppidm keys token KEYS --name alice[/]

    A token belongs to one operator's server: who gets it could pass for the
    client at any other server that takes it.
    """
    from ppidm.keys import make_token_files  # noqa: PLC0415

    files = make_token_files(directory, name)
    typer.echo(
        f"{files.token}: secret; give it to {name} by a way that nobody else reads, and delete it here\n"
        f"{files.digests}: its SHA-256 was added, for `ppidm serve --token-file`; start the server anew. To revoke the "
        "token, take the line out\n"
        "\nThe client's file, one line per server:\n"
        "  HOST:PORT TOKEN\n"
        "\nand the client's option:\n"
        "  ppidm generate OUT/client ... --token-file FILE"
    )


@app.command()
def sign(directory: Annotated[Path, typer.Argument(help="Folder to write to.")]) -> None:
    """Make a pair of keys to sign packages with, and to know them by.

    [cyan]ppidm keys sign KEYS[/]
    """
    from ppidm.protocol.signatures import make_signing_keys  # noqa: PLC0415

    private, public = make_signing_keys(directory)
    typer.echo(
        f"{private}: secret; for `ppidm export ... --sign {private}`\n"
        f"{public}: public; give it to operators and users by a way that they trust, for --signer"
    )


def _tell(files: KeyFiles) -> None:
    typer.echo(
        f"{files.certificate}: certificate, public, until {files.expires:%Y-%m-%d}\n"
        f"{files.key}: its key, secret; it never leaves this machine\n"
        f"SHA-256 of the certificate: {files.fingerprint}"
    )
