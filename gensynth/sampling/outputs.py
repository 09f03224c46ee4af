"""Pictures on disk: whole or absent, with the recipe inside, and a manifest to resume from."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from torch import Tensor

from gensynth import __version__
from gensynth.data.images import UNREADABLE, open_header
from gensynth.data.streams import TIFF, Shape
from gensynth.errors import CorruptError, InputError, PartialError, RefusedError
from gensynth.files import give_name, read_json_lines, temporary_for, use_folder, write_text
from gensynth.pipelines.contract import Pipeline
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.sampling.generate import Picture
from gensynth.sampling.streaming import save_array, save_bands
from gensynth.sampling.texts import RECIPE_KEY as RECIPE_KEY
from gensynth.sampling.texts import png_chunks
from gensynth.sampling.texts import reporting_write_errors as reporting_write_errors
from gensynth.settings import Settings

JOB_FILE = "job.json"
MOST_SHOWN = 500  # characters of a setting in a message
_EXIF_DESCRIPTION = 0x010E  # EXIF's ImageDescription


def recipe(pipeline: Pipeline, picture: Picture, settings: Settings) -> dict[str, Any]:
    """Everything needed to draw a picture again.

    `settings` are complete, as `Pipeline.resolve` gives them.
    """
    return {
        "schema": 1,  # readers refuse others
        # The name of a folder may be no text; UTF-8 then has no form for it.
        "model": pipeline.name.encode(errors="backslashreplace").decode(),
        **pipeline.condition.recipe(picture.item),
        "seed": picture.seed,
        **settings.to_json(),
        **facts_of(pipeline),
        "gensynth": __version__,
    }


def facts_of(pipeline: Pipeline) -> dict[str, Any]:
    """What a pipeline was loaded with that changes pictures: adapters, the format of numbers."""
    lora: dict[str, Any] = {} if pipeline.lora is None else {"lora": pipeline.lora.facts()}
    return lora | (pipeline.facts() if isinstance(pipeline, PretrainedPipeline) else {})


def save_picture(image: Image.Image, path: Path, recipe: dict[str, Any] | None) -> None:
    """Writes one PNG, WebP (lossless) or TIFF through a temporary file, with its recipe if given.

    PNG: iTXt chunk `gensynth` (JSON), and `parameters` in the form other programs read.
    WebP: the JSON as EXIF image description. TIFF: see `save_bands`.

    Raises:
        OutputError: the disk is full or the folder is not writable.
    """
    if path.suffix.lower() in TIFF:
        save_array(np.asarray(image), path, recipe, image.info.get("icc_profile"))
        return
    temporary = temporary_for(path)
    options: dict[str, Any] = {"format": "PNG"}
    if path.suffix.lower() == ".webp":
        options = {"format": "WEBP", "lossless": True}
    if recipe is not None and path.suffix.lower() == ".webp":
        exif = Image.Exif()
        exif[_EXIF_DESCRIPTION] = json.dumps(recipe)
        options["exif"] = exif
    elif recipe is not None:
        options["pnginfo"] = png_chunks(recipe)
    if "icc_profile" in image.info:  # Pillow keeps it by itself in some kinds of files only
        options["icc_profile"] = image.info["icc_profile"]
    with reporting_write_errors(path.parent):
        try:
            image.save(temporary, **options)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The recipe inside a picture that `save_picture` wrote; None of a picture without.

    Raises:
        InputError: no picture, or a recipe that is damaged.
    """
    try:
        with open_header(path) as image:
            text = image.info.get(RECIPE_KEY)
            if not text and image.format != "PNG":  # whose pixels Pillow would read for it
                text = image.getexif().get(_EXIF_DESCRIPTION)
    except UNREADABLE as error:
        raise InputError(f"{path} is not a readable picture: {error}.") from error
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"the recipe in {path} is damaged: it is no JSON.") from error
    if not isinstance(found, dict):
        raise InputError(f"the recipe in {path} is damaged: it is no JSON object.")
    return found


