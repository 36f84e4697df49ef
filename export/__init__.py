"""A diffusers pipeline -> a package for one client and its servers.

*Trace* (needs torch and diffusers): `trace` and what it uses, `component`, `torch_modules`, `torch_weights`, `torch_export`,
`tidy`, `external`, `tokenizer`, `samplers`, `scheduler_run`, `scheduler_table`.

*Partition* (needs neither):

- `graph`: constants, activations, dependencies.
- `operators`: finds Conv, MatMul and Gemm with constant weights.
- `offload`: groups them by input and cuts them out.
- `flops`: graphs that count their own work.
- `phases`: what depends on the prompt or the timestep only.
- `partition`: what remains -> client segments and programs.
- `quantize`, `slices`: weights -> integers; a slice in the portable form.
- `share`: which slices make up a share of the FLOPs.
- `lora`: merged weights.
- `client_files`: what the client keeps whole.
- `stand_ins`, `reference`, `compare`: the composed programs against the graphs as they were.
- `settings`, `staging`, `packing`: what every export takes and does.
- `package`: `ppidm export` of a pipeline. `graph_package`: of any ONNX graph.
"""
