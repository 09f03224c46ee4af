"""One session of training: set up, resume, step, now and then save and draw, finish."""

import json
import math
import time
from pathlib import Path

from torch import Tensor

from gensynth.config import Experiment
from gensynth.data.announce import announced
from gensynth.data.batches import check_split
from gensynth.data.encoded import check_encoding
from gensynth.data.sources import Source
from gensynth.data.training import Batch
from gensynth.errors import DivergedError, GensynthError, ProcessLost
from gensynth.experiments.assemble import assemble
from gensynth.experiments.beginning.begin import begin_from, check_beginning, words_of
from gensynth.experiments.beginning.tuning import of_student, tune
from gensynth.experiments.build import reads_texts
from gensynth.seeding import StepRandom
from gensynth.training.averages.ema import WeightAverage
from gensynth.training.averages.snapshots import drop_later
from gensynth.training.feeding import Feed, check_words, open_alike
from gensynth.training.learning.accelerating import create_accelerator
from gensynth.training.learning.learner import Learner
from gensynth.training.learning.optim import learning_rate, set_learning_rate
from gensynth.training.session import output
from gensynth.training.session.adapters import check_base_stayed, keep_state_small, write_model
from gensynth.training.session.checkpoint import Checkpoints
from gensynth.training.session.faults import Abandoned, StopRequest
from gensynth.training.session.together import settled
from gensynth.training.watching.evaluating import Evaluations
from gensynth.training.watching.grids import draw_grid
from gensynth.training.watching.log import TrainingLog, write_status
from gensynth.training.watching.meter import Meter


