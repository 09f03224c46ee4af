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
from datasets import IterableDataset
from torch.utils.data import DataLoader

from gensynth.config import Experiment, Training
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, Schedule, StreamedImages, TrainingImages
from gensynth.errors import CorruptError, DivergedError, GensynthError, Stopped, UsageError
from gensynth.objectives import create_objective
from gensynth.processes import processes
from gensynth.seeding import StepRandom
from gensynth.training import output
from gensynth.training.build import build_autoencoder, build_model, build_pipeline
from gensynth.training.checkpoint import Checkpoints
from gensynth.training.ema import WeightAverage
from gensynth.training.faults import StopRequest, command, ignore_signals
from gensynth.training.grids import draw_grid
from gensynth.training.log import TrainingLog
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
        self.unreadable: set[int] = set()
        self.log = TrainingLog(self.folder, 0, settings.steps, enabled=False)

    def resume(self) -> None:
        """Continues from the newest valid checkpoint."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self.accelerator.load_state(str(checkpoint / "state"))
            saved = json.loads((checkpoint / "training.json").read_text())
            self.step = saved["step"]
            self.cursor = (saved["cursor"][0], tuple(saved["cursor"][1]))
            self.unreadable = set(saved["unreadable"])
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

    def batches(self, schedule: Schedule) -> Iterator[Batch]:
        """The micro-batches of this process, decoded ahead by worker processes."""
        data = self.experiment.data
        workers = data.workers
        options: dict[str, Any]
        if isinstance(self.source.rows, IterableDataset):
            position, cursor = self.cursor
            dataset: Any = StreamedImages(
                self.source.rows, data, self.experiment.seed, schedule, position, cursor
            )
            options, workers = {"batch_size": None}, min(workers, 1)
        else:
            dataset = TrainingImages(self.source.rows, data, self.experiment.seed)
            options = {"batch_sampler": schedule, "collate_fn": _as_it_is}
        loader = DataLoader(
            dataset,
            num_workers=workers,
            worker_init_fn=ignore_signals,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
            **options,
        )
        return iter(loader)

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
        batches = self.batches(schedule)
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

    def one_step(self, schedule: Schedule, batches: Iterator[Batch], meter: "Meter") -> None:
        """One optimiser step over the global batch."""
        settings = self.experiment.training
        rate = learning_rate(self.experiment.optimizer, self.step, settings.steps)
        set_learning_rate(self.optimizer, rate)
        for micro in range(settings.gradient_accumulation):
            waiting = time.perf_counter()
            batch = next(batches)
            meter.waited += time.perf_counter() - waiting
            self.note_unreadable(batch)
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

    def note_unreadable(self, batch: Batch) -> None:
        """Counts images that could not be decoded; too many stop the run."""
        if batch.cursor is not None:
            self.cursor = (self.step * self.experiment.training.batch_size, batch.cursor)
        new = set(batch.unreadable) - self.unreadable
        if not new:
            return
        self.unreadable |= new
        seen = (self.step + 1) * self.experiment.training.batch_size
        streamed = isinstance(self.source.rows, IterableDataset)
        count = max(seen, 1000) if streamed else len(self.source.rows)
        self.log.say(
            f"warning: {len(self.unreadable)} unreadable images skipped so far "
            f"(newest: row {max(new)})"
        )
        share = self.experiment.data.max_corrupt
        if len(self.unreadable) > share * count:
            rows = ", ".join(map(str, sorted(self.unreadable)[:10]))
            raise CorruptError(
                f"{len(self.unreadable)} of {count} images cannot be decoded, more than "
                f"data.max_corrupt {share:g} allows; rows {rows}. "
                "Repair the data or raise the limit."
            )

    def report(self, meter: "Meter") -> None:
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

    def save(self, meter: "Meter") -> None:
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
            "unreadable": sorted(self.unreadable),
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


def check_split(settings: Training, processes: int) -> None:
    """Refuses a batch that cannot be split evenly over processes and accumulation steps."""
    parts = processes * settings.gradient_accumulation
    if settings.batch_size % parts:
        raise UsageError(
            f"training.batch_size {settings.batch_size} cannot be split over {processes} "
            f"processes times {settings.gradient_accumulation} accumulation steps; "
            f"make it a multiple of {parts}."
        )


class Meter:
    """Running means on the device, so that no step waits for them."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.last: torch.Tensor | None = None
        self.count = self.images = 0
        self.waited = 0.0
        self.since = time.perf_counter()

    def add(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.float()
        self.last = values["loss"]
        self.count += 1

    def last_loss(self) -> float:
        return 0.0 if self.last is None else float(self.last)

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, images/s and the share of time spent waiting for data."""
        means = accelerator.reduce(
            {name: value / self.count for name, value in self.sums.items()}, "mean"
        )
        values = {name: float(value) for name, value in means.items()}
        seconds = time.perf_counter() - self.since
        values["images_per_second"] = self.images / seconds
        values["data_wait"] = self.waited / seconds
        self.reset()
        return values


def _as_it_is(batch: Batch) -> Batch:
    return batch
