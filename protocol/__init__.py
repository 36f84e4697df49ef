"""The protocol: numpy, cryptography and pydantic only; no gRPC, no engine.

Security model: semi-honest servers; the evaluator and at least one dealer do not collude. A server's view is then
computationally independent of prompt, latents and picture. A wrong answer is detected, except with probability 2**-33;
truncated answers are audited.

Modules, in import order:

- `errors`: every error that ppidm raises on purpose.
- `ring`: Z_2^k, and centred digits on the wire.
- `linear`: a linear layer over the integers.
- `fixed_point`: the largest scale at which no result can leave the ring.
- `precision`: exact, balanced or fast; truncation of answers.
- `prg`, `masks`: seeds, their expansion, masks that hide one tensor each.
- `messages`: requests and answers as named tensors.
- `shares`: adding the answers up.
- `pieces`: how large activations are cut.
- `relay`, `relay_messages`: shares that dealers send to the evaluator.
- `check`: the 64-bit check of an answer.
- `audit`: checks of truncated answers, at random.
- `run`: the protocol on one page.
- `cost`: what it costs, declared.
- `records`, `manifest`, `arrays`, `openings`, `check_file`, `sampler_table`: the files of a package.
- `address`, `certificates`, `tokens`, `tls`, `greeting`, `handshake`: who talks to whom.
"""