class Run:
    """One session of one experiment."""

    def __init__(self, experiment: Experiment, folder: Path, stop: StopRequest):
        self.experiment, self.folder, self.stop = experiment, folder, stop
        settings = experiment.training
        self.together = stop.connect()
        # What can be refused is refused before anything is loaded.
        check_split(settings, self.together.count)
        self.accelerator = create_accelerator(settings)
        self.checkpoints = Checkpoints(
            folder / "checkpoints", experiment.checkpoint.keep, self.together
        )
        self.newest = self.checkpoints.newest()
        self.new = self.newest is None
        needed = self.new or experiment.lora is not None  # adapters keep to their model
        beginning = self.together.from_main(
            lambda: check_beginning(experiment.init_from if needed else None)
        )
        begun_with = output.recorded_classes(folder)
        texts = reads_texts(experiment)
        self.source: Source = announced(
            open_alike(experiment.data, self.together, begun_with, texts), experiment.data
        )
        self.device = self.accelerator.device
        # A run that goes on keeps its words: of a stream, captions are read with the pictures.
        drew = self.newest if experiment.objective.draws else None  # a tokenizer keeps no words
        kept = None if drew is None else drew / "model"
        self.parts = assemble(
            experiment,
            self.source.classes,
            self.device,
            self.accelerator.num_processes,
            self.source.some_captions() if texts and kept is None else (),
            kept or words_of(beginning, experiment),
        )
        if texts:
            check_words(self.parts.condition, self.together)
        # In the main process only: wrapped for several, the others get the weights from there.
        self.begun = self.together.from_main(lambda: begin_from(beginning, self.parts))
        self.pair = self.parts.distillation
        self.tuning = (
            tune(experiment, self.parts.model, self.begun)
            if self.pair is None
            else of_student(self.parts.model, self.pair.trained, self.pair.done)
        )
        self.learner = Learner(self.parts, self.accelerator, self.tuning)
        if experiment.data.source == "encoded":
            check_encoding(experiment.data, self.learner.autoencoder)
        if self.tuning.apart:
            keep_state_small(self.accelerator, self.learner.bare_model, self.tuning)
        self.average = WeightAverage(
            self.learner.bare_model, experiment.ema, self.tuning.frozen, self.tuning.apart
        )
        self.feed = Feed(experiment, self.source, stop)
        self.step = 0
        self.saved = self.reported = 0  # steps of the newest checkpoint and the last report
        self.log = TrainingLog(self.folder, 0, settings.steps, enabled=False)
        self.evaluations = Evaluations(experiment, folder, self.source, stop)
        self.meter = Meter(self.device)
        self.seconds = 0.0  # of training, up to the newest checkpoint

    def resume(self) -> None:
        """Continues from the newest valid checkpoint."""
        checkpoint = self.newest
        if checkpoint is not None:
            check_base_stayed(checkpoint, self.tuning, self.pair)
            self.accelerator.load_state(str(checkpoint / "state"))
            saved = json.loads((checkpoint / "training.json").read_text())
            self.step = self.saved = self.reported = saved["step"]
            self.feed.resume(saved)
            # after `load_state`: its model is the raw one, the average is stored beside it
            self.average.load(checkpoint, saved["ema_updates"])
            self.seconds = saved.get("seconds", 0.0)
            self.meter = Meter(self.device, self.seconds)
        changes: list[str] = []
        is_main = self.accelerator.is_main_process
        if is_main:
            changes = output.record(self.experiment, self.folder, self.step, self.feed.changed)
            drop_later(self.folder, self.step)
        self.log = TrainingLog(self.folder, self.step, self.experiment.training.steps, is_main)
        told = [*self.begun.lines, *self.tuning.lines, *self.parts.condition.cautions()]
        for line in told if self.new else ():
            self.log.say(line)
        self.evaluations.resume(self.step, self.log)
        if checkpoint is not None:
            changed = f"; {'; '.join(changes)}" if changes else ""
            self.log.say(f"resumed from {checkpoint}{changed}")

    def steps(self) -> None:
        """Every remaining step, with the checkpoints, grids and evaluations due after it."""
        self.evaluations.prepare(self.step)
        experiment, settings = self.experiment, self.experiment.training
        self.feed.open(self.step, self.device)
        self.note_running()
        if self.step < settings.steps and self.accelerator.is_main_process:
            output.withdraw(self.folder)
        self.learner.model.train()
        self.meter.start()
        self.evaluate()  # in case that an earlier session was stopped in it
        while self.step < settings.steps:
            self.one_step(self.fetch())
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

    def fetch(self) -> list[Batch]:
        """The micro-batches of the next step.

        Raises:
            Stopped: the run should stop while the data keep it waiting; the state is saved.
            GensynthError: the data failed, in this or another process; the state is saved.
        """
        waiting = time.perf_counter()
        try:
            batches, stopping = self.feed.fetch(self.step)
        except ProcessLost:
            raise
        except GensynthError as error:
            self.save_if_new()
            raise type(error)(f"{error} {self.checkpoints.kept()}") from error
        if stopping:
            self.save_if_new()
            raise self.stop.stopped(self.step, self.checkpoints.root)
        self.meter.waited += time.perf_counter() - waiting
        return batches

    def one_step(self, batches: list[Batch]) -> None:
        """One optimiser step over the global batch."""
        settings = self.experiment.training
        rate = learning_rate(self.experiment.optimizer, self.step, settings.steps)
        set_learning_rate(self.learner.optimizer, rate)
        for micro, batch in enumerate(batches):
            # For these rows of the global batch: other splits of it draw the same numbers.
            random = StepRandom(
                self.experiment.seed,
                self.step,
                self.feed.schedule.rows(micro),
                settings.batch_size,
                self.device,
            )
            parts = settings.gradient_accumulation
            loss = self.learner.backward(batch, random, parts, last=micro == parts - 1)
            # kept on the device: reading the loss here would make every step wait
            self.meter.add({"loss": loss.total.detach(), **loss.parts})
        if self.learner.update(self.experiment.optimizer.clip):
            self.average.update()
        self.meter.images += settings.batch_size

    def note_running(self) -> None:
        if self.accelerator.is_main_process:
            write_status(self.folder, "running", self.step)

    def report(self) -> None:
        """Logs the means since the last report, over all processes."""
        self.count_unreadable()
        sound = self.meter.sound  # read before the meter begins anew
        values = self.meter.read(self.accelerator)
        if not math.isfinite(values["loss"]):
            raise self.divergence(f"the loss is {values['loss']}", sound)
        self.reported = self.step
        values["lr"] = self.learner.optimizer.param_groups[0]["lr"]
        self.log.record(self.step, values)

    def count_unreadable(self) -> None:
        warning = self.feed.count_unreadable(self.step)
        if warning:
            self.log.say(warning)

    def save(self) -> None:
        """A checkpoint of this step: accelerate's state, the averaged pipeline and our place."""
        self.count_unreadable()
        self.check_weights()  # a checkpoint that is not finite would take a good one's place
        self.check_losses()
        self.seconds = self.meter.seconds
        self.checkpoints.save(self.step, self.write_checkpoint)
        self.saved = self.step
        self.note_running()

    def save_if_new(self) -> None:
        """A checkpoint of this step, unless there is one or nothing to save."""
        if self.step > self.saved:
            self.save()

    def check_weights(self) -> None:
        if not (self.average.finite() and self.learner.finite()):
            raise self.divergence("the weights are not finite", self.meter.sound)

    def check_losses(self) -> None:
        """The losses since the last report, of which only a report tells otherwise."""
        if self.together.any(int(self.meter.sound) < self.meter.count):
            raise self.divergence("the loss is not finite", self.meter.sound)

    def divergence(self, what: str, sound: Tensor) -> DivergedError:
        """What to raise; `sound` micro-batches had a finite loss since the last report."""
        settings = self.experiment.training
        steps = min(self.together.gather(int(sound))) // settings.gradient_accumulation
        # The loss of step n is that of the weights after n - 1 steps.
        return self.checkpoints.diverged(f"{what} at step {self.step}", self.reported + steps)

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
            write_model(folder, self.parts, self.tuning)
        self.average.save(folder)
        place = {
            "step": self.step,
            **self.feed.place(),
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
                images = self.learner.images(number)
                draw_grid(self.parts.pipeline(), number, images, path, self.stop)
        self.together.barrier()

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
        self.together.barrier()

    def finish(self) -> None:
        """Puts the finished pipeline under `model/`."""
        newest = self.checkpoints.newest()
        if self.accelerator.is_main_process and newest is not None:
            output.publish(newest, self.folder)
            write_status(self.folder, "finished", self.step)
            self.log.say(f"finished {self.step} steps; the model is in {self.folder / 'model'}")
        self.together.barrier()

    def rescue(self) -> str:
        """After another process was lost: what this one can save by itself, in words."""
        self.together.alone()
        if self.together.is_main and self.step > self.saved and settled(self.device):
            self.check_weights()
            self.checkpoints.save(self.step, self.write_checkpoint)
            self.saved = self.step
        return self.checkpoints.kept()

    def close(self) -> None:
        self.feed.close()
        self.log.close()
