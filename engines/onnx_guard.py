"""What an ONNX file may hold, decided before ONNX Runtime sees it; it needs no `onnx`.

ONNX Runtime opens whatever file an initialiser's external data names, allocates what its dims say, and computes
whatever operator it finds. So a file is read here first: standard operators of an allow-list, no subgraphs, functions,
sparse or external tensors, and no tensor that is larger than its bytes.

Shapes are sizes of messages, and a failed run is an abort: servers see both. Neither may depend on what is secret. So a
value is *public* if it is computed from constants and from shapes alone, and

- every operand that decides a shape (the target of Reshape, the index of Gather) must be public;
- where `secret_integers` is off, nothing secret becomes an integer: integers divide by zero and index out of bounds.

Then all shapes follow from the shapes of the inputs, and nothing fails for the sake of a value.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ppidm.engines import onnx_schema as schema
from ppidm.engines.wire import Message, Reader, WireError
from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.engines.wire import Schema

_ADVICE = "do not use it; get the package again from its maker, or export the model again"
_MAX_RANK = 16  # of a tensor
_LONGEST_QUOTE = 100  # characters of a hostile file that an error message repeats
_SHAPES = {"Shape", "Size"}  # public whatever they read
_REST_PUBLIC = {
    "CumSum",
    "Expand",
    "Gather",
    "Pad",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Trilu",
    "Unsqueeze",
}  # all operands but the first decide a shape, or an index
_FIRST_OUTPUT_ONLY = {"MaxPool"}  # its second one is an index that depends on values
_ALL_PUBLIC = {"ConstantOfShape", "Range"}


@dataclass(frozen=True)
class Policy:
    """What a kind of file may hold.

    Args:
        name: for messages.
        operators: of the standard domain.
        secret_integers: whether secret values may be integers, and an index of Gather.
    """

    name: str
    operators: frozenset[str]
    secret_integers: bool = False


def require_allowed(path: Path, policy: Policy) -> None:
    """Look into a file.

    Raises:
        PackageError: it holds something that `policy` does not allow, or is no ONNX model.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: not a readable file ({error}); {_ADVICE}") from error
    require_allowed_content(content, policy, str(path))


def require_allowed_content(content: bytes | memoryview, policy: Policy, name: str) -> None:
    """The same for the content of a file.

    Raises:
        PackageError: see `require_allowed`.
    """
    try:
        _Guard(policy).check_model(memoryview(content))
    except WireError as error:
        raise PackageError(
            f"{name}: not an ONNX model of the plain kind that ppidm runs: {error}; {_ADVICE}"
        ) from error


class _Guard:
    def __init__(self, policy: Policy) -> None:
        self.policy, self.reader = policy, Reader()
        self.written: set[str] = set()
        self.public = {""}  # an operand that is left out

    def check_model(self, content: memoryview) -> None:
        model = self.reader.read(content, schema.MODEL)
        for opset in self.messages(model, "opset_import", schema.OPSET):
            _require_standard(opset)
        for graph in self.messages(model, "graph", schema.GRAPH):
            self.check_graph(graph)

    def messages(self, message: Message, field: str, kind: Schema) -> list[Message]:
        return [self.reader.read(part, kind) for part in message.parts(field)]

    def check_graph(self, graph: Message) -> None:
        for value in self.messages(graph, "input", schema.VALUE):
            self.write(value.text("name"), public=False)
            self.check_type(value)
        for tensor in self.messages(graph, "initializer", schema.TENSOR):
            self.write(tensor.text("name"), public=True)
            _check_tensor(tensor)
        for node in self.messages(graph, "node", schema.NODE):
            try:
                self.check_node(node)
            except WireError as error:
                raise WireError(f"node {_name(node)}: {error}") from error

    def write(self, name: str, *, public: bool) -> None:
        if name in self.written:
            raise WireError(f"value {_quote(name)} is written twice")
        self.written.add(name)
        if public:
            self.public.add(name)

    def check_type(self, value: Message) -> None:
        kinds = [kind for part in self.messages(value, "type", schema.TYPE) for kind in part.parts("tensor_type")]
        types = [self.reader.read(kind, schema.TENSOR_TYPE).number("elem_type") for kind in kinds]
        if len(types) != 1 or not (self.policy.secret_integers or types[0] in schema.FLOATS):
            raise WireError(f"input {_quote(value.text('name'))} is no tensor of floats")

    def check_node(self, node: Message) -> None:
        kind, operands = node.text("op_type"), node.texts("input")
        _require_standard(node)
        if kind not in self.policy.operators:
            place = f" (node {_quote(node.text('name'))})" if "name" in node else ""
            raise WireError(f"operator {_quote(kind)}, which {self.policy.name} may not hold{place}")
        attributes = self.messages(node, "attribute", schema.ATTRIBUTE)
        for attribute in attributes:
            for tensor in self.messages(attribute, "t", schema.TENSOR):
                _check_tensor(tensor)
        if kind in _FIRST_OUTPUT_ONLY and len(node.texts("output")) > 1:
            raise WireError(f"{kind} with the indices of its maxima")
        public = self.public.issuperset(operands)
        if not public and not self.policy.secret_integers:
            self.require_no_integers(kind, attributes)
        self.require_public_shapes(kind, operands)
        for name in filter(None, node.texts("output")):
            self.write(name, public=public or kind in _SHAPES)

    def require_no_integers(self, kind: str, attributes: list[Message]) -> None:
        """Of operators that read a secret, Cast alone can make an integer of it."""
        targets = {attribute.number("i") for attribute in attributes if attribute.text("name") == "to"}
        if kind == "Cast" and not targets <= schema.FLOATS | {schema.BOOL}:
            raise WireError("Cast makes integers of a value that depends on secrets")

    def require_public_shapes(self, kind: str, operands: list[str]) -> None:
        if kind in _ALL_PUBLIC:
            decisive = operands
        elif kind in _REST_PUBLIC and not (kind == "Gather" and self.policy.secret_integers):
            decisive = operands[1:]
        else:
            return
        if secret := [name for name in decisive if name not in self.public]:
            raise WireError(f"{kind} takes a shape or an index from {_quote(secret[0])}, which depends on secrets")


def _check_tensor(tensor: Message) -> None:
    name, dims = _quote(tensor.text("name")), tensor.numbers("dims")
    if "external_data" in tensor or tensor.number("data_location"):
        raise WireError(f"tensor {name} lies in another file")
    size = schema.ELEMENT_BYTES.get(tensor.number("data_type"), 0)
    if not size or len(dims) > _MAX_RANK or min(dims, default=1) < 0:
        raise WireError(f"tensor {name} has type {tensor.number('data_type')} and shape {_quote(dims)}")
    stored = len(tensor.numbers("int32_data")) + len(tensor.numbers("int64_data"))
    stored += sum(len(part) for field in ("float_data", "double_data") for part in tensor.parts(field)) // 4
    raw = sum(map(len, tensor.parts("raw_data")))
    if prod(dims) * size != raw and not ("raw_data" not in tensor and prod(dims) <= stored):
        raise WireError(f"tensor {name} of shape {_quote(dims)} needs {prod(dims) * size} bytes; it has {raw}")


def _require_standard(message: Message) -> None:
    if message.text("domain") not in {"", "ai.onnx"}:
        raise WireError(f"domain {_quote(message.text('domain'))}; expected standard operators only")


def _name(node: Message) -> str:
    """A node may have none; its first output is told then."""
    return _quote(node.text("name") or next(iter(node.texts("output")), ""))


def _quote(value: object) -> str:
    return ascii(value)[:_LONGEST_QUOTE]
