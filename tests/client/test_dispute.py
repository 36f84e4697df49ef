"""Through the client and real servers: the liar is named, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.client.transport import Server
from ppidm.export.check_keys import draw_check_keys
from ppidm.protocol.errors import CheckError, PeerError
from ppidm.protocol.messages import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def pipe(package: Path, servers: list[str]) -> Iterator[PrivateStableDiffusionPipeline]:
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=servers[1:]
    ) as pipeline:
        yield pipeline


def lie(tensor: Tensor) -> Tensor:
    values = np.frombuffer(tensor.content, "<i4").copy()
    values[0] += 1
    return Tensor(tensor.name, tensor.datatype, tensor.shape, values.tobytes())


class Corruption:
    """Makes the server with a given address lie, `times` times, then be honest; or refuse after its lie."""

    def __init__(self, address: str, times: float, *, refuse: bool = False) -> None:
        self.address, self.left, self.refuse, self.honest = address, times, refuse, Server.ask

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def ask(server: Server, model: str, tensors: Any) -> Callable[[], list[Tensor]]:
            return self.ask(server, model, tensors)

        monkeypatch.setattr(Server, "ask", ask)

    def ask(self, server: Server, model: str, tensors: Any) -> Callable[[], list[Tensor]]:
        pending = self.honest(server, model, tensors)
        if str(server.address) != self.address:
            return pending
        if self.left > 0:
            self.left -= 1
            return lambda: [lie(tensor) for tensor in pending()]
        return self.refusal if self.refuse else pending

    @staticmethod
    def refusal() -> list[Tensor]:
        raise PeerError("gone")


@pytest.mark.parametrize("liar", [0, 1, 2], ids=["evaluator", "first dealer", "second dealer"])
@pytest.mark.parametrize("times", [1, float("inf")], ids=["once", "always"])
def test_the_liar_is_named(
    pipe: PrivateStableDiffusionPipeline, servers: list[str], liar: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Corruption(servers[liar], times).install(monkeypatch)
    with pytest.raises(CheckError) as caught:
        pipe("red apple, 3d style", num_inference_steps=1, guidance_scale=1)
    assert caught.value.exit_status == 3
    assert caught.value.liars == (f"{'dealer' if liar else 'evaluator'} {servers[liar]}",)
    assert all(address in str(caught.value) for address in servers)


def test_a_liar_that_refuses_is_named(
    pipe: PrivateStableDiffusionPipeline, servers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Corruption(servers[1], 1, refuse=True).install(monkeypatch)
    with pytest.raises(CheckError, match="did not show its limb products") as caught:
        pipe("red apple, 3d style", num_inference_steps=1, guidance_scale=1)
    assert caught.value.liars == (f"dealer {servers[1]}",)


def test_fresh_check_keys_catch_a_liar(
    package: Path, servers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = tmp_path / "check"
    assert draw_check_keys(package / "server-0", check) == 96
    assert (check / "vectors.npz").stat().st_mode & 0o077 == 0
    fresh, shipped = ((folder / "vectors.npz").read_bytes() for folder in (check, package / "check"))
    assert fresh != shipped
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=[servers[1]], check=check
    ) as pipe:
        pipe("pizza, 3d style", num_inference_steps=1, guidance_scale=1)
        Corruption(servers[0], 1).install(monkeypatch)
        with pytest.raises(CheckError):
            pipe("pizza, 3d style", num_inference_steps=1, guidance_scale=1)