class SampleFolder:
    """The output folder of one sampling job, shared by its processes.

    `job.json` holds the settings, `manifest-RANK.jsonl` one line for each finished picture with its
    hash. A picture is done when its line and its bytes agree. Prompts are also in `metadata.jsonl`.

    Args:
        folder: made if need be. The first of several processes must have made it alone.
        job: settings that decide what the pictures look like.
        kind: "png", "webp", "tif" or "npz" (one `samples.npz` with `arr_0` uint8 [N, H, W, C] and
            labels `arr_1`, the layout of ADM's evaluator).
        shape: (num, height, width, channels) of the whole job.

    Raises:
        RefusedError: the folder holds another job's pictures.
        CorruptError: what the folder says of its job is damaged.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        job: dict[str, Any],
        kind: str,
        shape: tuple[int, int, int, int],
        rank: int = 0,
    ):
        self.folder, self.kind, self.shape, self.rank = folder, kind, shape, rank
        with reporting_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._claim(job)
            self.user = use_folder(folder, folder / JOB_FILE)
            self.array = self._open_array() if kind == "npz" else None
            self.done = self._finished()
            self.manifest = _open_lines(folder / f"manifest-{rank}.jsonl")

    def _claim(self, job: dict[str, Any]) -> None:
        path = self.folder / JOB_FILE
        temporary = temporary_for(path)
        try:
            if not path.exists():
                write_text(temporary, json.dumps(job, indent=1) + "\n")
                give_name(temporary, path)  # or another process was faster
        finally:
            temporary.unlink(missing_ok=True)
        earlier = _read_job(path)
        different = [
            f"{key} was {_in_short(earlier.get(key))}, now {_in_short(job.get(key))}"
            for key in sorted(earlier.keys() | job.keys())
            if earlier.get(key) != job.get(key)
        ]
        if different:
            raise RefusedError(
                f"{self.folder} holds pictures of another job: {'; '.join(different)}. "
                "Use another --out, or the same settings to complete it."
            )

    def _open_array(self) -> np.memmap:
        path = self.folder / "pictures.npy"
        temporary = temporary_for(path)
        try:
            if not path.exists():
                array = np.lib.format.open_memmap(
                    temporary, mode="w+", dtype=np.uint8, shape=self.shape
                )
                array.flush()
                # Now, not when a picture is written: a full disk ends a process that maps a file.
                with temporary.open("r+b") as stream:
                    os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)
                give_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        try:
            array = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, EOFError, SyntaxError) as error:
            raise _damaged(path) from error
        if array.shape != self.shape or array.dtype != np.uint8:
            raise _damaged(path)
        return array

    def _finished(self) -> set[int]:
        return {
            entry["index"]
            for entry in self._entries()
            if self._stored_hash(entry["index"]) == entry["sha256"]
        }

    def _entries(self) -> list[dict[str, Any]]:
        manifests = sorted(self.folder.glob("manifest-*.jsonl"))
        lines = [entry for manifest in manifests for entry in read_json_lines(manifest)]
        # Of a damaged line the picture is drawn again.
        return [entry for entry in lines if type(entry.get("index")) is int and "sha256" in entry]

    def _stored_hash(self, index: int) -> str | None:
        if self.array is not None:
            there = 0 <= index < len(self.array)
            return _sha256(self.array[index].tobytes()) if there else None
        path = self.path(index)
        return _sha256_of(path) if path.is_file() else None

    def path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.{self.kind}"

    def write(self, picture: Picture, image: Image.Image, recipe: dict[str, Any] | None) -> None:
        """Stores one picture and its manifest line."""
        with reporting_write_errors(self.folder):
            if self.array is not None:
                self.array[picture.index] = np.asarray(image).reshape(self.shape[1:])
                digest = _sha256(self.array[picture.index].tobytes())
            else:
                save_picture(image, self.path(picture.index), recipe)
                digest = _sha256_of(self.path(picture.index))
            self._note(picture, digest)

    def write_bands(
        self, picture: Picture, bands: Iterable[Tensor], recipe: dict[str, Any] | None
    ) -> None:
        """Stores one picture that comes in bands, uint8 [1, C, rows, W], and its manifest line.

        Raises:
            UsageError: of a job in WebP or npz, which hold whole pictures only.
        """
        save_bands(bands, self.path(picture.index), Shape(*self.shape[1:]), recipe, pyramid=True)
        with reporting_write_errors(self.folder):
            self._note(picture, _sha256_of(self.path(picture.index)))

    def _note(self, picture: Picture, digest: str) -> None:
        told = "prompt" if isinstance(picture.item, str) else "label"
        entry = {"index": picture.index, told: picture.item, "seed": picture.seed}
        self.manifest.write(json.dumps({**entry, "sha256": digest}) + "\n")
        self.manifest.flush()  # a killed run resumes after this picture

    def finish(self, labels: list[int]) -> None:
        """Merges the manifests; with npz, packs the array. For one process, after all are done.

        Raises:
            PartialError: a picture is missing or not as it was written.
        """
        missing = sorted(set(range(self.shape[0])) - self._finished())
        if missing:
            some = ", ".join(map(str, missing[:10]))
            raise PartialError(
                f"{len(missing)} of {self.shape[0]} pictures are missing in {self.folder}: {some}. "
                "Run the same command again to draw them."
            )
        with reporting_write_errors(self.folder):
            entries = {entry["index"]: entry for entry in self._entries()}
            lines = [json.dumps(entries[index]) + "\n" for index in sorted(entries)]
            write_text(self.folder / "manifest.jsonl", "".join(lines))
            self._write_captions([entries[index] for index in sorted(entries)])
            if self.array is not None:
                self.array.flush()
                temporary = temporary_for(self.folder / "samples.npz")
                try:
                    with temporary.open("wb") as stream:
                        np.savez(stream, self.array, np.asarray(labels, dtype=np.int64))
                    temporary.replace(self.folder / "samples.npz")
                finally:
                    temporary.unlink(missing_ok=True)

    def _write_captions(self, entries: list[dict[str, Any]]) -> None:
        """The prompts as the hub has captions beside pictures, so that others can train on them."""
        if self.array is None and all("prompt" in entry for entry in entries):
            rows = [
                {"file_name": self.path(entry["index"]).name, "text": entry["prompt"]}
                for entry in entries
            ]
            lines = [json.dumps(row) + "\n" for row in rows]
            write_text(self.folder / "metadata.jsonl", "".join(lines))

    def close(self) -> None:
        self.manifest.close()
        self.user.release()


def _in_short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(job, dict):
        raise _damaged(path)
    return job


def _damaged(path: Path) -> CorruptError:
    return CorruptError(
        f"{path} is damaged, so these pictures cannot be completed. Use another --out, or delete "
        f"{path.parent} and draw them again."
    )


def _open_lines(path: Path) -> TextIO:
    """The file for appending, at the start of a line: a killed process may have cut the last."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    stream = path.open("a", encoding="utf-8")
    stream.write("\n" if cut else "")
    return stream


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of(path: Path) -> str:
    """The hash of a file, which may be larger than memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
