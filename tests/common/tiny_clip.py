"""A CLIP text model of a few weights in a folder, as transformers saves one."""

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from gensynth.conditions.tokens import learn_tokenizer, own_tokenizer
from gensynth.models.layers.text import BEGIN, END, PAD

SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


def save_clip(folder, captions, seed=0, **sizes):
    """Saves a CLIP with random weights and a tokenizer of the captions; gives the model."""
    own_tokenizer(learn_tokenizer(captions, 300)).save_pretrained(folder)
    marks = {"pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPTextModel(CLIPTextConfig(**{**SIZES, **sizes}, **marks)).eval()
    model.save_pretrained(folder)
    return model
