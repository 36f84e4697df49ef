"""`ppidm export` and `ppidm check-keys`: their options, parsed into frozen settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ppidm.console import stage_progress
from ppidm.options import Signer, import_late, setting


def export(
    model: Annotated[str, typer.Argument(help="Pipeline folder in diffusers' layout, hub id, or FILE.onnx.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    *,
    servers: Annotated[int, setting("SERVERS", "Server directories; all are full copies.")] = 2,
    offload: Annotated[
        str,
        setting("OFFLOAD", "Linear layers that servers run: all, conv, or a share of the U-Net's FLOPs, such as 0.67."),
    ] = "all",
    components: Annotated[
        str, setting("COMPONENTS", "What is partitioned: unet, or unet,vae for the image decoder too.")
    ] = "unet",
    input_shape: Annotated[
        list[str],
        setting("INPUT_SHAPE", "Of FILE.onnx: NAME=1x3x224x224. Repeatable; in the variable, by spaces."),
    ] = [],  # noqa: B006  (typer copies it)
    lora: Annotated[
        list[str],
        setting(
            "LORA", "To merge: FILE.safetensors or FILE.safetensors=STRENGTH. Repeatable; in the variable, by spaces."
        ),
    ] = [],  # noqa: B006
    precision: Annotated[
        Literal["exact", "balanced", "fast"],
        setting(
            "PRECISION",
            "exact: whole answers, each checked. balanced: 16-bit answers, audited. fast: also a ring of 24 bits.",
        ),
    ] = "exact",
    retrace: Annotated[
        bool, typer.Option("--retrace", envvar="PPIDM_RETRACE", help="Trace even if model.onnx is there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", envvar="PPIDM_FORCE", help="Replace OUT if it is a package.")
    ] = False,
    sign: Annotated[
        Path | None, setting("SIGN", "Ed25519 private key, PEM, to sign all manifests with; see `ppidm keys sign`.")
    ] = None,
) -> None:
    """Partition a Stable Diffusion pipeline into a client package and server packages.

    [cyan]ppidm export models/default package[/]

    Writes OUT/client (for users), OUT/server-0, OUT/server-1, ... (one per
    operator), and OUT/check: secret and personal, the vectors by which a wrong
    answer is caught. All or nothing; ends with a comparison.

    FILE.onnx is any graph in ONNX, for `ppidm run`: convolutions and products with
    constant weights go to the servers, the rest stays.

    Needs the extra `partition`; a folder that is not traced yet is traced first,
    which needs the extra `export`.
    """
    settings = import_late("ppidm.export.settings", "partition")
    chosen = settings.ExportSettings(
        model=model,
        out=out,
        servers=servers,
        offload=settings.offload_from_text(offload),
        retrace=retrace,
        force=force,
        sign=sign,
        components=tuple(components.split(",")),
        input_shapes=tuple(input_shape),
        loras=tuple(lora),
        precision=import_late("ppidm.protocol.precision", "").Precision(precision),
    )
    with stage_progress() as report:
        result = _exported(chosen, report)
    typer.echo(
        f"{result.out}: {result.slices} slices, {result.segments} client segments, {servers} servers; "
        f"{100 * result.share:.1f} % of the FLOPs offloaded; partition error {result.partition_error:.1e}, SNR after "
        f"quantisation {result.snr_db:.1f} dB"
    )


def _exported(settings: Any, report: Any) -> Any:  # noqa: ANN401
    if settings.model.endswith(".onnx"):
        graphs = import_late("ppidm.export.graph_package", "partition")
        return graphs.export_graph(Path(settings.model), settings, report)
    return import_late("ppidm.export.package", "partition").export_package(settings, report)


def check_keys(
    server: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`: the public quantised weights.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, for `ppidm generate --check`.")],
    *,
    force: Annotated[bool, typer.Option("--force", envvar="PPIDM_FORCE", help="Replace OUT.")] = False,
    signer: Signer = None,
) -> None:
    """Draw fresh check vectors for one user.

    [cyan]ppidm check-keys package/server-0 my-check[/]

    Whoever made a client package for others must not know the vectors by which
    wrong answers are caught: draw your own, on your own machine.

    Needs the extra `partition`.
    """
    module = import_late("ppidm.export.check_keys", "partition")
    with stage_progress() as report:
        count = module.draw_check_keys(server, out, force=force, signer=signer, progress=report)
    typer.echo(f"{out}: check vectors for {count} slices; secret, and yours alone")
