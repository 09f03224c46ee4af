"""Tokenizers and text encoders of transformers' own classes, made here: CLIP, T5 and Gemma 2."""

import functools
from typing import Any

import transformers
from tokenizers import pre_tokenizers

WIDTH = 32  # of hidden states
LENGTH = 77  # tokens that a CLIP reads
# What trainers of `tokenizers` learn of "a red apple on a green table", "a photo of a small cat in
# the grass", "the blue house by the sea at night" and "two birds fly over a white mountain". It is
# written down since they number it anew in each process: the same prompt would be another there.
_MERGES = (
    "h e</w>, t he</w>, a t</w>, b l, g r, h o, i n</w>, t a, a l, a p, a s, b i, b y</w>, "
    "c at</w>, d s</w>, e e, e a</w>, e r</w>, e d</w>, f l, g h, h i, i gh, l e</w>, m o, "
    "m al, n ta, n igh, o v, o n</w>, o f</w>, p ho, p le</w>, r ds</w>, r ed</w>, "
    "s e</w>, s ea</w>, s mal, t w, t o</w>, t e</w>, u e</w>, u nta, u se</w>, w hi, "
    "bl e</w>, bl ue</w>, gr as, gr ee, ho use</w>, ta ble</w>, ap ple</w>, bi rds</w>, "
    "fl y</w>, mo unta, nigh t</w>, ov er</w>, pho to</w>, smal l</w>, tw o</w>, "
    "whi te</w>, gras s</w>, gree n</w>, mounta in</w>"
)
_PIECES = "▁a ▁t ▁b ▁gr bl ou ▁o se ▁c ta ho ▁f ▁w ▁m re ▁s ▁p ▁i ▁n ▁h"


@functools.cache
def _clip_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a CLIP tokenizer: every byte, inside of a word and at its end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(first, second) for first, second in (one.split() for one in _MERGES.split(", "))]
    marks = ["<|startoftext|>", "<|endoftext|>"]  # with the largest numbers
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *marks]
    return {word: number for number, word in enumerate(words)}, merges


def clip_tokenizer() -> Any:
    vocabulary, merges = _clip_words()
    return transformers.CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)


@functools.cache
def _t5_words() -> list[tuple[str, float]]:
    """The pieces of a T5 tokenizer with the logarithms of how often they are."""
    letters = [chr(code) for code in range(33, 127)]
    marks, pieces = ["<pad>", "</s>", "<unk>"], {"▁": -1.5, **dict.fromkeys(_PIECES.split(), -5.0)}
    return [*dict.fromkeys(marks, 0.0).items(), *pieces.items(), *((one, -4.0) for one in letters)]


def t5_tokenizer() -> Any:
    words = _t5_words()
    return transformers.T5Tokenizer(words, extra_ids=0, model_max_length=512)


def gemma_tokenizer() -> Any:
    """One token for each of some characters, and bytes for the others."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:->'\n"))
    tokens = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return transformers.GemmaTokenizer(vocabulary, [], add_bos_token=True, model_max_length=8192)


def clip(tokenizer: Any, projected: bool = False) -> Any:
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5(tokenizer: Any, width: int = WIDTH) -> Any:
    return transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def gemma(tokenizer: Any) -> Any:
    return transformers.Gemma2Model(
        transformers.Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
