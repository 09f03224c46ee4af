"""Prompts: read, cut, encoded, kept in a folder."""

import json

import pytest
import torch
from tiny_clip import save_clip
from transformers import (
    AutoModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from gensynth.conditions import Texts
from gensynth.conditions.tokens import SPECIAL, learn_tokenizer, own_tokenizer
from gensynth.config import Shown
from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.models.layers.text import BEGIN, END, PAD, TextInput

CAPTIONS = ["red apple, fluent", "green apple, noto", "cat face, blob", "cat face, fluent"] * 3
CPU = torch.device("cpu")


def small(**section) -> Texts:
    shown = Shown(kind="text", **{"length": 8, "width": 16, "layers": 1, "heads": 2, **section})
    return Texts.of_experiment(shown, [], CAPTIONS)


@pytest.fixture
def texts():
    return small()


# Words


def test_the_order_of_the_captions_does_not_matter():
    assert learn_tokenizer(CAPTIONS, 300) == learn_tokenizer(CAPTIONS[::-1], 300)


def test_marks_have_the_numbers_that_the_encoder_expects():
    tokenizer = own_tokenizer(learn_tokenizer(CAPTIONS, 300))
    marks = dict(zip(SPECIAL, range(4), strict=True))
    assert [marks["<pad>"], marks["<begin>"], marks["<end>"]] == [PAD, BEGIN, END]
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3]
    assert tokenizer("")["input_ids"] == [BEGIN, END]


@pytest.mark.parametrize("other", ["RED Apple, Fluent", "ｒｅｄ apple, fluent"])
def test_case_and_width_of_letters_do_not_matter(texts, other):
    assert texts.tokenizer(other).input_ids == texts.tokenizer("red apple, fluent").input_ids


@pytest.mark.parametrize("prompt", ["🍎", "красное яблоко", "り", "a\tb"])
def test_any_character_can_be_written(texts, prompt):
    told = texts.tokenizer(prompt)["input_ids"]
    assert SPECIAL.index("<unknown>") not in told and len(told) > 2


# Prompts


@pytest.mark.parametrize(
    ("wish", "item"),
    [("  red \n apple ", "red apple"), ("", ""), (None, ""), ("e\u0301", "\u00e9")],
)
def test_a_prompt_is_tidied(texts, wish, item):
    assert texts.item(wish) == item


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (7, "a prompt is a text, got 7; this model knows no classes"),
        (True, "a prompt is a text, got True"),
        ("x" * 10_001, r"may have 10,000 characters, this one has 10,001"),
        ("a\0b", "cannot hold the character NUL"),
        ("caf\udce9", "no UTF-8"),
    ],
)
def test_what_is_no_prompt_is_refused(texts, wish, words):
    with pytest.raises(UsageError, match=words):
        texts.item(wish)


def test_each_text_is_a_prompt_commas_included(texts):
    assert texts.prompted([" red apple, fluent\n", "3", ""]) == ["red apple, fluent", "3", ""]


@pytest.mark.parametrize("line", ["3", "0-9", "cat face"])
def test_classes_are_no_prompt(texts, line):
    words = f"instead of the class '{line}' give a prompt, such as --prompt 'red apple, fluent'"
    with pytest.raises(UsageError, match=words):
        texts.parse(line)


def test_a_long_prompt_is_cut_and_the_lost_words_are_named():
    # between the marks there is room for six tokens, which are whole words in this vocabulary
    texts = small(vocabulary=1000)
    prompt = "red apple cat face green noto blob fluent"
    assert texts.lost(prompt) == "blob fluent"
    [note] = texts.notes([prompt, "cat face", prompt])
    assert "cut after 8 tokens" in note and "'blob fluent'" in note
    assert texts.notes(["red apple, fluent"]) == []
    whole, cut = texts.encode([prompt, "red apple cat face green noto"], CPU)["input_ids"]
    assert torch.equal(whole, cut) and whole[-1] == END


