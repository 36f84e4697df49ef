"""The fields of onnx.proto that ppidm's files have (ONNX IR version 3 to 13).

What is not listed is refused: training_info, functions, sparse tensors, subgraphs, references to attributes of functions,
segments, texts and external data of tensors, sequences, maps and optionals, quantisation annotations, device configurations.
"""

from __future__ import annotations

from ppidm.engines.wire import Kind, Schema

_PROPERTIES = ("metadata_props", Kind.MANY)

MODEL: Schema = {
    1: ("ir_version", Kind.INT64),
    2: ("producer_name", Kind.BYTES),
    3: ("producer_version", Kind.BYTES),
    4: ("domain", Kind.BYTES),
    5: ("model_version", Kind.INT64),
    6: ("doc_string", Kind.BYTES),
    7: ("graph", Kind.BYTES),
    8: ("opset_import", Kind.MANY),
    14: _PROPERTIES,
}
OPSET: Schema = {1: ("domain", Kind.BYTES), 2: ("version", Kind.INT64)}
GRAPH: Schema = {
    1: ("node", Kind.MANY),
    2: ("name", Kind.BYTES),
    5: ("initializer", Kind.MANY),
    10: ("doc_string", Kind.BYTES),
    11: ("input", Kind.MANY),
    12: ("output", Kind.MANY),
    13: ("value_info", Kind.MANY),
    16: _PROPERTIES,
}
NODE: Schema = {
    1: ("input", Kind.MANY),
    2: ("output", Kind.MANY),
    3: ("name", Kind.BYTES),
    4: ("op_type", Kind.BYTES),
    5: ("attribute", Kind.MANY),
    6: ("doc_string", Kind.BYTES),
    7: ("domain", Kind.BYTES),
    9: _PROPERTIES,
}
ATTRIBUTE: Schema = {
    1: ("name", Kind.BYTES),
    2: ("f", Kind.FIXED),
    3: ("i", Kind.INT64),
    4: ("s", Kind.BYTES),
    5: ("t", Kind.BYTES),
    7: ("floats", Kind.SCALARS),
    8: ("ints", Kind.NUMBERS),
    9: ("strings", Kind.MANY),
    13: ("doc_string", Kind.BYTES),
    20: ("type", Kind.INT32),
}
TENSOR: Schema = {
    1: ("dims", Kind.NUMBERS),
    2: ("data_type", Kind.INT32),
    4: ("float_data", Kind.SCALARS),
    5: ("int32_data", Kind.NUMBERS),
    7: ("int64_data", Kind.NUMBERS),
    8: ("name", Kind.BYTES),
    9: ("raw_data", Kind.BYTES),
    10: ("double_data", Kind.SCALARS),
    12: ("doc_string", Kind.BYTES),
    13: ("external_data", Kind.MANY),  # known here so that the message can name it
    14: ("data_location", Kind.INT32),
    16: _PROPERTIES,
}
VALUE: Schema = {
    1: ("name", Kind.BYTES),
    2: ("type", Kind.BYTES),
    3: ("doc_string", Kind.BYTES),
    4: _PROPERTIES,
}
TYPE: Schema = {1: ("tensor_type", Kind.BYTES), 6: ("denotation", Kind.BYTES)}
TENSOR_TYPE: Schema = {1: ("elem_type", Kind.INT32), 2: ("shape", Kind.BYTES)}

ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""TensorProto.DataType -> bytes of an element; texts, complex numbers, and less than 8 bits are not here."""
FLOATS = {1, 10, 11, 16}
BOOL = 9
