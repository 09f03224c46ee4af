"""Random models of every system and their states as the official code would store them."""

import subprocess
import sys

import torch

from gensynth import create_model
from gensynth.convert import SYSTEMS

MARK = "final_layer.linear.bias"  # one tensor of "dit", to tell states apart by
# A preset of each system and what makes it small.
SMALL = {
    "dico": ("DiCo-nano", {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]}),
    "dic": ("DiC-nano", {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]}),
    "dit": ("DiT-nano/2", {"hidden_size": 16, "depth": 2, "num_heads": 2}),
    "sit": ("SiT-nano/2", {"hidden_size": 16, "depth": 2, "num_heads": 2}),
    "mdt": ("MDTv2-nano/2", {"hidden_size": 16, "depth": 3, "num_heads": 2}),
    "maskgit": ("MaskGIT-nano", {"hidden_size": 16, "depth": 2, "num_heads": 2}),
    "llamagen": ("VQ-nano", {"widths": [4, 8, 8], "norm_groups": 2, "attention": True}),
}


def random_model(name, **keywords):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, **keywords)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def small(system, **keywords):
    name, size = SMALL[system]
    classes = {} if system == "llamagen" else {"num_classes": 3}
    return random_model(name, **{**classes, **size, **keywords})


def changes(system):
    return [f"{key}={str(value).lower()}" for key, value in SMALL[system][1].items()]


def official(system, model):
    """The state of one of our models as the official code would store it."""
    state = {SYSTEMS[system].NAMES.official(k): v.clone() for k, v in model.state_dict().items()}
    if system == "mdt":
        state["en_inblocks.0.attn.rel_pos_bias.relative_position_index"] = torch.zeros(4, 4)
    if system == "maskgit":
        state["head.weight"] = state["tok_emb.weight"]
    if system == "llamagen":
        convolutions = (".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")
        for name, tensor in state.items():
            if name.endswith(convolutions):
                state[name] = tensor[:, :, None, None]
        state["quantize.codebook_used"] = torch.zeros(65536)
    return state


def store(path, content):
    torch.save(content, path)
    return path


def gensynth_main(*arguments) -> str:
    command = [sys.executable, "-m", "gensynth", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
