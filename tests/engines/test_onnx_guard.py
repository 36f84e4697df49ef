"""What ONNX Runtime must not get to see is refused before."""

import random
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_models import FLOAT, INT64, attach, constant, data, model, node
from tiny_package import LAYERS, draw_weights, slice_model

from ppidm.engines import wire
from ppidm.engines.onnx_guard import require_allowed, require_allowed_content
from ppidm.engines.onnx_policy import SEGMENT, SLICE, TEXT
from ppidm.engines.onnx_schema import TENSOR
from ppidm.engines.onnxruntime import open_session
from ppidm.protocol.errors import PackageError

GOOD = model([node("Add", ["x", "w"], ["y"])], [constant("w", np.ones(4, np.float32))])


def refusal(content, policy=SEGMENT):
    content = content if isinstance(content, bytes) else content.SerializeToString()
    with pytest.raises(PackageError) as error:
        require_allowed_content(content, policy, "graph")
    assert str(error.value).endswith("; do not use it; get the package again from its maker, or export the model again")
    return str(error.value)


def accept(graph, policy=SEGMENT):
    require_allowed_content(graph.SerializeToString(), policy, "graph")


def test_plain_graphs_pass():
    accept(GOOD)
    for layers, _ in LAYERS.values():
        weights = [draw_weights(np.random.default_rng(0), layer) for layer in layers]
        accept(slice_model(layers, weights), SLICE)


@pytest.mark.parametrize(
    "kind",
    [
        "If",
        "Loop",
        "Scan",
        "NonZero",
        "Unique",
        "Compress",
        "TopK",
        "RandomNormal",
        "Dropout",
        "StringNormalizer",
    ],
)
@pytest.mark.parametrize("policy", [SLICE, SEGMENT, TEXT], ids=lambda policy: policy.name)
def test_operators_outside_the_list(kind, policy):
    assert f"operator '{kind}', which {policy.name} may not hold" in refusal(model([node(kind, ["x"], ["y"])]), policy)


def test_the_places_of_maxima_are_refused():
    accept(model([node("MaxPool", ["x"], ["y"], kernel_shape=[2])]))
    indices = model([node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2])])
    assert "MaxPool with the indices of its maxima" in refusal(indices)
    assert "operator 'MaxPool', which a slice may not hold" in refusal(model([node("MaxPool", ["x"], ["y"])]), SLICE)


def test_slices_may_hold_what_export_writes_only():
    assert "operator 'Exp', which a slice may not hold" in refusal(model([node("Exp", ["x"], ["y"])]), SLICE)


def test_domains():
    assert "domain 'com.microsoft'" in refusal(model([node("Gelu", ["x"], ["y"], domain="com.microsoft")]))
    graph = attach(GOOD, lambda graph: graph.opset_import.add(domain="evil", version=1))
    assert "domain 'evil'" in refusal(graph)
    accept(model([node("Gelu", ["x"], ["y"], domain="ai.onnx")]))


def external(tensor):
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def test_weights_in_another_file():
    graph = attach(GOOD, lambda graph: external(graph.graph.initializer[0]))
    assert "tensor 'w' lies in another file" in refusal(graph)
    value = constant("w", np.ones(4, np.float32))
    external(value)
    graph = model([node("Constant", [], ["w"], value=value), node("Add", ["x", "w"], ["y"])])
    assert "lies in another file" in refusal(graph)


@pytest.mark.parametrize("location", [1, 2**32 + 1, 2**63])
def test_the_place_of_data_is_not_read_in_two_ways(location):
    """protobuf keeps 32 bits of it: 2**32 + 1 is EXTERNAL to ONNX Runtime."""
    varint = b"".join(bytes([location >> shift & 127 | 128]) for shift in range(0, 63, 7)) + bytes([location >> 63])
    tensor = constant("v", np.ones(4, np.float32)).SerializeToString() + b"\x70" + varint
    graph = GOOD.graph.SerializeToString() + field(5, tensor)
    assert ("lies in another file" if location == 1 else "data_location is") in refusal(field(7, graph))


