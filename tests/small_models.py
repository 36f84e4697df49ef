"""ONNX models of a node or two, and bytes that look like models."""

import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node, constant = helper.make_node, lambda name, array: numpy_helper.from_array(array, name)


def model(nodes, constants=(), kind=FLOAT):
    """A model with the input x and the output y."""
    x, y = (helper.make_tensor_value_info(name, type_, None) for name, type_ in (("x", kind), ("y", FLOAT)))
    graph = helper.make_graph(nodes, "g", [x], [y], list(constants))
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def attach(whole, change):
    """A changed copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(whole)
    change(copy)
    return copy


varints = st.integers(0, 2**64 - 1).map(
    lambda n: b"".join(bytes([n >> s & 127 | 128]) for s in range(0, 63, 7)) + bytes([n >> 63])
)
leaves = st.one_of(st.binary(max_size=12), varints)


def _message(contents):
    numbers = st.sampled_from([1, 2, 5, 7, 8, 11, 13, 14]) | st.integers(0, 15)
    delimited = st.tuples(numbers, contents).map(lambda p: bytes([p[0] << 3 | 2, min(len(p[1]), 127)]) + p[1][:127])
    scalars = st.tuples(numbers, varints).map(lambda p: bytes([p[0] << 3]) + p[1])
    return st.lists(delimited | scalars, max_size=5).map(b"".join)


data = st.recursive(leaves, _message, max_leaves=12)
