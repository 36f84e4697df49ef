"""Every error that ppidm raises on purpose.

    PpidmError
    ├── InputError            exit 2   what the caller gave is wrong: an argument, a file, a model
    │   ├── PackageError               a package, manifest or slice is corrupt, truncated or of another version
    │   └── UnsupportedError           a model, graph or scheduler that ppidm cannot carry exactly
    ├── NonFiniteError        exit 2   the model itself produced inf or nan
    ├── CheckError            exit 3   an answer is wrong: at least one of the named servers lied or is broken
    ├── PeerError             exit 4   a server could not be reached, died, or broke the protocol
    └── MaskReuseError        exit 1   a mask was about to be used twice: a bug of ours, never of a peer

Messages say what was got, what was expected and what to do next. They never hold a prompt, a seed, a mask, an
activation or a latent.
"""


class PpidmError(Exception):
    """Base of all errors of ppidm; `exit_status` is what the command line exits with."""

    exit_status = 1


class InputError(PpidmError, ValueError):
    """An argument or a file that the caller gave is wrong."""

    exit_status = 2


class PackageError(InputError):
    """A package, manifest or slice is corrupt, truncated or of another version."""


class UnsupportedError(InputError):
    """A model, graph or scheduler that cannot be carried exactly."""


class NonFiniteError(PpidmError):
    """The model produced inf or nan; raised after the last request, so that traffic does not depend on it."""

    exit_status = 2


class CheckError(PpidmError):
    """The sum of the answers failed the 64-bit check.

    Attributes:
        liars: role and address of every server that the dispute convicted.
    """

    exit_status = 3

    def __init__(self, message: str, liars: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.liars = liars


class PeerError(PpidmError):
    """A server could not be reached, died, refused or broke the protocol."""

    exit_status = 4


class MaskReuseError(PpidmError):
    """A mask was about to hide a second tensor."""
