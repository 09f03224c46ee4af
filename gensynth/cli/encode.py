"""`gensynth encode`."""

import shlex
from pathlib import Path

import typer

from gensynth.cli.config import CONFIG_HELP
from gensynth.cli.train import checked_experiment
from gensynth.errors import RefusedError, UsageError
from gensynth.system.disk import check_writable

REPLACED = ("data.source=", "data.path=", "data.streaming=")


def register(app: typer.Typer) -> None:
    app.command("encode")(encode)


def encode(
    config: str = typer.Option(..., "--config", help=CONFIG_HELP),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to make."),
    batch_size: int = typer.Option(32, "--batch-size", help="Images encoded together."),
    text: bool = typer.Option(
        False, "--text", help="Encode the captions instead, with a frozen text encoder."
    ),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", show_default=False),
) -> None:
    """Encode images once, to train from their latents or tokens.

    gensynth encode --config imagenet256/dit_xl2 --out latents

    Then train with data.source=encoded data.path=latents and the same other settings. With
    data.flip the mirrored images are encoded too. Tokens and pixels train as they do on the fly; of
    a kl autoencoder the mean of the posterior is kept, where training on the fly draws a sample in
    every step. Unreadable images are left out.

    --text encodes each different caption once, with the frozen text encoder condition.encoder, into
    OUT/texts; OUT may hold the encoded images. Training finds them there with data.source=encoded,
    or else with data.texts=OUT. It still needs the encoder's files, to see that they are the same,
    but loads the encoder only for prompts that are not among the captions.

    One process on one device; not for torchrun or accelerate launch. data.workers decode ahead.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {batch_size}.")
    if text:
        _encode_texts(config, out, overrides or [])
        return
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise RefusedError(f"{out} exists and is not an empty folder; choose another --out.")
    check_writable(out)
    experiment = checked_experiment(config, overrides)
    from gensynth.experiments.encoding import encode as run

    encoding = run(experiment, out, batch_size)
    print(f"{encoding.count} images as {encoding.dtype} {encoding.shape} in {out}")
    kept = [given for given in overrides or [] if not given.startswith(REPLACED)]
    streaming = ["data.streaming=false"] if experiment.data.streaming else []
    kept += ["data.source=encoded", f"data.path={out}", *streaming]
    print(f"Try: gensynth train --config {shlex.join([config, *kept])}")


def _encode_texts(config: str, out: Path, overrides: list[str]) -> None:
    if out.is_file():
        raise RefusedError(f"{out} is a file; choose another --out.")
    experiment = checked_experiment(config, overrides)
    from gensynth.experiments.encoding_texts import encode_texts

    record = encode_texts(experiment, out)
    print(f"{record.count} different texts (one is empty) in {out / 'texts'}")
    beside = experiment.data.source == "encoded" and experiment.data.path == str(out)
    kept = overrides if beside else [*overrides, f"data.texts={out}"]
    print(f"Try: gensynth train --config {shlex.join([config, *kept])}")
