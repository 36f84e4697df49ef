"""Messages of the Open Inference Protocol <-> tensors. Contents travel as raw bytes only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

import ppidm
from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import Tensor
from ppidm.runtime.service import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.runtime.service import ModelSpec, Service, TensorSpec


def tensors_from_request(request: pb.ModelInferRequest) -> list[Tensor]:
    """The inputs of a request.

    Raises:
        InputError: typed contents, or not one raw content per input.
    """
    if any(tensor.HasField("contents") for tensor in request.inputs):
        raise InputError("an input with typed `contents`; expected all inputs in `raw_input_contents`")
    if len(request.inputs) != len(request.raw_input_contents):
        raise InputError(
            f"{len(request.inputs)} inputs with {len(request.raw_input_contents)} raw_input_contents; expected one raw "
            "content per input (no shared memory)"
        )
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return [Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), content) for tensor, content in pairs]


def response_from_tensors(request: pb.ModelInferRequest, answer: Sequence[Tensor]) -> pb.ModelInferResponse:
    """The response to `request`: the outputs that it asks for, or all if it names none.

    Raises:
        InputError: it asks for an output that does not exist.
    """
    tensors = _requested([output.name for output in request.outputs], answer)
    return pb.ModelInferResponse(
        model_name=request.model_name,
        model_version=VERSION,
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            for tensor in tensors
        ],
        raw_output_contents=[tensor.content for tensor in tensors],
    )


def server_metadata(service: Service) -> pb.ServerMetadataResponse:
    """Name, version, and the extensions by which a client knows package and process."""
    return pb.ServerMetadataResponse(name="ppidm", version=ppidm.__version__, extensions=service.extensions)


def model_metadata(spec: ModelSpec) -> pb.ModelMetadataResponse:
    """Inputs and outputs of a model."""
    return pb.ModelMetadataResponse(
        name=spec.name,
        versions=[VERSION],
        platform=spec.platform,
        inputs=[_tensor_metadata(tensor) for tensor in spec.inputs],
        outputs=[_tensor_metadata(tensor) for tensor in spec.outputs],
    )


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _requested(names: Sequence[str], answer: Sequence[Tensor]) -> Sequence[Tensor]:
    known = {tensor.name: tensor for tensor in answer}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"requested output {unknown[0]!r}; expected one of {list(known)}")
    return [known[name] for name in names] or answer
