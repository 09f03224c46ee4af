"""Tokenizers as published pipelines have them: in one file, or in older ones."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from tiny_encoders import clip_tokenizer, t5_tokenizer

import gensynth
from gensynth.errors import CorruptError, InputError

TOLD = "A small cat's house"
HOW = {"steps": 1, "size": 64}


def picture(folder):
    return np.asarray(gensynth.load(folder)("the small cat's house, 2", [1], **HOW)[0])


@pytest.fixture
def copied(pretrained_folder, tmp_path):
    return lambda kind: shutil.copytree(pretrained_folder(kind), tmp_path / kind)


def test_vocabulary_and_merges_as_of_stable_diffusion_1(copied):
    folder = copied("sd")
    before, words = picture(folder), folder / "tokenizer"
    content = json.loads((words / "tokenizer.json").read_text())["model"]
    (words / "tokenizer.json").unlink()
    (words / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["merges"]]
    (words / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    assert np.array_equal(picture(folder), before)


def test_a_tokenizer_without_words_is_refused(copied):
    folder = copied("sd")
    (folder / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(CorruptError, match=r"holds no words: tokenizer\.json is missing"):
        gensynth.load(folder)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_pieces_need_their_library(copied):
    folder = copied("pixart")
    (folder / "tokenizer/tokenizer.json").rename(folder / "tokenizer/spiece.model")
    with pytest.raises(InputError, match="sentencepiece, which is not installed: pip install sent"):
        gensynth.load(folder)


def test_the_tokenizers_of_these_tests_read_the_same_in_each_process():
    words = [make()(TOLD).input_ids for make in (clip_tokenizer, t5_tokenizer)]
    assert words[0] == [576, 320, 570, 525, 6, 338, 561, 577]
    assert words[1] == [3, 56, 19, 100, 88, 99, 99, 12, 88, 107, 30, 106, 23, 9, 11, 1]
