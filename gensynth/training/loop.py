"""The training loop: set up, resume, step, once in a while, finish."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gensynth.config import Experiment
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, Schedule
from gensynth.errors import DivergedError, GensynthError, Stopped
from gensynth.objectives import create_objective
from gensynth.processes import processes
from gensynth.seeding import StepRandom
from gensynth.training import output
from gensynth.training.batches import Unreadable, check_split, load_batches
from gensynth.training.build import build_autoencoder, build_model, build_pipeline
from gensynth.training.checkpoint import Checkpoints
from gensynth.training.ema import WeightAverage
from gensynth.training.faults import StopRequest, command
from gensynth.training.grids import draw_grid
from gensynth.training.log import TrainingLog
from gensynth.training.meter import Meter
from gensynth.training.optim import create_optimizer, learning_rate, set_learning_rate


def train(experiment: Experiment) -> Path:
    """Runs an experiment to its last step, from its newest checkpoint if there is one.

    Returns the output folder, in which `model/` is the finished pipeline.

    Raises:
        Stopped: SIGTERM or SIGINT came; the state is saved.
        GensynthError: data, disk or loss failed; the message says what to do.
    """
    run = Run(experiment)
    try:
        run.resume()
        run.steps()
        run.finish()
    except GensynthError as error:
        state = "stopped" if isinstance(error, Stopped) else "failed"
        run.log.status(state, step=run.step, message=str(error))
        raise
    finally:
        run.close()
    return run.folder


class Run:
    """One session of one experiment."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.folder = output.prepare(experiment)
        settings = experiment.training
        processes()
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            # The loop splits the batch itself; accelerate must divide the loss by as much.
            gradient_accumulation_steps=settings.gradient_accumulation,
        )
        check_split(settings, self.accelerator.num_processes)
        output.record(experiment, self.folder, self.accelerator.is_main_process)
        self.stop = StopRequest()
        self.source: Source = open_source(experiment.data)
        model = build_model(experiment, len(self.source.classes))
        self.device = self.accelerator.device
        self.autoencoder = build_autoencoder(experiment).to(self.device)
        optimizer = create_optimizer(model, experiment.optimizer)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.bare_model = self.accelerator.unwrap_model(self.model)
        self.objective = create_objective(
            experiment.objective, null_label=self.bare_model.config.num_classes
        )
        self.average = WeightAverage(self.bare_model, experiment.ema)
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            experiment.checkpoint.keep,
            self.accelerator.is_main_process,
            self.accelerator.wait_for_everyone,
        )
        self.step = 0
        self.cursor: tuple[int, tuple[int, int]] = (0, (0, 0))  # stream position, (epoch, offset)
        rows = None if self.source.streamed else len(self.source.rows)
        self.unreadable = Unreadable(experiment.data.max_corrupt, rows)
        self.log = TrainingLog(self.folder, 0, settings.steps, enabled=False)

    def resume(self) -> None:
        """Continues from the newest valid checkpoint."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self.accelerator.load_state(str(checkpoint / "state"))
            saved = json.loads((checkpoint / "training.json").read_text())
            self.step = saved["step"]
            self.cursor = (saved["cursor"][0], tuple(saved["cursor"][1]))
            self.unreadable.rows |= set(saved["unreadable"])
            self.average.load(
                checkpoint / "model" / "model" / "diffusion_pytorch_model.safetensors",
                saved["ema_updates"],
            )
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
        batches = load_batches(
            self.source, experiment.data, experiment.seed, schedule, self.cursor, self.device
        )
        meter = Meter(self.device)
        self.log.status("running", step=self.step)
        self.model.train()
        while self.step < settings.steps:
            self.one_step(schedule, batches, meter)
            self.step += 1
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                self.report(meter)
            stopping = self.stop.agreed()
            if self.step % experiment.checkpoint.every == 0 or last or stopping:
                self.save(meter)
            if stopping and not last:
                raise Stopped(
                    f"stopped at step {self.step} ({self.stop.name or 'another process'}). "
                    f"State saved in {self.checkpoints.root}. Resume: {command()}"
                )
            every = experiment.sampling.every
            if every and (self.step % every == 0 or last):
                self.sample_grid()

    def one_step(self, schedule: Schedule, batches: Iterator[Batch], meter: Meter) -> None:
        """One optimiser step over the global batch."""
        settings = self.experiment.training
        rate = learning_rate(self.experiment.optimizer, self.step, settings.steps)
        set_learning_rate(self.optimizer, rate)
        for micro in range(settings.gradient_accumulation):
            waiting = time.perf_counter()
            batch = next(batches)
            meter.waited += time.perf_counter() - waiting
            self.note(batch)
            random = StepRandom(
                self.experiment.seed,
                self.step,
                schedule.rows(micro),
                settings.batch_size,
                self.device,
            )
            latents = self.autoencoder.encode(batch.images.to(self.device, non_blocking=True))
            latents = latents.contiguous(memory_format=torch.channels_last)
            labels = batch.labels.to(self.device, non_blocking=True)
            last = micro == settings.gradient_accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = self.objective.loss(self.model, latents, labels, random)
                self.accelerator.backward(loss.total)
            meter.add({"loss": loss.total.detach(), **loss.parts})
        if self.experiment.optimizer.clip is not None:
            self.accelerator.clip_grad_norm_(
                self.model.parameters(), self.experiment.optimizer.clip
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        meter.images += settings.batch_size

    def note(self, batch: Batch) -> None:
        """Keeps the place in a stream, and counts images that could not be decoded."""
        if batch.cursor is not None:
            self.cursor = (self.step * self.experiment.training.batch_size, batch.cursor)
        seen = (self.step + 1) * self.experiment.training.batch_size
        warning = self.unreadable.add(batch.unreadable, seen)
        if warning:
            self.log.say(warning)

    def report(self, meter: Meter) -> None:
        """Logs the means since the last report, over all processes."""
        values = meter.read(self.accelerator)
        self.check_finite(values["loss"])
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        self.log.record(self.step, values)

    def check_finite(self, loss: float) -> None:
        if loss - loss != 0:  # inf or nan
            last = self.checkpoints.all()[-1:]
            kept = f"last good state: {last[0]}" if last else "no checkpoint yet"
            raise DivergedError(
                f"the loss is {loss} at step {self.step}. Nothing was overwritten; {kept}. "
                "Try a lower optimizer.lr, optimizer.clip=1.0 or training.mixed_precision=no."
            )

    def save(self, meter: Meter) -> None:
        """A checkpoint of this step: accelerate's state, the averaged pipeline and our place."""
        self.check_finite(meter.last_loss())
        self.checkpoints.save(self.step, self.write_checkpoint)
        self.log.status("running", step=self.step)

    def write_checkpoint(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder / "state"))
        if not self.accelerator.is_main_process:
            return
        with self.average.applied():
            self.pipeline().save_pretrained(folder / "model")
        place = {
            "step": self.step,
            "cursor": self.cursor,
            "unreadable": sorted(self.unreadable.rows),
            "ema_updates": self.average.num_updates,
        }
        (folder / "training.json").write_text(json.dumps(place) + "\n")
        (folder / output.EXPERIMENT).write_text(self.experiment.to_yaml(), encoding="utf-8")

    def pipeline(self) -> Any:
        return build_pipeline(self.experiment, self.bare_model, self.source.classes)

    def sample_grid(self) -> None:
        """A grid of samples of this step, drawn by the main process."""
        if self.accelerator.is_main_process:
            with self.average.applied():
                path = self.folder / "samples" / f"step-{self.step:08d}.png"
                draw_grid(self.pipeline(), self.experiment.sampling.num, path, self.stop)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Puts the finished pipeline under `model/`."""
        newest = self.checkpoints.newest()
        if self.accelerator.is_main_process and newest is not None:
            shutil.copytree(newest / "model", self.folder / "model.tmp", dirs_exist_ok=True)
            shutil.rmtree(self.folder / "model", ignore_errors=True)
            (self.folder / "model.tmp").rename(self.folder / "model")
            self.log.status("finished", step=self.step)
            self.log.say(f"finished {self.step} steps; the model is in {self.folder / 'model'}")
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        self.log.close()
        self.stop.release()