def test_where_no_blanks_are_the_cut_is_inside_of_the_word():
    texts = small(length=16)
    prompt = "りんご" * 20  # of bytes, since no caption has any
    lost = texts.lost(prompt)
    assert prompt.endswith(lost) and 0 < len(lost) < len(prompt)
    assert texts._tokens_of(prompt[: -len(lost)]) <= 16 < texts._tokens_of(prompt[: 1 - len(lost)])
    [note] = texts.notes(["cat", prompt, prompt])
    assert note.endswith(f"not read: {lost!r}.")


def test_an_emoji_is_read_as_its_name_and_kept_as_it_was_typed(texts):
    typed, said = "🍎, fluent", "red apple, fluent"
    assert texts.item(typed) == typed and texts.recipe(typed) == {"prompt": typed}
    read = texts.encode([typed, said], CPU)["input_ids"]
    assert torch.equal(*read)
    assert texts.notes([typed]) == []


def test_an_emoji_of_the_captions_is_a_word_itself():
    captions = ["🍎 fluent", "🍎 noto", "cat 🐱 fluent", "🐱 noto"] * 9
    shown = Shown(kind="text", length=8, width=16, layers=1, heads=2, vocabulary=600)
    texts = Texts.of_experiment(shown, [], captions)
    assert texts.words("🍎 noto 🚀") == "🍎 noto rocket"


def test_a_frozen_encoder_reads_what_is_typed(tmp_path):
    encoder_folder("clip", tmp_path)
    texts = Texts.of_experiment(Shown(kind="text", encoder=str(tmp_path), length=10), [], CAPTIONS)
    assert texts.words("🍎 noto") == "🍎 noto"


def test_a_job_of_many_prompts_is_described_by_a_hash(texts):
    assert texts.job(["a", "b"]) == {"prompts": ["a", "b"]}
    many = [f"picture number {number}" for number in range(1000)]
    described = texts.job(many)["prompts"]
    assert described["number"] == 1000 and described["first"] == "picture number 0"
    other = texts.job([*many[:-1], "another"])["prompts"]
    assert other["sha256"] != described["sha256"] and len(json.dumps(described)) < 200


def test_a_caption_is_a_row_of_numbers(texts):
    told = texts.encode(["cat face", ""], CPU)
    assert set(told) == set(texts.tensors) == {"input_ids", "attention_mask"}
    assert told["input_ids"].shape == (2, 8) and told["attention_mask"].dtype == torch.bool
    none = texts.none(CPU)
    assert all(torch.equal(none[name][0], told[name][1]) for name in told)
    assert told["attention_mask"].sum(1).tolist()[1] == 2  # the two marks


def test_labels_are_not_captions(texts):
    with pytest.raises(UsageError, match=r"labels and no captions; set condition\.kind=classes"):
        texts.encode(torch.tensor([1, 2]), CPU)


def test_a_recipe_is_read_again(texts):
    assert texts.from_recipe(texts.recipe("cat face, blob")) == "cat face, blob"
    with pytest.raises(UsageError, match="holds no prompt; it is of a model of classes"):
        texts.from_recipe({"label": 3})


# Folders


class OfTexts:
    """As much of a model as the condition looks at."""

    def __init__(self, length: int):
        self.config = type("Config", (), {"text": {"length": length}})


def test_a_saved_condition_is_the_same(texts, tmp_path):
    texts.save(tmp_path)
    again = Texts.of_model(OfTexts(8)).load(tmp_path)
    prompts = ["Red apple, fluent", "кот", ""]
    assert torch.equal(
        again.encode(prompts, CPU)["input_ids"], texts.encode(prompts, CPU)["input_ids"]
    )
    assert again.describe() == texts.describe() and again.every() == texts.every()
    assert set(texts.every()) == set(CAPTIONS)


def test_a_run_that_goes_on_keeps_its_words(texts, tmp_path):
    texts.save(tmp_path)
    shown = Shown(kind="text", length=8)
    again = Texts.of_experiment(shown, [], ["quite other words"] * 9, begun=tmp_path)
    assert again.describe() == texts.describe()


