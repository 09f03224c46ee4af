"""Whether the parts of a pretrained pipeline are each other's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from transformers import PreTrainedTokenizerFast

from gensynth.errors import CorruptError
from gensynth.pipelines.finding import INDEX
from gensynth.pipelines.pretrained.families import Family
from gensynth.pipelines.pretrained.prompts import PARTS


def check_readers(folder: Path, entries: Mapping[str, type], kind: Any) -> None:
    """Refuses text encoders and tokenizers of another kind than a pipeline says that it has.

    Args:
        entries: the classes of its parts.
        kind: the class of the pipeline.

    Raises:
        CorruptError: with both kinds.
    """
    hints = get_type_hints(kind.__init__)
    for part, found in entries.items():
        if not part.startswith(("text_encoder", "tokenizer")):
            continue
        # The general class of tokenizers says nothing of its words.
        if not issubclass(found, hints[part]) and found is not PreTrainedTokenizerFast:
            known = " or ".join(one.__name__ for one in get_args(hints[part]) or (hints[part],))
            raise CorruptError(
                f"{folder / INDEX}: its {part} is a {found.__name__}, and a {kind.__name__} reads "
                f"with a {known}. Fetch or export the model again."
            )


def check_together(folder: Path, family: Family, parts: Mapping[str, Any]) -> None:
    """Refuses loaded parts that are not each other's, as far as their numbers tell.

    Raises:
        CorruptError: with what does not fit.
    """
    network = parts[family.network].config
    gives = parts["vae"].config.latent_channels * (4 if family.packed else 1)
    if network.in_channels != gives:
        raise CorruptError(
            f"{folder}: its {family.network} works on {network.in_channels} channels, and its vae "
            f"gives {gives}; only pipelines that draw from words alone are known."
        )
    for key, terms in family.widths.items():
        sources = [one.split(".") for one in terms]
        if not all(part in parts for part, _ in sources):
            continue  # Stable Diffusion 3 without its T5
        told = sum(getattr(parts[part].config, name) for part, name in sources)
        takes = network.get(key)
        if isinstance(takes, int) and takes != told:
            raise CorruptError(
                f"{folder}: its {family.network} is made for texts with a {key} of {takes}, and "
                f"its text encoders give {told}; they are of different models."
            )
    for end in PARTS:
        if f"tokenizer{end}" in parts and f"text_encoder{end}" in parts:
            _check_reader(folder, end, parts)


def _check_reader(folder: Path, end: str, parts: Mapping[str, Any]) -> None:
    """A tokenizer that gives more, or more different, tokens than its text encoder knows."""
    tokenizer, config = parts[f"tokenizer{end}"], parts[f"text_encoder{end}"].config
    differ = [("words", len(tokenizer), config.vocab_size)]
    if config.model_type.startswith("clip"):
        differ += [
            ("tokens of a prompt", tokenizer.model_max_length, config.max_position_embeddings)
        ]
    for what, gives, knows in differ:
        if gives > knows:
            raise CorruptError(
                f"{folder}: its tokenizer{end} has {gives:,} {what}, and its text_encoder{end} "
                f"knows {knows:,}; they are of different models."
            )
