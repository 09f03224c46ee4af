"""CLIP score equals torchmetrics' on the same weights, from a small CLIP made here."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers
from tokenizers import pre_tokenizers
from torchmetrics.multimodal import CLIPScore

from gensynth.errors import InputError, UsageError
from gensynth.metrics import clip_scores
from gensynth.metrics.extractors.pairs import open_clip_pairs

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
CAPTIONS = ["a cat", "a dog in the sun", "", "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random CLIP as transformers saves it, with tokenizer and preprocessing."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = {"vocab_size": 520, "max_position_embeddings": 20, "num_attention_heads": 2}
        text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        vision = {"image_size": 28, "patch_size": 14, "num_attention_heads": 2}
        model = transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=SMALL | text, vision_config=SMALL | vision, projection_dim=6
            )
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        model.visual_projection.weight.neg_()  # scores above 0, which are not cut off
    model.save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def images():
    shape, generator = (4, 3, 40, 52), torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def peer(folder):
    """torchmetrics' metric; with transformers 5 the features are a field of what CLIP returns."""
    network = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    model = SimpleNamespace(
        config=network.config,
        get_image_features=lambda x: network.get_image_features(x).pooler_output,
        get_text_features=lambda x, mask: network.get_text_features(x, mask).pooler_output,
    )
    model.to = lambda device: model
    return CLIPScore(lambda: (model, processor))


def test_clip_score_is_that_of_torchmetrics(folder, images):
    metric = peer(folder)
    with torch.inference_mode():
        metric.update(list(images), CAPTIONS)
    scorer = open_clip_pairs(folder)
    ours = clip_scores(scorer(images)["embedding"], scorer.embed(CAPTIONS))
    assert len(set(ours.tolist())) == 4  # else anything would agree
    assert max(float(ours.mean()), 0) == pytest.approx(float(metric.compute()), abs=1e-4)
    assert float(ours.mean()) > 0


def test_each_pair_is_scored_by_itself(folder, images):
    scorer = open_clip_pairs(folder)
    pictures, texts = scorer(images)["embedding"], scorer.embed(CAPTIONS)
    assert texts.norm(dim=1).tolist() == pytest.approx([1] * 4)
    torch.testing.assert_close(texts[0], texts[3])
    scores = clip_scores(pictures, texts)
    for index in range(4):
        alone = 100 * F.cosine_similarity(pictures[index], texts[index], dim=0)
        assert float(scores[index]) == pytest.approx(float(alone), abs=1e-4)


def test_a_long_text_keeps_its_last_token(folder):
    scorer = open_clip_pairs(folder)
    # a token a word: with those at both ends 18 fill the 20 places
    long, longer, shorter = scorer.embed([" ".join("x" * n) for n in (18, 5000, 17)])
    torch.testing.assert_close(long, longer)
    assert not torch.allclose(long, shorter, atol=1e-3)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json"):
        open_clip_pairs(tmp_path)
    transformers.CLIPModel.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"CLIPProcessor\.save_pretrained"):
        open_clip_pairs(tmp_path)
    # the advice
    transformers.CLIPProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    assert open_clip_pairs(tmp_path).fingerprint


def test_a_place_that_is_not_there_is_told_with_the_right_option():
    with pytest.raises(InputError, match=r"no folder .*nothing.*folder with --clip FOLDER"):
        open_clip_pairs("nobody/nothing")


def test_another_model_is_refused(tmp_path):
    tiny = transformers.Dinov2Config(hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
    transformers.Dinov2Model(tiny).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a dinov2, not a clip"):
        open_clip_pairs(tmp_path)
