"""One session of training: set up, resume, step, now and then save and draw, finish."""

import json
import math
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, gather_object

from gensynth.config import Experiment
from gensynth.data.announce import announced
from gensynth.data.batches import Unreadable, check_split, load_batches
from gensynth.data.encoded import check_encoding
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, Schedule
from gensynth.errors import DivergedError, UsageError
from gensynth.experiments.assemble import assemble
from gensynth.processes import processes
from gensynth.seeding import StepRandom
from gensynth.training.averages.ema import AVERAGES, WeightAverage
from gensynth.training.averages.snapshots import drop_later
from gensynth.training.learning.learner import Learner
from gensynth.training.learning.optim import learning_rate, set_learning_rate
from gensynth.training.session import output
from gensynth.training.session.checkpoint import Checkpoints
from gensynth.training.session.faults import Abandoned, StopRequest
from gensynth.training.watching.evaluating import Evaluations
from gensynth.training.watching.grids import draw_grid
from gensynth.training.watching.log import TrainingLog, write_status
from gensynth.training.watching.meter import Meter


class Run:
    """One session of one experiment."""

    def __init__(self, experiment: Experiment, folder: Path, stop: StopRequest):
        self.experiment, self.folder, self.stop = experiment, folder, stop
        settings = experiment.training
        device = processes().device
        # What can be refused is refused before anything is loaded.
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
        begun_with = output.recorded_classes(folder)
        self.source: Source = announced(open_source(experiment.data, begun_with), experiment.data)
        self.device = self.accelerator.device
        self.parts = assemble(
            experiment, self.source.classes, self.device, self.accelerator.num_processes
        )
        self.learner = Learner(self.parts, self.accelerator)
        if experiment.data.source == "encoded":
            check_encoding(experiment.data, self.learner.autoencoder)
        self.average = WeightAverage(self.learner.bare_model, experiment.ema)
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            experiment.checkpoint.keep,
            self.accelerator.is_main_process,
            self.accelerator.wait_for_everyone,
        )
        self.step = 0
        self.cursor: tuple[int, tuple[int, int]] = (0, (0, 0))  # stream position, (epoch, offset)
        rows = None if self.source.streamed else len(self.source.rows)
        self.unreadable = Unreadable(experiment.data.max_corrupt, rows, self.source.name_of)
        self.log = TrainingLog(self.folder, 0, settings.steps, enabled=False)
        self.evaluations = Evaluations(experiment, folder, self.source, stop)
        self.meter = Meter(self.device)
        self.seconds = 0.0  # of training, up to the newest checkpoint
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
            # after `load_state`: its model is the raw one, the average is stored beside it
            self.average.load(checkpoint, saved["ema_updates"])
            self.seconds = saved.get("seconds", 0.0)
            self.meter = Meter(self.device, self.seconds)
        if self.accelerator.is_main_process:
            drop_later(self.folder, self.step)
        self.log = TrainingLog(
            self.folder,
            self.step,
            self.experiment.training.steps,
            self.accelerator.is_main_process,
        )
        self.evaluations.resume(self.step, self.log)
        if checkpoint is not None:
            self.log.say(f"resumed from {checkpoint}")

    def steps(self) -> None:
        """Every remaining step, with the checkpoints, grids and evaluations due after it."""
        self.evaluations.prepare(self.step)
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
        self.note_running()
        if self.step < settings.steps and self.accelerator.is_main_process:
            # An earlier, shorter run's; until this one ends its checkpoints stand for it.
            for name in ("model", AVERAGES):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self.learner.model.train()
        self.meter.start()
        self.evaluate()  # in case that an earlier session was stopped in it
        while self.step < settings.steps:
            self.one_step(schedule)
            self.step += 1
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                self.report()
            # Before the checkpoint: a run cut off in between repeats the step, and the snapshot.
            self.snapshot(last)
            stopping = self.stop.agreed()
            due = self.evaluations.due(self.step)  # after a checkpoint: if cut off, it is repeated
            if self.step % experiment.checkpoint.every == 0 or last or stopping or due:
                self.save()
            if stopping and not last:
                raise self.stop.stopped(self.step, self.checkpoints.root)
            every = experiment.sampling.every
            if every and (self.step % every == 0 or last):
                self.sample_grid()
            self.evaluate()

    def one_step(self, schedule: Schedule) -> None:
        """One optimiser step over the global batch."""
        settings = self.experiment.training
        rate = learning_rate(self.experiment.optimizer, self.step, settings.steps)
        set_learning_rate(self.learner.optimizer, rate)
        for micro in range(settings.gradient_accumulation):
            waiting = time.perf_counter()
            batch = next(self.batches)
            self.meter.waited += time.perf_counter() - waiting
            self.note(batch)
            # For these rows of the global batch: other splits of it draw the same numbers.
            random = StepRandom(
                self.experiment.seed,
                self.step,
                schedule.rows(micro),
                settings.batch_size,
                self.device,
            )
            parts = settings.gradient_accumulation
            loss = self.learner.backward(batch, random, parts, last=micro == parts - 1)
            # kept on the device: reading the loss here would make every step wait
            self.meter.add({"loss": loss.total.detach(), **loss.parts})
        # After the last micro-batch: the norm is that of the gradient of the whole batch.
        if self.experiment.optimizer.clip is not None:
            self.accelerator.clip_grad_norm_(self.learner.weights, self.experiment.optimizer.clip)
        self.learner.optimizer.step()
        self.learner.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:  # fp16: the gradients overflowed
            self.average.update()
        self.meter.images += settings.batch_size

    def note(self, batch: Batch) -> None:
        """Keeps the place in a stream, and the images that could not be decoded."""
        if batch.cursor is not None:
            self.cursor = (self.step * self.experiment.training.batch_size, batch.cursor)
        self.unreadable.new |= set(batch.unreadable)

    def note_running(self) -> None:
        if self.accelerator.is_main_process:
            write_status(self.folder, "running", self.step)

    def report(self) -> None:
        """Logs the means since the last report, over all processes."""
        self.count_unreadable()
        values = self.meter.read(self.accelerator)
        if not math.isfinite(values["loss"]):
            raise self.divergence(f"the loss is {values['loss']}")
        values["lr"] = self.learner.optimizer.param_groups[0]["lr"]
        self.log.record(self.step, values)

    def count_unreadable(self) -> None:
        """Adds up what the processes could not decode; all of them warn or stop together."""
        # gathered, so that every process comes to the same decision
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
        self.check_weights()  # a checkpoint that is not finite would take a good one's place
        self.seconds = self.meter.seconds
        self.checkpoints.save(self.step, self.write_checkpoint)
        self.note_running()

    def check_weights(self) -> None:
        if not (self.average.finite() and self.learner.finite()):
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
            self.parts.pipeline().save_pretrained(folder / "model")
        self.average.save(folder)
        place = {
            "step": self.step,
            "cursor": self.cursor,
            "unreadable": sorted(self.unreadable.rows),
            "ema_updates": self.average.num_updates,
            "seconds": self.seconds,
        }
        (folder / "training.json").write_text(json.dumps(place) + "\n")
        (folder / output.EXPERIMENT).write_text(self.experiment.to_yaml(), encoding="utf-8")

    def sample_grid(self) -> None:
        """A grid of samples of this step, drawn by the main process."""
        if self.accelerator.is_main_process:
            with self.average.applied():
                path = self.folder / "samples" / f"step-{self.step:08d}.png"
                number = self.experiment.sampling.num
                draw_grid(self.parts.pipeline(), number, self.learner.images, path, self.stop)
        self.accelerator.wait_for_everyone()

    def evaluate(self) -> None:
        """The evaluation of this step, if one is due.

        Raises:
            Stopped: the run should stop; the next session evaluates.
        """
        if not self.evaluations.due(self.step):
            return
        checkpoint = self.checkpoints.all()[-1]  # of this step, as is `seconds`
        try:
            with self.meter.paused(), self.average.applied():
                pipeline = self.parts.pipeline()
                self.evaluations.evaluate(pipeline, self.step, self.seconds, checkpoint)
        except Abandoned:
            if self.step < self.experiment.training.steps:
                raise self.stop.stopped(self.step, self.checkpoints.root) from None
            self.log.say("the last evaluation was given up; the same command makes up for it")
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Puts the finished pipeline under `model/`."""
        newest = self.checkpoints.newest()
        if self.accelerator.is_main_process and newest is not None:
            for part in (AVERAGES, "model"):  # the model last: it means that the run is finished
                if not (newest / part).is_dir():
                    continue
                with output.replacement(self.folder / part) as temporary:
                    shutil.copytree(newest / part, temporary, dirs_exist_ok=True)
            write_status(self.folder, "finished", self.step)
            self.log.say(f"finished {self.step} steps; the model is in {self.folder / 'model'}")
        self.accelerator.wait_for_everyone()
