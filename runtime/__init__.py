"""The server process: the slices of a package as models of the Open Inference Protocol (KServe v2) over gRPC.

Modules, in import order:

- `port`: whether an address can be listened on.
- `log`: structured logs on standard error, without payloads.
- `service`: what a server answers, independent of any transport.
- `loading`: a package directory -> a service, self-tested.
- `translation`: messages of the Open Inference Protocol <-> tensors.
- `inbox`, `relays`: relay mode at an evaluator: windows, sessions.
- `outbox`, `peers`: relay mode at a dealer: streams, and where they may go.
- `relay_methods`: both, as methods.
- `grpc_server`: the transport.
- `server`: `serve()`, what `ppidm serve` runs.
"""
