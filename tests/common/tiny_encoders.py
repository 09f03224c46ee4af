"""Tokenizers and text encoders of transformers' own classes, made here: CLIP, T5 and Gemma 2."""

import functools
import json
from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CAPTIONS = [
    "a red apple on a green table",
    "a photo of a small cat in the grass",
    "the blue house by the sea at night",
    "two birds fly over a white mountain",
]
WIDTH = 32  # of hidden states
LENGTH = 77  # tokens that a CLIP reads


@functools.cache
def _clip_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a CLIP tokenizer, learnt from the captions."""
    learner: Tokenizer = transformers.CLIPTokenizer().backend_tokenizer
    learner.model = models.BPE(end_of_word_suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        end_of_word_suffix="</w>",
        initial_alphabet=_byte_letters(),
        show_progress=False,
    )
    learner.train_from_iterator(CAPTIONS * 5, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = dict(learnt["vocab"])
    # Every byte, inside of a word and at its end, then the marks with the largest numbers.
    for letter in _byte_letters():
        vocabulary.setdefault(letter, len(vocabulary))
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    for mark in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[mark] = len(vocabulary)
    return vocabulary, [tuple(pair) for pair in learnt["merges"]]


def _byte_letters() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    vocabulary, merges = _clip_words()
    return transformers.CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)


@functools.cache
def _t5_words() -> list[tuple[str, float]]:
    learner: Tokenizer = transformers.T5Tokenizer().backend_tokenizer
    learner.model = models.Unigram()
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=letters,
        show_progress=False,
    )
    learner.train_from_iterator([*CAPTIONS * 5, *letters], trainer)
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["vocab"]]


def t5_tokenizer() -> Any:
    words = _t5_words()
    return transformers.T5Tokenizer(words, extra_ids=0, model_max_length=512)


def gemma_tokenizer() -> Any:
    """One token for each character of the captions, and bytes for the others."""
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
