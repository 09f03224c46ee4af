"""Tiny pipelines of every family, each made once."""

import pytest
import tiny_pipelines

from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline

KINDS = {
    "sd": (tiny_pipelines.tiny_sd, {}),
    "sdxl": (tiny_pipelines.tiny_sdxl, {}),
    "sd3": (tiny_pipelines.tiny_sd3, {}),
    "sd3-without-t5": (tiny_pipelines.tiny_sd3, {"with_t5": False}),
    "flux": (tiny_pipelines.tiny_flux, {}),
    "flux-schnell": (tiny_pipelines.tiny_flux, {"guidance": False}),
    "pixart-alpha": (tiny_pipelines.tiny_pixart, {}),
    "pixart-sigma": (tiny_pipelines.tiny_pixart, {"sigma": True}),
    "sana": (tiny_pipelines.tiny_sana, {}),
}


@pytest.fixture(scope="session")
def made():
    """Kind -> the pipeline of diffusers, which tests must leave as it is."""
    known = {}

    def of(kind):
        if kind not in known:
            make, settings = KINDS[kind]
            known[kind] = make(**settings)
        return known[kind]

    return of


@pytest.fixture(scope="session")
def drawing(made):
    """Kind -> our pipeline around it."""
    return lambda kind: PretrainedPipeline(made(kind))
