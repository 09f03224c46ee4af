"""One word of the configuration changes the backbone or the mixer, and two processes train it.

One block changes what is generated: latents, a tokenizer, or the tokens of one.
"""

import pytest
import swap_worker
from launching import launch
from tiny import losses

VARIANTS = [
    "model.name=DiCo-nano",
    "model.name=DiC-nano",
    "model.name=DiT-nano/2",
    'model.name=DiT-nano/2 objective={"name":"ddpm"}',
    "model.name=SiT-nano/2",
    "model.name=MDTv2-nano/2",
    *(
        f"model.name=DiT-nano/2 model.mixer={mixer}"
        for mixer in ("linear", "local", "rala", "inline", "nala")
    ),
    # In quotation marks YAML reads JSON. The second is trained on the tokens of the first.
    'model={"name":"VQ-nano"} autoencoder={"kind":"none"} objective={"name":"reconstruction"}',
    'model={"name":"MaskGIT-nano"} objective={"name":"masked"} '
    'autoencoder={"kind":"vq","path":"FOLDER/11","patch":4,"codebook_size":512}',
]


@pytest.mark.slow
def test_every_backbone_and_mixer_learns_in_two_processes(tmp_path):
    variants = [variant.replace("FOLDER", str(tmp_path)) for variant in VARIANTS]
    assert variants[11].startswith('model={"name":"VQ-nano"}')
    done = launch(swap_worker.main, str(tmp_path), *variants, processes=2, timeout=900)
    assert done.returncode == 0, done.stderr
    for number, variant in enumerate(VARIANTS):
        curve = losses(tmp_path / str(number))
        assert len(curve) == 20, variant
        first, last = (sum(curve[step] for step in steps) for steps in (range(1, 6), range(16, 21)))
        assert last < 0.95 * first, (variant, curve)
