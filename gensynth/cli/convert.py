"""`gensynth convert`."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("convert")(convert)


def convert(
    system: str = typer.Option(
        ..., "--from", help="dico, dic, dit, sit, mdt, maskgit or llamagen."
    ),
    checkpoint: Path = typer.Option(
        ..., "--checkpoint", help="Published file, .pt or safetensors."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to make."),
    model: str = typer.Option(None, "--model", help="Size. [default: found by its shapes]"),
    vae: str = typer.Option(
        None,
        "--vae",
        help="VAE or tokenizer: folder or hub id of a diffusers AutoencoderKL [default: "
        "stabilityai/sd-vae-ft-ema]; of maskgit a tokenizer's folder, or LlamaGen's .pt.",
    ),
    size: int = typer.Option(None, "--size", help="Pixels. [default: what it was trained at]"),
    part: str = typer.Option(
        None, "--part", help="Which weights of the file: model, model_ema, ... [default: EMA]"
    ),
    config: list[str] = typer.Option(
        [], "--config", metavar="KEY=VALUE", help="A keyword in which it differs from --model."
    ),
) -> None:
    """Turn an official checkpoint into a model folder. No code in the file is run.

    gensynth convert --from dit --checkpoint DiT-XL-2-256x256.pt --out dit-xl

    gensynth convert --from llamagen --checkpoint vq_ds16_c2i.pt --out vq_f16

    gensynth convert --from maskgit --checkpoint ImageNet_256_base.pth --vae vq_f16 --out maskgit-b
    """
    from gensynth.preflight.converting import check

    check(system, checkpoint, out, model, vae, size, config)
    from gensynth.convert.checkpoint import convert as run

    print(run(system, checkpoint, out, model, vae, size, config, part).summary())
