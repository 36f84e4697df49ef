"""`ppidm generate`: its options, parsed into frozen settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ppidm.console import step_progress
from ppidm.options import (
    Audit,
    Ca,
    Check,
    Dealer,
    Evaluator,
    Mode,
    Pin,
    Report,
    Signer,
    Timeout,
    TlsCert,
    TlsKey,
    TokenFile,
    Verify,
    import_late,
    setting,
)


def generate(
    package: Annotated[Path, typer.Argument(help="OUT/client of `ppidm export`.")],
    prompt: Annotated[str, typer.Argument(help="What to draw. Never leaves this machine.")],
    *,
    evaluator: Evaluator,
    dealer: Dealer,
    negative_prompt: Annotated[str | None, setting("NEGATIVE_PROMPT", "What to keep away from.")] = None,
    num_inference_steps: Annotated[int, setting("NUM_INFERENCE_STEPS", "Steps of the scheduler.")] = 50,
    guidance_scale: Annotated[float, setting("GUIDANCE_SCALE", "1 or less turns guidance off: half the work.")] = 7.5,
    num_images_per_prompt: Annotated[int, setting("NUM_IMAGES_PER_PROMPT", "Pictures.")] = 1,
    scheduler: Annotated[
        str | None,
        setting("SCHEDULER", "diffusers' class name, such as EulerDiscreteScheduler; the model's own by default."),
    ] = None,
    seed: Annotated[
        int | None, setting("SEED", "Of the noise: numpy's, so never the picture of torch's. Never of a mask.")
    ] = None,
    latents: Annotated[
        Path | None, setting("LATENTS", "Initial noise instead: .npy, float32, (N, C, h, w), before scaling.")
    ] = None,
    image: Annotated[
        Path | None, setting("IMAGE", "Begin with this picture (image to image). Never leaves this machine.")
    ] = None,
    strength: Annotated[
        float, setting("STRENGTH", "With --image: share of the steps; the more, the less is left of it.")
    ] = 0.8,
    height: Annotated[int | None, setting("HEIGHT", "Pixels; the model's own, or the image's, by default.")] = None,
    width: Annotated[int | None, setting("WIDTH", "Pixels; the model's own, or the image's, by default.")] = None,
    output: Annotated[Path, setting("OUTPUT", "PNG; of several pictures, NAME-0.png, NAME-1.png, ...")] = Path(
        "picture.png"
    ),
    metadata: Annotated[
        Literal["off", "on"],
        setting("METADATA", "on: write prompt, seed and settings into the PNG, for whoever gets the file."),
    ] = "off",
    report: Report = None,
    check: Check = None,
    signer: Signer = None,
    verify: Verify = "on",
    audit: Audit = 0.05,
    mode: Mode = "direct",
    timeout: Timeout = 60.0,
    pin: Pin = [],  # noqa: B006  (typer copies it)
    ca: Ca = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
) -> None:
    """Draw a picture on servers that learn nothing of it.

    [cyan]ppidm generate package/client "red apple, 3d style"
        --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002
        --num-inference-steps 25 --guidance-scale 4 --output apple.png[/]

    Prompt, latents and picture stay here. Servers see sizes, the number of steps,
    guidance on or off, and timing. Evaluator and dealer must not collude: rent
    them from different operators. A wrong answer ends the call.

    Servers outside of loopback are reached over TLS 1.3, with the certificate
    that --pin names; get the pins from the operators by a way that you trust.
    """
    command = import_late("ppidm.client.command", "")
    links = import_late("ppidm.client.links", "").LinkSettings(tuple(pin), ca, tls_cert, tls_key, token_file)
    connection = import_late("ppidm.client.connected", "").Connection(
        package=package,
        evaluator=evaluator,
        dealers=tuple(dealer),
        check=check,
        verify=verify == "on",
        audit=audit,
        mode=import_late("ppidm.client.exchange", "").Mode(mode),
        signer=signer,
        timeout=timeout,
        links=links,
    )
    settings = command.GenerateSettings(
        connection=connection,
        prompt=prompt,
        negative_prompt=negative_prompt,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        num_images_per_prompt=num_images_per_prompt,
        scheduler=scheduler,
        seed=seed,
        latents=latents,
        image=image,
        strength=strength,
        height=height,
        width=width,
        output=output,
        metadata=metadata == "on",
        report=report,
    )
    with step_progress("drawing") as report_step:
        paths = command.generate(settings, report_step)
    for path in paths:
        typer.echo(str(path))
