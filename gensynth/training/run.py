"""One session of training: set up, resume, step, once in a while, finish."""

import json
import math
import shutil
import time
from collections.abc import Generator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, gather_object
from torch import Tensor, nn

from gensynth.config import Experiment
from gensynth.data.encoded import check_encoding
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, Schedule
from gensynth.errors import (
    DivergedError,
    Stopped,
    UsageError,
)
from gensynth.processes import processes
from gensynth.seeding import StepRandom
from gensynth.training import output
from gensynth.training.batches import Unreadable, check_split, load_batches
from gensynth.training.build import (
    build_autoencoder,
    build_model,
    build_objective,
    build_pipeline,
)
from gensynth.training.checkpoint import Checkpoints
from gensynth.training.ema import AVERAGES, WeightAverage
from gensynth.training.faults import StopRequest, command
from gensynth.training.grids import draw_grid
from gensynth.training.log import TrainingLog, write_status
from gensynth.training.meter import Meter
from gensynth.training.optim import create_optimizer, learning_rate, set_learning_rate
from gensynth.training.regularization import Regularization
from gensynth.training.snapshots import drop_later


class Run:
    """One session of one experiment."""

    def __init__(self, experiment: Experiment, folder: Path, stop: StopRequest):
        self.experiment, self.folder, self.stop = experiment, folder, stop
        settings = experiment.training
        device = processes().device
        check_split(settings, processes().num_processes)
        if settings.mixed_precision == "fp16" and device.type == "cpu":
            raise UsageError(
                "training.mixed_precision=fp16 needs a GPU; use bf16 or no on this machine."
            )
        AcceleratorState._reset_state()  # an earlier run of this process may have set another
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            # The loop accumulates by itself, whatever a launcher puts into the environment.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        stop.connect()
        self.source: Source = open_source(experiment.data)
        model = build_model(experiment, len(self.source.classes))
        self.device = self.accelerator.device
        self.autoencoder = build_autoencoder(experiment).to(self.device)
        if experiment.data.source == "encoded":
            check_encoding(experiment.data, self.autoencoder)
        self.regularization = Regularization(experiment, processes().num_processes)
        self.objective = build_objective(experiment, model.to(self.device))
        self.beside: nn.Module = getattr(self.objective, "trained", nn.Identity())
        trained = nn.ModuleList([model, self.regularization.module, self.beside])
        self.trained = list(trained.parameters())
        optimizer = create_optimizer(trained, experiment.optimizer)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.regularization.prepare(self.accelerator)
        self.bare_model = self.accelerator.unwrap_model(self.model)
        self.prepare_objective()
        self.average = WeightAverage(self.bare_model, experiment.ema)
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            experiment.checkpoint.keep,
            self.accelerator.is_main_process,
            self.accelerator.wait_for_everyone,
        )
        self.step = 0
        self.images: Tensor | None = None  # of the newest micro-batch
        self.cursor: tuple[int, tuple[int, int]] = (0, (0, 0))  # stream position, (epoch, offset)
        rows = None if self.source.streamed else len(self.source.rows)
        self.unreadable = Unreadable(experiment.data.max_corrupt, rows, self.source.name_of)
        self.log = TrainingLog(self.folder, 0, settings.steps, enabled=False)
        self.batches: Generator[Batch] = (batch for batch in list[Batch]())

    def resume(self) -> None:
        """Continues from the newest valid checkpoint."""
        checkpoint = self.checkpoints.newest()
        if self.accelerator.is_main_process:
            output.record(self.experiment, self.folder)
        if checkpoint is not None:
            self.accelerator.load_state(str(checkpoint / "state"))
            saved = json.loads((checkpoint / "training.json").read_text())
            self.step = saved["step"]
            self.cursor = (saved["cursor"][0], tuple(saved["cursor"][1]))
            self.unreadable.rows |= set(saved["unreadable"])
            self.average.load(checkpoint, saved["ema_updates"])
        if self.accelerator.is_main_process:
            drop_later(self.folder, self.step)
        self.log = TrainingLog(
            self.folder,
            self.step,
            self.experiment.training.steps,
            self.accelerator.is_main_process,
        )
        if checkpoint is not None:
            self.log.say(f"resumed from {checkpoint}")

    def steps(self) -> None:
        """Every remaining step, and once in a while a log line, a grid and a checkpoint."""
        experiment, settings = self.experiment, self.experiment.training
        schedule = Schedule(
            self.step,
            settings.steps,
            settings.batch_size,
            settings.gradient_accumulation,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        self.batches = load_batches(
            self.source,
            experiment.data,
            experiment.seed,
            schedule,
            self.cursor,
            self.device,
            experiment.autoencoder.patch,
        )
        meter = Meter(self.device)
        self.note_running()
        if self.step < settings.steps and self.accelerator.is_main_process:
            # An earlier, shorter run's; until this one ends its checkpoints stand for it.
            for name in ("model", AVERAGES):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self.model.train()
        while self.step < settings.steps:
            self.one_step(schedule, meter)
            self.step += 1
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                self.report(meter)
            # Before the checkpoint: a run cut off in between repeats the step, and the snapshot.
            self.snapshot(last)
            stopping = self.stop.agreed()
            if self.step % experiment.checkpoint.every == 0 or last or stopping:
                self.save()
            if stopping and not last:
                raise Stopped(
                    f"stopped at step {self.step} ({self.stop.name or 'another process'}). "
                    f"State saved in {self.checkpoints.root}. Resume: {command()}"
                )
            every = experiment.sampling.every
            if every and (self.step % every == 0 or last):
                self.sample_grid()

    def one_step(self, schedule: Schedule, meter: Meter) -> None:
        """One optimiser step over the global batch."""
        settings = self.experiment.training
        rate = learning_rate(self.experiment.optimizer, self.step, settings.steps)
        set_learning_rate(self.optimizer, rate)
        for micro in range(settings.gradient_accumulation):
            waiting = time.perf_counter()
            batch = next(self.batches)
            meter.waited += time.perf_counter() - waiting
            self.note(batch)
            random = StepRandom(
                self.experiment.seed,
                self.step,
                schedule.rows(micro),
                settings.batch_size,
                self.device,
            )
            images, latents = self.seen(batch, random)
            labels = batch.labels.to(self.device, non_blocking=True)
            passes = self.passes(random.apart("model"), latents, batch.crops)
            last = micro == settings.gradient_accumulation - 1
            with nullcontext() if last else self.no_sync():
                with (
                    random.for_dropout(),
                    self.accelerator.autocast(),
                    self.regularization.watching(self.bare_model) as states,
                ):
                    loss = self.objective.loss(self.model, latents, labels, random, passes)
                    loss = self.regularization.add(loss, states, images)
                self.accelerator.backward(loss.total / settings.gradient_accumulation)
            meter.add({"loss": loss.total.detach(), **loss.parts})
        if self.experiment.optimizer.clip is not None:
            self.accelerator.clip_grad_norm_(self.trained, self.experiment.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16: the gradients overflowed
            self.average.update()
        meter.images += settings.batch_size

    def seen(self, batch: Batch, random: StepRandom) -> tuple[Tensor | None, Tensor]:
        """Images, if the data hold them, and what the model is trained on, on the device."""
        if batch.latents is not None:
            return None, batch.latents.to(self.device, non_blocking=True)
        assert batch.images is not None
        self.images = batch.images.to(self.device, non_blocking=True)
        return self.images, self.autoencoder.encode(self.images, random.apart("autoencoder"))

    def passes(
        self, random: StepRandom, latents: Tensor, crops: Tensor | None
    ) -> list[dict[str, Any]]:
        """Further keywords of each forward pass of a step, from a model that has any."""
        if not hasattr(self.bare_model, "training_passes"):
            return [{}]
        crops = None if crops is None else crops.to(self.device)
        return self.bare_model.training_passes(random, *latents.shape[-2:], crops)

    def no_sync(self) -> ExitStack:
        """Inside, processes keep their gradients to themselves."""
        stack = ExitStack()
        for module in (self.model, self.regularization.module, self.beside):
            stack.enter_context(self.accelerator.no_sync(module))
        return stack

    def prepare_objective(self) -> None:
        """Puts what the objective trains and remembers under accelerate's care."""
        objective: Any = self.objective
        if any(True for _ in self.beside.parameters()):
            self.beside = objective.trained = self.accelerator.prepare(self.beside)
        if hasattr(objective, "state"):  # without weights, so not wrapped for processes
            objective.state = self.accelerator.prepare_model(objective.state, evaluation_mode=True)

    def note(self, batch: Batch) -> None:
        """Keeps the place in a stream, and the images that could not be decoded."""
        if batch.cursor is not None:
            self.cursor = (self.step * self.experiment.training.batch_size, batch.cursor)
        self.unreadable.new |= set(batch.unreadable)

    def note_running(self) -> None:
        if self.accelerator.is_main_process:
            write_status(self.folder, "running", self.step)

    def report(self, meter: Meter) -> None:
        """Logs the means since the last report, over all processes."""
        self.count_unreadable()
        values = meter.read(self.accelerator)
        if not math.isfinite(values["loss"]):
            raise self.divergence(f"the loss is {values['loss']}")
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        self.log.record(self.step, values)

    def count_unreadable(self) -> None:
        """Adds up what the processes could not decode; all of them warn or stop together."""
        new = gather_object(sorted(self.unreadable.new))
        warning = self.unreadable.add(new, self.step * self.experiment.training.batch_size)
        if warning:
            self.log.say(warning)

    def divergence(self, what: str) -> DivergedError:
        last = self.checkpoints.all()[-1:]
        kept = f"last good state: {last[0]}" if last else "no checkpoint yet"
        return DivergedError(
            f"{what} at step {self.step}. Nothing was overwritten; {kept}. "
            "Try a lower optimizer.lr, optimizer.clip=1.0 or training.mixed_precision=no."
        )

    def save(self) -> None:
        """A checkpoint of this step: accelerate's state, the averaged pipeline and our place."""
        self.count_unreadable()
        self.check_weights()
        self.checkpoints.save(self.step, self.write_checkpoint)
        self.note_running()

    def check_weights(self) -> None:
        beside = all(bool(weight.isfinite().all()) for weight in self.beside.parameters())
        if not (self.average.finite() and self.regularization.finite() and beside):
            raise self.divergence("the weights are not finite")

    def snapshot(self, last: bool) -> None:
        """Keeps the power-function averages of this step if one is due."""
        config = self.experiment.ema
        every = config and (config.snapshot_every or self.experiment.checkpoint.every)
        if every and self.average.powers and (self.step % every == 0 or last):
            self.check_weights()
            if self.accelerator.is_main_process:
                self.average.write_snapshots(self.folder, self.step)

    def write_checkpoint(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder / "state"))
        if not self.accelerator.is_main_process:
            return
        with self.average.applied():
            self.pipeline().save_pretrained(folder / "model")
        self.average.save(folder)
        place = {
            "step": self.step,
            "cursor": self.cursor,
            "unreadable": sorted(self.unreadable.rows),
            "ema_updates": self.average.num_updates,
        }
        (folder / "training.json").write_text(json.dumps(place) + "\n")
        (folder / output.EXPERIMENT).write_text(self.experiment.to_yaml(), encoding="utf-8")

    def pipeline(self) -> Any:
        return build_pipeline(
            self.experiment, self.bare_model, self.source.classes, self.autoencoder
        )

    def sample_grid(self) -> None:
        """A grid of samples of this step, drawn by the main process."""
        if self.accelerator.is_main_process:
            with self.average.applied():
                path = self.folder / "samples" / f"step-{self.step:08d}.png"
                number = self.experiment.sampling.num
                draw_grid(self.pipeline(), number, self.images, path, self.stop)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Puts the finished pipeline under `model/`."""
        newest = self.checkpoints.newest()
        if self.accelerator.is_main_process and newest is not None:
            for part in (AVERAGES, "model"):  # the model last: it means that the run is finished
                if not (newest / part).is_dir():
                    continue
                temporary = self.folder / f"{part}.tmp"
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.copytree(newest / part, temporary)
                shutil.rmtree(self.folder / part, ignore_errors=True)
                temporary.rename(self.folder / part)
            write_status(self.folder, "finished", self.step)
            self.log.say(f"finished {self.step} steps; the model is in {self.folder / 'model'}")
        self.accelerator.wait_for_everyone()
