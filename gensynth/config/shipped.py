"""The experiments that come with the package, by name: `fashion_mnist/dico_nano`."""

from importlib.util import find_spec
from pathlib import Path

import gensynth
from gensynth.errors import InputError, did_you_mean
from gensynth.system.disk import at_home

FOLDER = "configs"  # in the repository; a wheel installs it as `PACKAGE`
PACKAGE = "gensynth_configs"


def shipped_configs() -> dict[str, Path]:
    """Every experiment that comes along: its name, and its file."""
    folder = _folder()
    files = sorted(folder.glob("*/*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_config(given: str | Path) -> Path:
    """The file that is meant by a path, or by the name of an experiment that comes along.

    A path wins. A name may end in .yaml and begin with configs/, as in the repository.

    Raises:
        InputError: there is neither; the message names the nearest.
    """
    path, known = Path(at_home(str(given))), shipped_configs()
    if path.is_file():
        return path
    name = path.with_suffix("").as_posix() if path.suffix == ".yaml" else path.as_posix()
    name = name.removeprefix(f"{FOLDER}/")
    if name in known:
        return known[name]
    if path.is_dir():
        raise InputError(f"no configuration file: {path} is a folder.{_files_in(path)}")
    raise InputError(
        f"there is no configuration file {path}, and none of that name comes along."
        f"{_files_in(path.parent)}{did_you_mean(name, known)} gensynth config --list names those "
        "that do."
    )


def _folder() -> Path:
    checkout = Path(gensynth.__file__).parent.parent / FOLDER
    found = None if checkout.is_dir() else find_spec(PACKAGE)
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    return checkout


def _files_in(folder: Path) -> str:
    there = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    return f" In {folder}: {', '.join(path.name for path in there)}." if there else ""
