"""`gensynth convert`: a published checkpoint -> a finished pipeline, or tokenizer, folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError

from gensynth.convert.drawing import DEFAULT_VAE, drawing_pipeline, open_codec
from gensynth.convert.matching import Match, match
from gensynth.convert.tokens import PATCH
from gensynth.errors import OutputError
from gensynth.files import new_folder
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.preflight.converting import check, check_vae

# What training scripts called a state that may as well be averaged: Halton-MaskGIT stores averages
# under the same name, in a file of their own.
UNSAID = (None, "model_state_dict")


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote."""

    folder: Path
    system: str
    model: str  # name of the preset
    parameters: int
    part: str | None  # of the checkpoint, see `State`
    averaged: bool  # whether the checkpoint says so of that part
    size: int | None  # pixels; None: a tokenizer, which has no size
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Lines for a terminal."""
        if self.averaged:
            which = "EMA weights" + (f" ('{self.part}')" if self.part not in (None, "ema") else "")
        elif self.part in UNSAID:
            which = "the file's only weights (it does not say whether they are averaged)"
        else:
            which = f"the weights '{self.part}', which the file does not call averaged"
        notes = "".join(f"note: {note}\n" for note in self.notes)
        what = self.model if self.size is None else f"{self.model} at {self.size} pixels"
        use = f"sample: gensynth sample --model {self.folder}"
        if self.size is None:
            use = (
                f"use: autoencoder.kind=vq autoencoder.path={self.folder}, or --vae {self.folder} "
                "of gensynth convert --from maskgit"
            )
        return f"{notes}{self.system}: {what}, {self.parameters:,} parameters, {which}\n{use}"


def convert(
    system: str,
    checkpoint: Path,
    out: Path,
    model: str | None = None,
    vae: str | None = None,
    size: int | None = None,
    changes: Sequence[str] = (),
    part: str | None = None,
) -> Converted:
    """Writes the folder of a published checkpoint, whole or not at all.

    Of "llamagen" it is a tokenizer's folder, of the other systems a pipeline's.

    Args:
        checkpoint: a file of `torch.save` or safetensors, under the official names.
        out: a folder that is not there yet, or empty.
        model: a preset; None: the one whose tensors have these names and shapes.
        vae: folder or hub id of a diffusers AutoencoderKL, None: `DEFAULT_VAE`; of "maskgit" folder
            or hub id of a tokenizer, or LlamaGen's file of one.
        size: pixels; None: the size of the position table, or 256 for a ConvNet.
        changes: "key=value" of keywords in which the model differs from `model`.
        part: where the weights are in the file ("model_ema"); None: the averaged ones, if any.

    Raises:
        UsageError: a checkpoint of another system or size, with the differences.
        InputError, RefusedError, CorruptError: a file or VAE that is missing, unsafe or damaged.
        OutputError: `out` cannot be written.
    """
    keywords = check(system, checkpoint, out, model, vae, size, changes)
    found = match(system, checkpoint, model, keywords, part)
    which = (found.part, found.averaged)
    if system == "llamagen":
        made = found.filled()
        _write(made, out)
        return Converted(out, system, found.name, made.num_parameters(), *which, None)
    vae = vae or DEFAULT_VAE
    if system != "maskgit":
        check_vae(vae)
    codec = open_codec(system, vae)
    made = found.filled()
    pipeline = drawing_pipeline(system, found, made, codec, vae, size)
    _write(pipeline, out)
    drawn = pipeline.config.size
    notes = _notes(system, found, codec.patch, drawn)
    return Converted(out, system, found.name, made.num_parameters(), *which, drawn, notes)


def _notes(system: str, found: Match, patch: int, drawn: int) -> tuple[str, ...]:
    """What the tensors cannot tell, and the user should know."""
    notes = []
    if found.borrowed:
        names = ", ".join(found.borrowed)
        notes.append(f"the average is without {names}, which came from the weights beside it.")
    if found.repa:
        notes.append(
            "a SiT of REPA, whose time runs from data to noise; the weights are turned to run as "
            "SiT's, and the projectors are left out."
        )
    elif system in ("dit", "sit"):
        other = {"dit": "SiT", "sit": "DiT"}[system]
        notes.append(f"a {other} checkpoint would look the same; --from decides which it is.")
    if system == "maskgit" and patch != PATCH:
        notes.append(
            f"the published models were trained on tokens of {PATCH} pixels; this tokenizer's are "
            f"of {patch}."
        )
    trained = _trained_size(found.keywords, patch)
    if trained is not None and trained != drawn:
        notes.append(f"its positions were trained at {trained} pixels; it will draw at {drawn}.")
    return tuple(notes)


def _trained_size(keywords: Mapping[str, Any], patch: int) -> int | None:
    """Pixels of a side at which a table of positions was trained; None without one."""
    side = keywords.get("input_size")
    return side * patch if isinstance(side, int) else None


def _write(made: ClassConditionalPipeline | ModelMixin, out: Path) -> None:
    try:
        with new_folder(out) as folder:
            made.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {out}: {error}.") from error