def field(number, content):
    length, size = len(content), b""
    while length >= 128:
        length, size = length >> 7, size + bytes([length & 127 | 128])
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.dims.append(2**40), "needs 17592186044416 bytes; it has 16"),
        (lambda tensor: tensor.dims.extend([2**62] * 8), "needs"),
        (lambda tensor: tensor.dims.extend([1] * 20), "has type 1 and shape"),
        (lambda tensor: tensor.dims.extend([-1, -1]), "has type 1 and shape"),
        (lambda tensor: tensor.dims.pop(), "needs 4 bytes; it has 16"),
        (lambda tensor: setattr(tensor, "data_type", TensorProto.STRING), "has type 8"),
        (lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE), "needs 32 bytes; it has 16"),
        (lambda tensor: tensor.ClearField("raw_data"), "needs 16 bytes; it has 0"),
        (lambda tensor: tensor.string_data.append(b"x"), "field 6"),
        (lambda tensor: setattr(tensor.segment, "begin", 1), "field 3"),
    ],
)
def test_tensors_that_are_not_as_large_as_they_say(change, message):
    assert message in refusal(attach(GOOD, lambda graph: change(graph.graph.initializer[0])))


def test_tensors_may_hold_typed_data():
    for kind in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.DOUBLE, TensorProto.FLOAT16):
        accept(model([node("Identity", ["x"], ["y"])], [helper.make_tensor("w", kind, [2, 2], [1, 2, 3, 4])]))


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.functions.add(name="f", domain="d"),
        lambda graph: graph.training_info.add(),
        lambda graph: graph.graph.sparse_initializer.add(),
        lambda graph: graph.graph.node[0].attribute.append(helper.make_attribute("body", GOOD.graph)),
        lambda graph: graph.graph.node[0].attribute.add(name="a", ref_attr_name="b"),
    ],
    ids=["function", "training", "sparse", "subgraph", "reference"],
)
def test_what_no_file_of_ours_has(change):
    assert "expected one of" in refusal(attach(GOOD, change))


def test_a_graph_that_comes_twice():
    content = field(7, GOOD.graph.SerializeToString())
    require_allowed_content(content, SEGMENT, "graph")
    assert "graph comes twice" in refusal(content + content)


def test_a_value_that_is_written_twice():
    assert "value 'w' is written twice" in refusal(model([node("Exp", ["x"], ["w"])], [constant("w", np.ones(1))]))
    assert "value 'x' is written twice" in refusal(model([], [constant("x", np.ones(1))]))


def test_a_file_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    path = tmp_path / "graph.onnx"
    onnx.save(attach(GOOD, lambda graph: external(graph.graph.initializer[0])), path)
    with pytest.raises(PackageError, match=r"graph\.onnx: .* lies in another file"):
        open_session(path)
    for content in (b"", None):
        path.unlink()
        path.mkdir() if content is None else path.write_bytes(content)
        with pytest.raises(PackageError, match="not a readable file"):
            require_allowed(path, SEGMENT)


# ---- no secret decides a shape, or becomes an integer

TARGET = constant("t", np.array([2, 2]))


