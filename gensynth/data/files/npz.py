"""Images in an .npz of any size, read one at a time where they lie in the file."""

import os
import shutil
import struct
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image

from gensynth.data.reading.contents import in_words
from gensynth.data.reading.places import stamp_of
from gensynth.errors import InputError, OutputError
from gensynth.system.alive import Hold
from gensynth.system.temporary import owned_file

# What zipfile and numpy raise for a file that is cut off, damaged or something else.
DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error),
    TokenError,  # of a header that is cut off
)
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
LOCAL_HEADER = 30  # bytes of a zip member's own header before its name (APPNOTE.TXT, 4.3.7)


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an .npz.

    Raises:
        InputError: it is missing, cut off or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as an .npz: {error}. Fetch it again.") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_array(path: Path, name: str) -> np.ndarray:
    """One whole array of an .npz.

    Raises:
        InputError: no .npz, no such array, or a damaged or pickled one.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]
    except (*DAMAGED, KeyError) as error:
        raise InputError(f"{path}: {name} cannot be read: {error}. Fetch it again.") from error


class StoredArray:
    """One array [N, ...] of an .npz: `row(index)` reads a single row and nothing else.

    A member that is stored uncompressed is read inside the zip; a deflated one is unpacked when its
    first row is read, into a temporary file that goes with this object. No file is held open, so
    that the object may be used in other processes.

    Raises:
        InputError: no .npz, cut off, no such array in it, or one that cannot be read by rows.
    """

    def __init__(self, path: Path, name: str):
        names = array_names(path)
        if name not in names:
            raise InputError(f"{path} has no array {name}, only {', '.join(names) or 'none'}.")
        self.path, self.name = path, name
        try:
            with zipfile.ZipFile(path) as archive:
                member = archive.getinfo(f"{name}.npy")
                with archive.open(member) as stream:
                    header = HEADERS[np.lib.format.read_magic(stream)]
                    self.shape, fortran, self.dtype = header(stream)
                    values = stream.tell()
        except (*DAMAGED, KeyError) as error:
            raise InputError(f"{path}: {name} is damaged: {error}. Fetch it again.") from error
        if self.dtype.hasobject or fortran or not self.shape:
            kind = "a pickle" if self.dtype.hasobject else "one value"
            raise InputError(
                f"{path}: {name} is {'in Fortran order' if fortran else kind}. Save it as an array "
                "of numbers in C order: numpy.ascontiguousarray."
            )
        self.row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        # Checked here, as a row in the middle would otherwise read the bytes of what follows.
        if member.file_size != values + self.shape[0] * self.row_bytes:
            raise InputError(f"{path}: {name} is cut off. Fetch or make it again.")
        stored = member.compress_type == zipfile.ZIP_STORED
        self.file: Path | None = path if stored else None
        self.offset = values + (_start_of(path, member) if stored else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def row(self, index: int) -> np.ndarray:
        """The values [...] of one row.

        Raises:
            InputError: the file is damaged there.
            OutputError: there is no space to unpack a deflated array.
        """
        if self.file is None:
            self.file = self._unpack()
        with self.file.open("rb") as stream:
            stream.seek(self.offset + index * self.row_bytes)
            data = stream.read(self.row_bytes)
        if len(data) != self.row_bytes:
            raise InputError(f"{self.path}: {self.name} is cut off at row {index}. Fetch it again.")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def _unpack(self) -> Path:
        member = f"{self.name}.npy"
        with zipfile.ZipFile(self.path) as archive, archive.open(member) as source:
            try:
                path, hold = owned_file(".npy")
                # also at the end of the program, which `__del__` does not promise
                weakref.finalize(self, _remove, path, os.getpid(), hold)
                with path.open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise InputError(f"{self.path}: {self.name} is damaged: {error}.") from error
            except OSError as error:
                raise OutputError(
                    f"cannot unpack {self.path} to {tempfile.gettempdir()}: "
                    f"{error.strerror or error}. Set TMPDIR to a folder with more space, or save "
                    "the file uncompressed: numpy.savez."
                ) from error
        return path


def _remove(path: Path, owner: int, hold: Hold) -> None:
    if os.getpid() == owner:  # not in a process that was forked from it
        path.unlink(missing_ok=True)
    hold.release()  # held until then: that is what keeps other programs from the file


def _start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's own bytes begin; the length of its local header is only in the file."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        name, extra = struct.unpack("<HH", stream.read(LOCAL_HEADER)[-4:])
    return member.header_offset + LOCAL_HEADER + name + extra


class ArrayImages:
    """The images of `arr_0`, uint8 [N, H, W, 1 or 3], in the layout of ADM's evaluator.

    Attributes:
        labels: those in `arr_1`, if it is N whole numbers.

    Raises:
        InputError: no `arr_0`, or one of something else.
    """

    lossy = False
    classes: list[str] | None = None

    def __init__(self, path: Path):
        self.array = array = StoredArray(path, "arr_0")
        if array.dtype != np.uint8 or len(array.shape) != 4 or array.shape[-1] not in (1, 3):
            raise InputError(
                f"{path}: arr_0 must be images as uint8 [N, H, W, 1 or 3], it is {array.dtype} "
                f"{list(array.shape)}. {_remedy(array)}"
            )
        self.labels = _labels(path, len(array))
        self.stamp = stamp_of([path])
        known = None if self.labels is None else [str(label) for label in sorted(set(self.labels))]
        self.summary = in_words(len(array), known)

    def __len__(self) -> int:
        return len(self.array)

    def image(self, index: int) -> Image.Image:
        pixels = self.array.row(index)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def name_of(self, index: int) -> str:
        return f"image {index} of {self.array.path}"

    def captions(self) -> None:
        """An array has none."""


def _remedy(array: StoredArray) -> str:
    """What to do about an array that is not [N, H, W, 1 or 3] of uint8."""
    shape = array.shape
    if array.dtype != np.uint8:
        return "Round floats to whole numbers from 0 to 255 first."
    if len(shape) == 3:
        return "Its last axis is missing: x[..., None]."
    if len(shape) == 4 and shape[1] in (1, 3):
        return "Its axes are in another order: numpy.ascontiguousarray(x.transpose(0, 2, 3, 1))."
    return "Its axes are those of something else."


def _labels(path: Path, count: int) -> list[int] | None:
    if "arr_1" not in array_names(path):
        return None
    array = StoredArray(path, "arr_1")
    whole = array.dtype.kind in "iu" and array.shape == (count,)
    return read_array(path, "arr_1").tolist() if whole else None