def test_a_run_that_goes_on_without_its_words_is_damaged(texts, tmp_path):
    texts.save(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    shown = Shown(kind="text", length=8)
    again = Texts.of_experiment(shown, [], CAPTIONS, begun=tmp_path)
    with pytest.raises(CorruptError, match="is missing"):
        again.encode(["cat"], CPU)


def test_a_stream_that_goes_on_keeps_its_examples(texts, tmp_path):
    texts.save(tmp_path)
    again = Texts.of_experiment(Shown(kind="text", length=8), [], (), begun=tmp_path)
    assert again.every() == texts.every() and again.describe() == texts.describe()


def test_marks_in_a_prompt_are_characters(texts, tmp_path):
    texts.save(tmp_path)
    for known in (texts, Texts.of_model(OfTexts(8)).load(tmp_path)):
        told = known.tokenizer("cat <end> <pad>")["input_ids"]
        assert told.count(END) == 1 and told[-1] == END and PAD not in told


def test_no_code_of_a_folder_is_run(texts, tmp_path, monkeypatch):
    texts.save(tmp_path)
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    hostile = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    config.write_text(json.dumps(hostile))
    ran = tmp_path / "ran"
    (tmp_path / "tokenizer" / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # whoever is asked says yes
    with pytest.raises(CorruptError, match="no tokenizer that can be read"):
        Texts.of_model(OfTexts(8)).load(tmp_path)
    assert not ran.exists()
    encoder_folder("clip", tmp_path / "clip")
    config = tmp_path / "clip" / "config.json"
    hostile = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    config.write_text(json.dumps(hostile))
    (tmp_path / "clip" / "evil.py").write_text((tmp_path / "tokenizer" / "evil.py").read_text())
    with pytest.raises(InputError, match="cannot be read"):
        _ = Texts.of_experiment(Shown(kind="text", encoder=str(tmp_path / "clip")), []).length
    assert not ran.exists()


def test_without_its_folder_it_has_no_words():
    with pytest.raises(UsageError, match=r"no tokenizer; load it with gensynth\.load"):
        Texts.of_model(OfTexts(8)).encode(["cat"], CPU)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("condition.json", "{", "missing or damaged"),
        ("condition.json", '{"length": "8", "encoder": null, "examples": []}', "is damaged"),
        ("condition.json", '{"length": 9, "encoder": null, "examples": []}', "do not belong"),
        ("tokenizer/tokenizer.json", "{}", "no tokenizer that can be read"),
        ("tokenizer/tokenizer.json", None, "is missing"),
    ],
)
def test_damaged_folders_are_told(texts, tmp_path, file, content, words):
    texts.save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(CorruptError, match=words):
        Texts.of_model(OfTexts(8)).load(tmp_path)


# Encoders that stay as they are


def encoder_folder(kind: str, folder):
    """A tiny encoder with random weights, as transformers saves one."""
    if kind == "clip":
        return save_clip(folder, CAPTIONS, num_hidden_layers=2, max_position_embeddings=12)
    sizes = {"vocab_size": 300, "hidden_size": 16, "num_attention_heads": 2}
    torch.manual_seed(0)
    if kind == "t5":
        sizes = {"vocab_size": 300, "d_model": 16, "d_kv": 8, "d_ff": 32}
        model = T5EncoderModel(T5Config(**sizes, num_layers=2, num_heads=2))
    else:
        config = Qwen3Config(
            **sizes, intermediate_size=32, num_hidden_layers=2, num_key_value_heads=2, head_dim=8
        )
        model = Qwen3Model(config)
    model.eval().save_pretrained(folder)
    own_tokenizer(learn_tokenizer(CAPTIONS, 300)).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["clip", "t5", "qwen"])
