"""The published reference batches for ImageNet, and where their files belong on this machine.

They are ADM's (openai/guided-diffusion, evaluations/README.md): statistics of Inception features,
and 10,000 images for precision and recall. The images behind the statistics are not documented,
so a reference made from ImageNet does not give the same numbers.
"""

from pathlib import Path
from typing import NamedTuple

from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.metrics.extractors.weights import fetch
from gensynth.system.disk import cache_folder

ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet"


class Batch(NamedTuple):
    """A file on the web; `sha256` is None where none is published."""

    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


PUBLISHED = {
    "imagenet64": Batch(f"{ADM}/64/VIRTUAL_imagenet64_labeled.npz"),
    "imagenet128": Batch(f"{ADM}/128/VIRTUAL_imagenet128_labeled.npz"),
    "imagenet256": Batch(
        f"{ADM}/256/VIRTUAL_imagenet256_labeled.npz",
        "b32732719497e42660a9affb4a966068cba0855ac449b82015e34ec376d20758",
    ),
    "imagenet512": Batch(f"{ADM}/512/VIRTUAL_imagenet512.npz"),
}


def published_file(name: str, download: bool = False) -> Path:
    """Where the file of a published reference lies, fetched if that is asked for and needed.

    Raises:
        UsageError: no such name, or a file that cannot be checked and so is not fetched.
        InputError: it is not there, or there is no network.
        CorruptError: something else was sent.
        OutputError: it cannot be written.
    """
    if name not in PUBLISHED:
        raise UsageError(f"no published reference {name!r}; there are {', '.join(PUBLISHED)}.")
    batch = PUBLISHED[name]
    path = cache_folder("references") / batch.file
    if path.is_file():
        return path
    by_hand = f"Place {batch.url} at {path}"
    if not download:
        fetched = f", or run: gensynth reference --published {name} --download"
        raise InputError(f"{name} is not here. {by_hand}{fetched if batch.sha256 else ''}.")
    if batch.sha256 is None:
        raise UsageError(
            f"no checksum of {name} is known, so it is not downloaded unchecked. {by_hand}."
        )
    fetch(batch.url, path, batch.sha256)
    return path


def check_published(name: str, path: Path, sha256: str) -> bool:
    """Whether a file is known to be the published one; False where its hash is not known.

    Raises:
        CorruptError: it is another file.
    """
    known = PUBLISHED[name].sha256
    if known is not None and sha256 != known:
        raise CorruptError(
            f"{path} is not the published {name}: its SHA-256 is {sha256[:12]}…, not "
            f"{known[:12]}…. Delete it and fetch {PUBLISHED[name].url} again."
        )
    return known is not None
