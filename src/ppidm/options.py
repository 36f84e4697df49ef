"""Options that several commands have, and how commands load their modules."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ppidm.protocol.errors import InputError


def setting(name: str, help_text: str) -> Any:  # noqa: ANN401
    """An option that the environment variable PPIDM_`name` sets too."""
    return typer.Option(envvar=f"PPIDM_{name}", help=help_text)


def import_late(module: str, extra: str) -> Any:  # noqa: ANN401
    """Import a command's module late: `ppidm --help` stays fast, and the client needs no extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("ppidm"):
            raise
        raise InputError(f"this command needs {error.name}; pip install 'ppidm[{extra}]'") from error


Signer = Annotated[
    Path | None,
    setting("SIGNER", "Ed25519 public key, PEM: refuse the package unless its maker signed it with `export --sign`."),
]
Cache = Annotated[
    Path | None, setting("CACHE", "Folder of engines that `ppidm build` compiled; ~/.cache/ppidm/engines by default.")
]
Evaluator = Annotated[str, setting("EVALUATOR", "HOST:PORT of the server that gets masked activations.")]
Dealer = Annotated[
    list[str],
    setting(
        "DEALER", "HOST:PORT of a server that gets seeds, of another operator. Repeatable; in the variable, by spaces."
    ),
]
Report = Annotated[Path | None, setting("REPORT", "JSON to write: offloaded share, bytes, rounds, seconds.")]
Check = Annotated[Path | None, setting("CHECK", "Your check vectors, OUT/check; PACKAGE/../check by default.")]
Verify = Annotated[Literal["on", "off"], setting("VERIFY", "Check every answer; off is for measurements.")]
Audit = Annotated[
    float, setting("AUDIT", "Share of the truncated answers to audit; with --precision exact all are checked.")
]
Mode = Annotated[
    Literal["direct", "relay"],
    setting("MODE", "relay: dealers send to the evaluator, ahead; you download once, however many there are."),
]
Timeout = Annotated[float, setting("TIMEOUT", "Seconds that one request may take.")]
Pin = Annotated[
    list[str],
    setting(
        "PIN",
        "HOST:PORT=SHA256, a server's certificate; one for each server outside of loopback. Repeatable; in the "
        "variable, by spaces.",
    ),
]
Ca = Annotated[Path | None, setting("CA", "Certificates that must vouch for the servers, too, PEM.")]
TlsCert = Annotated[Path | None, setting("TLS_CERT", "Your certificate, PEM, for servers that ask.")]
TlsKey = Annotated[Path | None, setting("TLS_KEY", "Its key, PEM.")]
TokenFile = Annotated[
    Path | None,
    setting(
        "TOKEN_FILE",
        "Your bearer tokens, for servers that ask: lines HOST:PORT TOKEN; or one token for all, but then each "
        "operator can pass for you at the others.",
    ),
]
