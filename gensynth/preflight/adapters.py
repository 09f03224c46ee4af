"""Adapters that are asked for: whether they are there, and of this kind of model."""

from collections.abc import Sequence

from gensynth.lora.folder import Wanted, check_base, find_adapter
from gensynth.pipelines.finding import INDEX, resolve
from gensynth.preflight.contents import content


def check_adapters(model: str, lora: Sequence[str]) -> tuple[Wanted, ...]:
    """The adapters that `--lora` names, as far as JSON files tell whether they fit the model.

    Raises:
        UsageError: a scale that is none.
        InputError: no adapter there, or one of another kind of model.
        CorruptError, RefusedError: damaged files, or a pickle.
    """
    wanted = tuple(Wanted.read(text) for text in lora)
    if wanted:
        entry = content(resolve(model) / INDEX).get("model")
        for one in wanted:
            adapter = find_adapter(one.folder)
            if isinstance(entry, list) and len(entry) == 2:
                check_base(adapter, model, entry[1])
    return wanted
