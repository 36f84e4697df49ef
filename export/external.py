"""Weights of an ONNX graph that stay in the safetensors file beside it: ONNX external data, never a second copy.

A safetensors file is an 8-byte little-endian header length, a JSON header with dtype, shape and byte range of every
tensor, and the tensors. ONNX external data is a file name, an offset and a length. So a graph can point straight into
the file that diffusers wrote; what is stored in 16 bits passes a Cast.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import onnx_ir as ir
from pydantic import BaseModel, NonNegativeInt, TypeAdapter

from ppidm.protocol.errors import InputError, UnsupportedError

EMBED_LIMIT = 2048
"""Bytes. A constant of at most this size (a shape, a table of frequencies) may live in the graph itself."""

_LENGTH_BYTES = 8
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # of attention in SD 1's VAE
_DTYPES = {"F16": ir.DataType.FLOAT16, "BF16": ir.DataType.BFLOAT16, "F32": ir.DataType.FLOAT}


class _Entry(BaseModel):
    """What a header says of one tensor; `data_offsets` count from the end of the header."""

    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_HEADER = TypeAdapter(dict[str, _Entry])


def weight_files(folder: Path) -> list[Path]:
    """Find the safetensors files that hold one component's weights.

    Args:
        folder: a component of a diffusers pipeline, such as `unet`.

    Returns:
        One file, or the shards that its index lists. Where there are several variants, the `fp16` one.

    Raises:
        InputError: there is none, or a shard is missing.
    """
    for variant in (".fp16", ""):
        for stem in ("diffusion_pytorch_model", "model"):
            single = folder / f"{stem}{variant}.safetensors"
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if single.is_file() or index.is_file():
                return [single] if single.is_file() else _shards(index)
    raise InputError(
        f"{folder} holds no diffusion_pytorch_model.safetensors or model.safetensors. ppidm reads weights from"
        " safetensors only: save others with diffusers' save_pretrained(..., safe_serialization=True)."
    )


def _shards(index: Path) -> list[Path]:
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    shards = [index.parent / name for name in sorted(names)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(f"{index} lists {', '.join(missing)}, which is not there. Fetch the missing files again.")
    return shards


def stored_tensors(files: list[Path]) -> dict[str, ir.ExternalTensor]:
    """Index the float tensors of `files` by their stored names; nothing but the headers is read.

    Raises:
        InputError: a file is truncated or damaged.
    """
    return {str(tensor.name): tensor for file in files for tensor in _tensors_of(file)}


def _tensors_of(file: Path) -> Iterator[ir.ExternalTensor]:
    start, header = _header(file)
    room = file.stat().st_size - start
    for name, entry in header.items():
        first, end = entry.data_offsets
        if not first <= end <= room:
            raise _damaged(file, f"{name} ends at byte {start + end}")
        if entry.dtype in _DTYPES:
            yield _tensor(file, start, name, entry)


def _header(file: Path) -> tuple[int, dict[str, _Entry]]:
    """Where the data starts, and what is there."""
    with file.open("rb") as stream:
        start = _LENGTH_BYTES + int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if start > min(file.stat().st_size, _HEADER_LIMIT):
            raise _damaged(file, f"its header would end at byte {start}")
        text = stream.read(start - _LENGTH_BYTES)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        return start, _HEADER.validate_python(entries)
    except (ValueError, AttributeError, TypeError) as error:  # no JSON, no object, no such entries
        raise _damaged(file, "its header cannot be read") from error


def _tensor(file: Path, start: int, name: str, entry: _Entry) -> ir.ExternalTensor:
    first, end = entry.data_offsets
    dtype = _DTYPES[entry.dtype]
    if end - first != math.prod(entry.shape) * dtype.itemsize:
        raise _damaged(file, f"{name} has {end - first} bytes for {entry.dtype} {entry.shape}")
    shape = ir.Shape(entry.shape)
    return ir.ExternalTensor(file.name, start + first, end - first, dtype, shape=shape, name=name, base_dir=file.parent)


def _damaged(file: Path, why: str) -> InputError:
    size = file.stat().st_size
    return InputError(f"{file} ({size} bytes) is truncated or no safetensors file: {why}. Fetch it again.")


def move_weights_out(graph: ir.Graph, weights: Collection[str], stored: Mapping[str, ir.ExternalTensor]) -> None:
    """Point every weight of `graph` into the files that it was loaded from.

    Args:
        graph: changed in place. A weight gets its stored name, and what used it reads the weight itself or, if it is
            stored in 16 bits, its Cast `<stored name>.float32`.
        weights: the names of the initialisers, float32, that must come from the files. All others must be small.
        stored: `stored_tensors(...)` of the same component.

    Raises:
        UnsupportedError: a weight is not stored, or another constant is large.
    """
    anchor = graph[0]
    moved: dict[str, ir.Value] = {}
    for name, value in list(graph.initializers.items()):
        if name in weights:
            source = source_of(name, tuple(value.shape or ()), stored)  # type: ignore[arg-type]  # weights have sizes
            del graph.initializers[name]
            if source.name not in moved:
                moved[str(source.name)] = _float32(graph, anchor, source)
            value.replace_all_uses_with(moved[str(source.name)])
        else:
            _check_small(value)


def _check_small(value: ir.Value) -> None:
    if value.const_value is None or value.const_value.nbytes > EMBED_LIMIT:
        raise UnsupportedError(
            f"constant {value.name} {value.shape} is no weight, and larger than the {EMBED_LIMIT} bytes that a graph"
            " may hold"
        )


def source_of(name: str, shape: tuple[int, ...], stored: Mapping[str, ir.ExternalTensor]) -> ir.ExternalTensor:
    """The stored tensor that a weight of a module is loaded from: names differ where files are older than libraries.

    Args:
        name: of the weight in today's module.
        shape: of the weight.
        stored: `stored_tensors(...)` of the component.

    Raises:
        UnsupportedError: there is none of that shape.
    """
    old = name
    for new, ancient in _OLD_NAMES.items():
        old = old.replace(f".{new}.", f".{ancient}.")
    for candidate in (name, f"text_model.{name}", name.removeprefix("text_model."), old):
        if candidate in stored and tuple(stored[candidate].shape) == shape:
            return stored[candidate]
    raise UnsupportedError(
        f"weight {name} {list(shape)} is no {', '.join(_DTYPES)} tensor of the safetensors files:"
        " it is missing there, or the library computes it on loading."
    )


def _float32(graph: ir.Graph, anchor: ir.Node, source: ir.ExternalTensor) -> ir.Value:
    """Add `source` as an initialiser, and its Cast before `anchor` unless it is float32 already."""
    initializer = ir.Value(
        name=source.name, type=ir.TensorType(source.dtype), shape=ir.Shape(source.shape), const_value=source
    )
    graph.register_initializer(initializer)
    if source.dtype is ir.DataType.FLOAT:
        return initializer
    cast = ir.node("Cast", [initializer], {"to": ir.DataType.FLOAT}, name=f"{source.name}.Cast")
    graph.insert_before(anchor, cast)
    output = cast.outputs[0]
    output.name, output.dtype, output.shape = f"{source.name}.float32", ir.DataType.FLOAT, ir.Shape(source.shape)
    return output
