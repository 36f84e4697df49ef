"""What computes: slices on a server, the program of a partitioned U-Net on the client.

- `base`: the interface.
- `selftest`: uniform digits in, exact answers out, or an engine is not fit for a slice.
- `choice`: the engine that an operator names.
- `onnxruntime`, `onnxruntime_cuda`: ONNX Runtime on a CPU, and on an NVIDIA GPU; portable form.
- `tensorrt`: TensorRT and TensorRT for RTX.
- `profiles`: which inputs an engine is compiled for.
- `build`, `estimate`, `plans`, `cache`: slices compiled ahead, and kept.
- `doctor`: which engines run on this machine.
- `program`: the executor of a DAG of client segments and slices.
- `unet`: three programs that give what the whole U-Net gives.
"""
