"""The network of a pipeline, called for training as the pipeline's own loop calls it."""

import pytest
import torch

from gensynth.pipelines.pretrained.network import Network
from gensynth.settings import Settings

KINDS = [
    *("sd", "sdxl", "sd3", "sd3-without-t5", "flux", "flux-schnell"),
    *("pixart-alpha", "pixart-sigma"),
]
PROMPTS = ["a red apple", "a boat"]
GUIDANCE = {"flux": 3.5}  # that it is told; the others are asked once, without


def of_image(network, latents):
    """[B, C, H, W] of what FLUX sees as 2x2 latents in one token."""
    if latents.ndim == 4:
        return latents
    side = int(latents.shape[1] ** 0.5) * 2 * network.pixels
    return network.pipeline_class._unpack_latents(latents, side, side, network.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_says_what_the_pipeline_hears(kind, drawing):
    pipe = drawing(kind)
    network = Network(pipe.inner, pipe.family.network, 3.5)
    heard = []

    def listen(module, inputs, keywords, output):
        latents = inputs[0] if inputs else keywords.get("sample", keywords.get("hidden_states"))
        time = keywords.get("timestep", inputs[1] if len(inputs) > 1 else None)
        heard.append((latents, time, output[0]))

    hook = pipe.network.register_forward_hook(listen, with_kwargs=True)
    settings = Settings(steps=2, guidance=GUIDANCE.get(kind, 1.0), size=64)
    pipe.draw(PROMPTS, [0, 1], settings)
    hook.remove()
    assert len(heard) >= 2  # PNDM asks once more
    for latents, time, output in heard:
        time = torch.as_tensor(time).float().expand(2)
        if kind.startswith("flux"):
            time = time * 1000
        sample = of_image(network, latents)
        with torch.no_grad():
            said = network(sample, time, **pipe.condition.encode(PROMPTS))
        expected = of_image(network, output)[:, : sample.shape[1]]
        torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-6)