def test_a_frozen_encoder_gives_what_transformers_gives(kind, tmp_path):
    model = encoder_folder(kind, tmp_path)
    texts = Texts.of_experiment(Shown(kind="text", encoder=str(tmp_path), length=10), [], CAPTIONS)
    prompts = ["cat face, blob", ""]
    told = texts.encode(prompts, CPU)
    words = texts.tokenizer(prompts, padding="max_length", max_length=10, return_tensors="pt")
    with torch.no_grad():
        found = model(**words)
    mask = words["attention_mask"].bool()
    assert torch.equal(told["encoder_attention_mask"], mask)
    assert torch.equal(told["encoder_hidden_states"], found.last_hidden_state)
    mean = torch.stack([row[kept].mean(0) for row, kept in zip(found[0], mask, strict=True)])
    pooled = found.pooler_output if kind == "clip" else mean
    assert torch.allclose(told["pooled_projections"], pooled, atol=1e-6)
    assert texts.model_keywords()["text"] == {
        "width": 16,
        "pooled_width": 16,
        "length": 10,
        "cross": True,
        "encoder": None,
    }


def test_a_frozen_encoder_is_found_again_and_known_by_its_weights(tmp_path):
    model = encoder_folder("clip", tmp_path / "clip")
    shown = Shown(kind="text", encoder=str(tmp_path / "clip"))
    texts = Texts.of_experiment(shown, [], CAPTIONS)
    assert texts.length == 12  # as many as the encoder takes
    (tmp_path / "saved").mkdir()
    texts.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/condition.json").read_text())["fingerprint"]
    again = Texts.of_model(OfTexts(12)).load(tmp_path / "saved")
    assert again.describe() == texts.describe() and again.frozen is not None
    torch.nn.init.zeros_(next(model.parameters()))
    model.save_pretrained(tmp_path / "clip")
    with pytest.raises(CorruptError, match="is not, or no longer, the one"):
        Texts.of_model(OfTexts(12)).load(tmp_path / "saved")


def test_a_pipeline_may_be_given_for_its_encoder(tmp_path):
    encoder_folder("clip", tmp_path / "text_encoder")
    own_tokenizer(learn_tokenizer(CAPTIONS, 300)).save_pretrained(tmp_path / "tokenizer")
    shown = Shown(kind="text", encoder=str(tmp_path), length=6)
    assert Texts.of_experiment(shown, []).encode(["a"], CPU)["encoder_hidden_states"].shape == (
        1,
        6,
        16,
    )


def test_encoders_that_are_not_there_or_too_short(tmp_path):
    shown = Shown(kind="text", encoder=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no text encoder at .*none.*condition\.encoder"):
        _ = Texts.of_experiment(shown, []).length
    encoder_folder("clip", tmp_path)
    shown = Shown(kind="text", encoder=str(tmp_path), length=13)
    with pytest.raises(UsageError, match=r"length is 13, but .* takes 12 tokens at most"):
        Texts.of_experiment(shown, []).model_keywords()


def test_pickled_weights_are_not_read(tmp_path):
    model = encoder_folder("clip", tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    shown = Shown(kind="text", encoder=str(tmp_path))
    with pytest.raises(InputError, match="safetensors"):
        Texts.of_experiment(shown, []).encode(["a"], CPU)


# The model's own encoder


def test_its_own_encoder_is_a_clip_text_model(tmp_path, texts):
    torch.manual_seed(0)
    reader = TextInput(texts.model_keywords()["text"], [16]).eval()
    reader.encoder.save_pretrained(tmp_path)
    other = AutoModel.from_pretrained(tmp_path)
    told = texts.encode(["cat face, fluent", ""], CPU)
    with torch.no_grad():
        ours = reader.encoded({**told, "class_labels": torch.tensor([0, 0])})
        theirs = other(told["input_ids"], told["attention_mask"].long())
    assert torch.equal(ours["encoder_hidden_states"], theirs.last_hidden_state)
    assert torch.equal(ours["pooled_projections"], theirs.pooler_output)
    ends = (told["input_ids"] == END).int().argmax(1)  # where CLIP reads the summary
    assert torch.equal(ours["pooled_projections"][0], theirs.last_hidden_state[0, ends[0]])
    assert "class_labels" in ours and "input_ids" not in ours


def test_sections_that_contradict_themselves():
    for wrong in (
        {"kind": "classes", "width": 8},
        {"kind": "text", "pooled": False, "cross": False},
    ):
        with pytest.raises(ValueError, match=r"is for kind text|neither pooled nor cross"):
            Shown(**wrong)
