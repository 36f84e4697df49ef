"""Hand-made ONNX graphs, one for each thing that a traced U-Net might do."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, numpy_helper, parser

IMAGE = "float[n,4,h,w] x"
GRAPHS = {  # name -> graph, shapes of its random weights; a dimension h, w or l is 6, 6 or 3
    "one conv, input to output": (
        f"g ({IMAGE}) => (float[n,5,h,w] out) {{ out = Conv<pads=[1,1,1,1]>(x, w1, b1) }}",
        {"w1": (5, 4, 3, 3), "b1": (5,)},
    ),
    "one feeds the other": (
        f"g ({IMAGE}) => (float[n,4,h,w] out) {{ a = Conv(x, w1)  out = Conv<pads=[1,1,1,1]>(a, w2) }}",
        {"w1": (4, 4, 1, 1), "w2": (4, 4, 3, 3)},
    ),
    "a value feeds convolutions and products": (
        f"""g ({IMAGE}) => (float[n,4,h,6] out) {{
            a = Sigmoid(x)  b = Conv(a, w1)  c = Conv<pads=[1,1,1,1]>(a, w2)  d = MatMul(a, m)  e = Conv(a, w3)
            f = Add(b, c)  g = Sub(f, e)  h = MatMul(g, m)  out = Mul(d, h) }}""",
        {"w1": (4, 4, 1, 1), "w2": (4, 4, 3, 3), "w3": (4, 4, 1, 1), "m": (6, 6)},
    ),
    "attention": (
        """g (float[n,l,8] x) => (float[n,l,8] out) {
            q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
            a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)  o = MatMul(a, wo)  out = Add(x, o) }""",
        dict.fromkeys(("wq", "wk", "wv", "wo"), (8, 8)),
    ),
    "Gemm": (
        """g (float[n,4] x) => (float[n,5] out) {
            a = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w1, row)  b = Gemm(x, w2, scalar)  c = Gemm<transB=1>(x, w1, one)
            d = Gemm<alpha=-3.0>(x, w2)  e = Gemm(x, w2, flat)  out = Sum(a, b, c, d, e) }""",
        {"w1": (5, 4), "w2": (4, 5), "row": (1, 5), "scalar": (), "one": (1,), "flat": (5,)},
    ),
    "outputs that are read later": (
        """g (float[n,4] x) => (float[n,4] a, float[n,4] out, float[n,4] c) {
            a = MatMul(x, m)  b = Sigmoid(a)  c = MatMul(b, m)  out = Add(b, c) }""",
        {"m": (4, 4)},
    ),
    "empty optional inputs, several outputs": (
        f"""g ({IMAGE}) => (float[n,4,hh,ww] out) <float most = {{0.5}}, int64[2] sizes = {{5, 7}}> {{
            a = Clip(x, , most)  b = Resize<axes=[2,3]>(a, , , sizes)  c, d = Split<axis=1, num_outputs=2>(b)
            e = Conv(c, w1)  f = Conv<pads=[1,1,1,1]>(d, w2, )  out = Concat<axis=1>(e, f) }}""",
        {"w1": (2, 2, 1, 1), "w2": (2, 2, 3, 3)},
    ),
    "grouped, depthwise, strided, dilated, asymmetric": (
        f"""g ({IMAGE}) => (float[n,4,hh,ww] out) {{
            a = Conv<group=2, pads=[0,1,2,1]>(x, w1)  b = Conv<group=8, dilations=[2,1], pads=[2,0,1,1]>(a, w2)
            out = Conv<strides=[2,3]>(b, w3) }}""",
        {"w1": (8, 2, 3, 3), "w2": (8, 1, 3, 2), "w3": (4, 8, 2, 1)},
    ),
    "what stays between what goes": (
        f"""g ({IMAGE}) => (float[n,4,hh,ww] out) {{
            a = Conv<auto_pad="SAME_UPPER">(x, w1)  b = MatMul(left, a)  c = MatMul(b, batched)
            d = Conv<pads=[1,1,1,1]>(c, w1)  out = ConvTranspose<strides=[2,2]>(d, w1) }}""",
        {"w1": (4, 4, 3, 3), "left": (6, 6), "batched": (4, 6, 6)},
    ),
    "a product of another rank": (
        """g (float[4] x, float[n,2,3,4] y) => (float[n,2,3,5] out) {
            a = MatMul(x, m)  b = MatMul(y, m)  out = Add(a, b) }""",
        {"m": (4, 5)},
    ),
    "not in order, strange names, dead nodes": (
        """g (float[n,4] x) => (float[n,4] out) {
            [b] out = Add("val 1", c)  ["a/b:c"] c = MatMul("val 1", m)  dead = MatMul(c, m)  deader = Sigmoid(dead)
            [""] "val 1" = MatMul(x, m) }""",
        {"m": (4, 4)},
    ),
    "a function": (
        """g (float[n,4] x) => (float[n,4] out) { a = local.twice(x, m)  out = MatMul(a, m) }
           <opset_import: ["": 23], domain: "local"> twice (x, m) => (z) { y = MatMul(x, m)  z = MatMul(y, m) }""",
        {"m": (4, 4)},
    ),
}
HOISTED = {
    "prompt and timestep": (
        """g (float[n,4] x, float[n,l,4] p, float[n] t) => (float[n,l,4] out) <int64[1] one = {1}> {
            a = MatMul(p, m)  b = Unsqueeze(t, one)  c = Mul(b, row)  d = MatMul(c, m)  e = Add(x, d)
            f = Unsqueeze(e, one)  g = MatMul(f, m)  out = Add(a, g) }""",
        {"m": (4, 4), "row": (4,)},
    ),
    "the sample reads the timestep and the prompt themselves": (
        """g (float[n,l,4] x, float[n,l,4] p, float[n] t) => (float[n,l,4] out) <int64[2] axes = {1, 2}> {
            n = Shape<end=1>(x)  a = Expand(t, n)  b = Unsqueeze(a, axes)  c = Sum(x, b, p)  out = MatMul(c, m) }""",
        {"m": (4, 4)},
    ),
    "sizes of the prompt, heads in the first axis": (
        """g (float[n,l,4] x, float[n,l,4] p, float[n] t) => (float[n,l,4] out)
           <int64[1] zero = {0}> {
            k = MatMul(p, m)  kt = Transpose<perm=[1,0,2]>(k)
            s = Shape(p)  one = Gather(s, zero)  size = Cast<to=1>(one)
            a = Reshape(x, s)  b = Transpose<perm=[1,0,2]>(a)  c = Add(b, kt)  d = Mul(c, size)
            e = MatMul(d, m)  out = Transpose<perm=[1,0,2]>(e) }""",
        {"m": (4, 4)},
    ),
    "a timestep that nobody reads": (
        "g (float[n,4] x, float[n,4] p, float[n] t) => (float[n,4] out) { a = MatMul(p, m)  out = Add(x, a) }",
        {"m": (4, 4)},
    ),
    "an output of the prompt alone": (
        """g (float[n,4] x, float[n,4] p) => (float[n,4] b, float[n,4] p2) {
            p2 = MatMul(p, m)  a = MatMul(x, m)  b = Sigmoid(a) }""",
        {"m": (4, 4)},
    ),
    "an operator before and in the sample": (
        """g (float[n,4] x, float[n,4] p) => (float[n,4] out) {
            a = MatMul(p, m)  b = Add(x, a)  out = MatMul(b, m) }""",
        {"m": (4, 4)},
    ),
}


def proto_from_text(text: str, weights: dict[str, tuple[int, ...]] | None = None, opset: int = 23) -> ModelProto:
    """A model in ONNX's text form without its first line, with random float32 initialisers of the given shapes."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "local": 1]> {text}')
    rng = np.random.default_rng(7)
    for name, shape in (weights or {}).items():
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model
