"""In one go: the model at the size that is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gensynth.conditions import Item
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.pipelines.highres.contract import Kept, from_noise
from gensynth.samplers.contract import Step


@dataclass(frozen=True)
class Direct:
    """The model at the size itself, as at its own."""

    def check(self, pipeline: Composed, resolved: Resolved) -> None:
        pass

    def walk(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        kept: Kept | None,
    ) -> Iterator[Step]:
        return from_noise(pipeline, items, seeds, resolved)
