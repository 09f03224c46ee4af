"""What `gensynth evaluate` is asked for, and how it is answered.

Wrong combinations are found before anything heavy is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensynth.errors import UsageError
from gensynth.models.known import check_area
from gensynth.settings import Settings, option_of

if TYPE_CHECKING:
    from gensynth.evaluation.measuring.features import Effort, Images
    from gensynth.evaluation.measuring.measured import Measured
    from gensynth.lora.folder import Wanted
    from gensynth.pipelines.pretrained.options import LoadOptions

NUM_DRAWN = 50_000  # samples of published numbers


@dataclass(frozen=True)
class Request:
    """The flags of the command; None where a flag was not given.

    Attributes:
        drawing: settings for a model that draws.
    """

    samples: str | None = None
    model: str | None = None
    variant: str | None = None
    reference: str | None = None
    num: int | None = None
    seed: int | None = None
    labels: str | None = None
    drawing: Settings = field(default_factory=Settings)
    protocol: str | None = None
    extractor: str | None = None
    weights: Path | None = None
    download: bool = False
    metrics: str | None = None
    size: int | None = None
    fit: str = "crop"
    class_level: int | None = None
    floor: str | None = None
    prompts: str | None = None
    trained_on: str | None = None
    clip: str | None = None
    batch_size: int | None = None
    workers: int = 0
    lora: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    cross_check: str | None = None
    selfcheck: bool = False

    def check(self) -> None:
        """
        Raises:
            UsageError: flags that exclude each other, or an impossible value.
        """
        if self.fit not in ("crop", "pad"):
            raise UsageError(f"--fit must be crop or pad, got {self.fit!r}.")
        if (self.batch_size is not None and self.batch_size < 1) or self.workers < 0:
            raise UsageError("--batch-size must be at least 1 and --workers at least 0.")
        if self.size is not None:
            check_area(self.size, self.size)
        if self.protocol is not None:
            self._check_protocol(self.protocol)
        if self.selfcheck and self.samples is None and self.model is None:
            raise UsageError(
                "--selfcheck takes SAMPLES, a folder with published samples; gensynth evaluate . "
                "--selfcheck says which, and where they are to be had."
            )
        if (self.samples is None) == (self.model is None):
            raise UsageError("give either samples or --model, the model that draws them.")
        if self.model is None and any(v is not None for v in self.flags_of_drawing().values()):
            flags = [flag for flag, v in self.flags_of_drawing().items() if v is not None]
            raise UsageError(f"{', '.join(flags)} are for --model; these samples exist already.")
        if self.selfcheck and self.model is not None:
            raise UsageError("--selfcheck takes SAMPLES, the folder with the published files.")
        if self.reference is None and not self.selfcheck and self.protocol is None:
            raise UsageError("--reference is missing: real images, such as fashion_mnist:test.")
        self._check_places()

    def _check_places(self) -> None:
        """Whether what is to be read is there, as far as nothing heavy is needed to tell."""
        from gensynth.conditions.prompt_files import READERS, read_prompts
        from gensynth.preflight import measuring
        from gensynth.preflight.adapters import check_adapters
        from gensynth.preflight.drawing import check_model
        from gensynth.preflight.pretrained import check_options, refuse_pretrained

        if self.metrics is not None:
            measuring.check_metrics(self._metrics())
        if self.protocol is None and not self.selfcheck:
            measuring.check_space(self.extractor, self.weights, self.download)
        if self.model is not None and self.protocol is not None:
            refuse_pretrained(self.model, "a protocol draws classes; leave --protocol out")
        if self.model is not None:
            check_options([self.model], self.load)
            check_model(self.model, self.drawing, lora=check_adapters(self.model, self.lora))
        elif self.samples is not None and not self.selfcheck:
            measuring.check_images(self.samples)
        if self.reference is not None:
            measuring.check_reference(self.reference)
        for place in (self.floor, self.trained_on):
            if place is not None:
                measuring.check_images(place)
        if self.prompts is not None and Path(self.prompts).suffix.lower() in READERS:
            read_prompts(self.prompts)
        elif self.prompts is not None:
            measuring.check_images(self.prompts)

    def _metrics(self) -> list[str]:
        return [name.strip() for name in (self.metrics or "").split(",")]

    def _check_protocol(self, name: str) -> None:
        from gensynth.evaluation.protocols.protocols import find_protocol

        protocol = find_protocol(name)
        if self.extractor not in (None, protocol.extractor):
            raise UsageError(
                f"--protocol {name} measures with {protocol.extractor}, not with "
                f"{self.extractor}; leave out the one or the other."
            )

    def flags_of_drawing(self) -> dict[str, Any]:
        given = {option_of(name): value for name, value in self.drawing.given().items()}
        flags = {"--labels": self.labels, "--variant": self.variant, "--lora": self.lora or None}
        flags |= {"--load": self.load or None}
        return given | flags

    def effort(
        self,
        tick: Callable[[int], None],
        expect: Callable[[int], None],
        say: Callable[[str], None],
    ) -> "Effort":
        """How the work is done, with what is told of its progress."""
        from gensynth.evaluation.measuring.features import Effort

        return Effort(workers=self.workers, tick=tick, expect=expect, say=say, **self._batches())

    def _batches(self) -> dict[str, Any]:
        """The batch size, if one is given; measuring and drawing have different defaults."""
        return {} if self.batch_size is None else {"batch_size": self.batch_size}

    def run(self, effort: "Effort") -> "tuple[Measured, dict[str, Any]] | None":
        """What was measured and its report; None in all processes but the main one.

        Raises:
            GensynthError: with what to do.
        """
        from gensynth.evaluation.evaluate import OFFLINE, PUBLISHED

        if self.cross_check is not None:
            from gensynth.evaluation.checking.cross_check import check_available

            check_available(
                self.cross_check, self.extractor or (PUBLISHED if self.weights else OFFLINE)
            )
        if self.protocol is not None and self.reference is None:
            from gensynth.evaluation.protocols.protocols import find_protocol
            from gensynth.evaluation.references.published import published_file

            # before anything is drawn, which takes hours: the file has to be there
            published_file(find_protocol(self.protocol).reference)
        if self.protocol is not None and self.model is not None:
            return self._by_protocol(effort)
        return self._as_asked(effort)

    def _by_protocol(self, effort: "Effort") -> "tuple[Measured, dict[str, Any]] | None":
        from gensynth.evaluation.drawn import AtHand
        from gensynth.evaluation.protocols.protocols import find_protocol
        from gensynth.evaluation.protocols.runs import check_alone, evaluate_protocol

        assert self.protocol is not None and self.model is not None
        protocol = find_protocol(self.protocol)
        given: dict[str, Any] = {"--extractor": self.extractor, "--metrics": self.metrics}
        given |= {"--seed": self.seed, "--size": self.size}  # a protocol fixes these
        given |= {"--prompts": self.prompts, "--trained-on": self.trained_on, "--clip": self.clip}
        check_alone(protocol, self.flags_of_drawing() | given)
        return evaluate_protocol(
            protocol,
            AtHand.loaded(self.model, None, self._adapters()) if self.lora else self.model,
            self.num,
            reference=self.reference,
            weights=self.weights,
            download=self.download,
            effort=effort,
            **self._batches(),
        )

    def _as_asked(self, effort: "Effort") -> "tuple[Measured, dict[str, Any]] | None":
        from gensynth.evaluation.evaluate import Fit, Texts, evaluate
        from gensynth.evaluation.protocols.protocols import find_protocol
        from gensynth.evaluation.protocols.runs import add_protocol

        protocol = None if self.protocol is None else find_protocol(self.protocol)
        reference, extractor = self.reference, self.extractor
        if protocol is not None:
            reference, extractor = reference or protocol.reference, protocol.extractor
        assert reference is not None
        samples = self._samples()
        if not isinstance(samples, str) and self.num is None and protocol is None:
            effort.say(f"note: {samples.length:,} pictures are drawn; --num takes fewer.")
        found = evaluate(
            samples,
            reference,
            self.num,
            extractor=extractor,
            weights=self.weights,
            download=self.download,
            metrics=None if self.metrics is None else self._metrics(),
            seed=self.seed or 0,
            floor=self.floor,
            fit=Fit(self.size, self.fit, self.class_level),
            effort=effort,
            texts=Texts(self.prompts, self.trained_on, self.clip),
        )
        if found is not None and protocol is not None:
            add_protocol(protocol, found[0].samples, found[1])
        return found

    def _adapters(self) -> "list[Wanted]":
        from gensynth.lora.folder import Wanted

        return [Wanted.read(one) for one in self.lora]

    def _options(self) -> "LoadOptions":
        from gensynth.pipelines.pretrained.options import LoadOptions

        return LoadOptions.read(self.load)

    def _samples(self) -> "str | Images":
        if self.model is None:
            assert self.samples is not None
            return self.samples
        from gensynth.evaluation.drawn import AtHand, DrawnImages  # loads torch and diffusers

        model = AtHand.loaded(self.model, self.variant, self._adapters(), self._options())
        prompts = self._prompts(model.pipeline.condition.reads == "texts")
        number = NUM_DRAWN if prompts is None else len(prompts)
        return DrawnImages(
            model,
            number if self.num is None else self.num,
            self.seed or 0,
            self.labels or "balanced",  # type: ignore[arg-type]
            settings=self.drawing,
            prompts=prompts,
            **self._batches(),
        )

    def _prompts(self, reads_texts: bool) -> list[str] | None:
        """What a model is to draw: --prompts, or for a model of texts the reference's captions."""
        from gensynth.evaluation.evaluate import captions_at, prompts_at
        from gensynth.evaluation.references.reference import is_reference

        if self.prompts is not None:
            return prompts_at(self.prompts)
        if not reads_texts:
            return None
        assert self.reference is not None
        if is_reference(self.reference):
            raise UsageError(
                f"{self.reference} holds statistics and no captions. Give what is to be drawn with "
                "--prompts FILE."
            )
        return captions_at(self.reference)
