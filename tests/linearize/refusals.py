"""What is refused, and leaves a model as it was."""

import pytest

import gensynth


def outline(model):
    """All that linearizing may touch."""
    return (
        [(name, type(m), sorted(vars(m))) for name, m in model.named_modules()],
        {name: (p.data_ptr(), p._version) for name, p in model.named_parameters()},
        len(model._forward_pre_hooks),
    )


def refused(pipe, error, match, *arguments, **options):
    before = outline(pipe)
    with pytest.raises(error, match=match):
        gensynth.linearize(pipe, *arguments, **options)
    assert outline(pipe) == before