@pytest.mark.parametrize(
    ("nodes", "reader"),
    [
        ([node("Cast", ["x"], ["s"], to=INT64), node("Reshape", ["x", "s"], ["y"])], "Reshape"),
        ([node("Cast", ["x"], ["s"], to=INT64), node("Expand", ["x", "s"], ["y"])], "Expand"),
        ([node("Cast", ["x"], ["s"], to=INT64), node("Slice", ["t", "t", "s"], ["y"])], "Slice"),
        ([node("Cast", ["x"], ["s"], to=INT64), node("ConstantOfShape", ["s"], ["y"])], "ConstantOfShape"),
        (
            [node("Cast", ["x"], ["c"], to=INT64), node("Add", ["c", "t"], ["s"]), node("Tile", ["x", "s"], ["y"])],
            "Tile",
        ),
        ([node("Resize", ["x", "", "x"], ["y"])], "Resize"),
        ([node("Range", ["t", "x", "t"], ["y"])], "Range"),
    ],
)
@pytest.mark.parametrize("policy", [SEGMENT, TEXT], ids=lambda policy: policy.name)
def test_shapes_that_depend_on_values(nodes, reader, policy):
    message = refusal(model(nodes, [TARGET]), policy)
    assert f"{reader} takes a shape or an index from" in message or "Cast makes integers" in message
    assert policy is SEGMENT or reader in message


def test_shapes_of_shapes_pass():
    shape = [node("Shape", ["x"], ["a"]), node("Mul", ["a", "t"], ["s"]), node("Expand", ["x", "s"], ["y"])]
    accept(model(shape, [constant("t", np.array([1]))]))
    accept(model([node("Gather", ["x", "t"], ["y"])], [TARGET]))


def test_integers_of_secrets():
    for target in (INT64, TensorProto.UINT8, TensorProto.INT32):
        assert "Cast makes integers" in refusal(model([node("Cast", ["x"], ["y"], to=target)]))
    for target in (FLOAT, TensorProto.FLOAT16, TensorProto.BOOL):
        accept(model([node("Cast", ["x"], ["y"], to=target)]))
    assert "input 'x' is no tensor of floats" in refusal(model([node("Abs", ["x"], ["y"])], kind=INT64))


def test_a_text_encoder_may_look_up_tokens_but_not_choose_a_length():
    table = constant("w", np.ones((4, 4), np.float32))
    accept(model([node("Gather", ["w", "x"], ["y"])], [table], kind=INT64), TEXT)
    assert "Expand takes a shape" in refusal(model([node("Expand", ["w", "x"], ["y"])], [table], kind=INT64), TEXT)
    assert "no tensor of floats" in refusal(model([node("Gather", ["w", "x"], ["y"])], [table], kind=INT64))


# ---- hostile bytes


@settings(max_examples=300, deadline=None)
@given(data)
def test_any_bytes_are_refused_or_pass(content):
    try:
        require_allowed_content(content, SEGMENT, "graph")
    except PackageError as error:
        assert len(str(error)) < 1500  # noqa: PT017


@settings(max_examples=300, deadline=None)
@given(st.integers(0), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_graph_is_refused_or_opens_or_is_told_by_onnx_runtime(position, inserted, removed):
    content = slice_model(LAYERS["mid.to_out"][0], [draw_weights(np.random.default_rng(0), LAYERS["mid.to_out"][0][0])])
    content = content.SerializeToString()
    position %= len(content)
    damaged = content[:position] + inserted + content[position + removed :]
    try:
        open_session(damaged, 1, SLICE)
    except PackageError as error:
        assert len(str(error)) < 3000  # noqa: PT017


def test_time_is_bounded():
    started = time.thread_time()
    dims = field(5, field(1, b"\x01" * 10**7))
    for content in (b"\x42\x00" * 10**7, field(7, b"\x6a\x00" * 10**7), field(7, dims)):
        assert f"more than {wire.MAX_FIELDS} fields" in refusal(content)
    assert time.thread_time() - started < 20


def test_what_the_reader_reads_is_what_protobuf_reads():
    """Names and sizes of random tensors."""
    for _ in range(50):
        shape = tuple(random.choices(range(4), k=random.randrange(4)))
        tensor = numpy_helper.from_array(np.zeros(shape, np.int32), "ä" * random.randrange(200))
        read = wire.Reader().read(memoryview(tensor.SerializeToString()), TENSOR)
        assert (read.text("name"), tuple(read.numbers("dims"))) == (tensor.name, shape)
