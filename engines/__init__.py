"""What computes: slices on a server, the program of a partitioned U-Net on the client.

- `base`: the interface.
- `selftest`: uniform digits in, exact answers out, or an engine is not fit for a slice.
- `onnxruntime`: the CPU engine, portable form.
- `program`: the executor of a DAG of client segments and slices.
- `unet`: three programs that give what the whole U-Net gives.
"""
