"""`python -m tools.evaluate`: quality and leakage of private pictures, measured on the shipped model.

Modules in import order:

    settings        how many pictures, steps, transcripts; where results go
    cache           arrays on disk, so that an evaluation goes on where it stopped
    references      prompts and pictures of the data
    transcripts     what every party receives while a private picture is drawn
    views           what that is on every build: no protection, float masks, a reused mask, ours
    drawing         private pictures through two server processes; plain ones by diffusers
    relay_transcripts, relaying  the same in relay mode, with truncated answers and audits
    similarity      PSNR and SSIM
    distances       KID and Frechet distance between two sets of features
    features        EffNet: the features of EfficientNet-Lite0
    task            views, and which pictures an attacker has
    ridge           least squares with a penalty, chosen on examples that were left out
    inversion       the inversion network
    attacks         what attackers make of a view: metadata, least squares, inversion network
    distinguisher   can a view tell two prompts apart?
    reductions      how much of the leakage a build takes away, with intervals
    collection      everything that is drawn, in the cache
    quality         -> quality.json
    leakage         -> leakage.json
    claims          what must be true of both, or the exit status is 1
    table           the table of the README, from both
    plots, sheets   for people
    page            docs/evaluation/README.md
    cli             the command line
"""
