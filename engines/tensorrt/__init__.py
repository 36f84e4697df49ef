"""TensorRT, in both of its libraries: slices compiled ahead, and run on an NVIDIA GPU.

- `library`: `tensorrt` or `tensorrt_rtx`, imported late.
- `building`: a slice -> a plan. TensorRT for RTX needs no GPU for it.
- `timing`: what it measured, for the next.
- `device`: memory, copies and streams of a GPU.
- `running`: a plan -> a runner.
"""
