"""Which operators each kind of file of a package may hold.

All are deterministic, without side effects, and none gives a shape that depends on values (NonZero, Unique, Compress),
an integer that depends on floats other than by Cast (ArgMax, TopK; the guard refuses MaxPool's
indices), or runs a graph (If, Loop, Scan).
"""

from __future__ import annotations

from ppidm.engines.onnx_guard import Policy

_SHAPES = [
    "Concat",
    "Constant",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Range",
    "Reshape",
    "Resize",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
]
_ELEMENTWISE = [
    "Abs",
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
    "Xor",
]
_OVER_AXES = [
    "BatchNormalization",
    "CumSum",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "RMSNormalization",
    "Softmax",
]
_PRODUCTS = [
    "Attention",
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpPool",
    "MatMul",
    "MaxPool",
    "RotaryEmbedding",
]

SLICE = Policy(
    "a slice",
    frozenset(
        [
            "Add",
            "Cast",
            "Concat",
            "Conv",
            "Gather",
            "MatMul",
            "Mul",
            "Pad",
            "Reshape",
            "Shape",
            "Slice",
            "Sub",
            "Transpose",
        ]
    ),
    secret_integers=True,  # digits; to a server they are uniform
)
PRODUCTS = Policy(
    "a slice for a GPU", SLICE.operators - {"Conv"}, secret_integers=True
)  # which may compute Conv by methods that round
SEGMENT = Policy("a segment", frozenset(_SHAPES + _ELEMENTWISE + _OVER_AXES + _PRODUCTS))
TEXT = Policy(
    "a text encoder", SEGMENT.operators | {"ArgMax", "GatherND"}, secret_integers=True
)  # tokens; it runs before the first request, at one length
