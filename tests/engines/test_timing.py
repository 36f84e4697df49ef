"""Timings are kept between slices and builds; what is damaged is ignored. On the real functions of TensorRT for RTX."""

import warnings

import pytest

from ppidm.engines.tensorrt.timing import Timings

pytestmark = pytest.mark.trt


@pytest.fixture
def config(rtx):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there they do nothing
        builder = rtx.trt.Builder(rtx.log())
        made = builder.create_builder_config()
        yield made  # `builder` lives on in this generator


@pytest.mark.parametrize("before", [None, b"", b"damaged" * 99])
def test_timings_are_kept(config, tmp_path, before):
    path = tmp_path / "tensorrt" / "timings-11-sm90"
    path.parent.mkdir()
    if before is not None:
        path.write_bytes(before)
    timings = Timings(path)
    timings.lend(config)
    assert config.get_timing_cache() is not None
    timings.keep(config)
    kept = path.read_bytes()
    assert kept != before
    assert len(kept) > 50
    again = Timings(path)
    again.lend(config)
    again.keep(config)
    assert len(path.read_bytes()) == len(kept)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
