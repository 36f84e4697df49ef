import stat

import numpy as np
import pytest
from linear_cases import LAYERS, input_shape, random_case

from ppidm.protocol.check import draw_check
from ppidm.protocol.check_file import read_checks, write_checks
from ppidm.protocol.errors import PackageError
from ppidm.protocol.openings import Opening, read_openings, write_openings
from ppidm.protocol.records import SelfTest, Subgraph


def subgraph(name, *layers):
    shape = input_shape(layers[0])
    return Subgraph(
        name=name,
        file=f"{name}.onnx",
        sha256="0" * 64,
        layers=layers,
        nominal_shape=shape,
        self_test=SelfTest(shape=shape, digest="0" * 64),
    )


SLICES = [
    subgraph("mid.qk", LAYERS["product"], LAYERS["product"].model_copy(update={"out_channels": 7})),
    subgraph("down", LAYERS["grouped"]),
]


def draw_checks():
    return {s.name: [draw_check(layer, random_case(layer).weights) for layer in s.layers] for s in SLICES}


def test_checks_round_trip(tmp_path):
    checks = draw_checks()
    write_checks(tmp_path / "vectors.npz", checks)
    read = read_checks(tmp_path / "vectors.npz", SLICES)
    assert list(read) == ["mid.qk", "down"]
    for name, layers in checks.items():
        for check, same in zip(layers, read[name], strict=True):
            assert np.array_equal(check.v, same.v)
            assert np.array_equal(check.u, same.u)


@pytest.mark.parametrize("existing", [False, True])
def test_only_the_owner_may_read_check_vectors(tmp_path, existing):
    path = tmp_path / "vectors.npz"
    if existing:
        path.touch(mode=0o644)
    write_checks(path, draw_checks())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (SLICES[:1], "array 'down/0/u' is missing or unknown"),
        ([*SLICES, subgraph("more", LAYERS["product"])], "array 'more/0/u' is missing or unknown"),
        (
            [SLICES[0], subgraph("down", LAYERS["convolution"])],
            r"array 'down/0/v' is int64\(6,\); expected int64\(4,\)",
        ),
    ],
)
def test_checks_of_other_slices_are_refused(tmp_path, slices, message):
    write_checks(tmp_path / "vectors.npz", draw_checks())
    with pytest.raises(PackageError, match=message):
        read_checks(tmp_path / "vectors.npz", slices)


def test_openings_round_trip_and_those_of_other_slices_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    openings = {
        s.name: [Opening(*rng.random((2, layer.out_channels)).astype(np.float32)) for layer in s.layers] for s in SLICES
    }
    write_openings(tmp_path / "openings.npz", openings)
    read = read_openings(tmp_path / "openings.npz", SLICES)
    assert list(read) == list(openings)
    for name, layers in openings.items():
        for opening, same in zip(layers, read[name], strict=True):
            assert np.array_equal(opening.scales, same.scales)
            assert np.array_equal(opening.bias, same.bias)
    with pytest.raises(PackageError, match="is missing or unknown"):
        read_openings(tmp_path / "openings.npz", SLICES[1:])
