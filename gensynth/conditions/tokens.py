"""Words of prompts as numbers: a tokenizer made from captions, and files of one.

Byte-level BPE (arXiv 1508.07909; GPT-2's bytes), so that any script and any character can be
written; upper and lower case are the same. `tokenizers` does the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensynth.errors import CorruptError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"
# In the order of their numbers: `models.layers.text` says why the end is not 2.
SPECIAL = ("<pad>", "<begin>", "<unknown>", "<end>")


def learn_tokenizer(captions: Iterable[str], vocabulary: int) -> str:
    """The JSON of a tokenizer with at most so many tokens, for captions such as these.

    The same captions give the same tokenizer, in whatever order they come.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(captions), trainer)
    begin, end = SPECIAL[1], SPECIAL[3]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(begin, SPECIAL.index(begin)), (end, SPECIAL.index(end))],
    )
    return str(tokenizer.to_str())


def own_tokenizer(content: str) -> PreTrainedTokenizerBase:
    """transformers' tokenizer of the JSON that `learn_tokenizer` gave."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    pad, begin, unknown, end = SPECIAL
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(content),
        pad_token=pad,
        bos_token=begin,
        unk_token=unknown,
        eos_token=end,
        split_special_tokens=True,  # "<end>" in a prompt is five characters
    )
    return made


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer that `save_pretrained` wrote; no code of the folder is run.

    Raises:
        CorruptError: it is missing or damaged.
    """
    from transformers import AutoTokenizer

    if not (folder / FILE).is_file():
        raise CorruptError(f"{folder / FILE} is missing; save the model or export it again.")
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptError(
            f"{folder} holds no tokenizer that can be read: {first_line(error)}."
        ) from error
