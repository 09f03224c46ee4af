"""Asking the hub, with a limit to how long no answer is waited for."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gensynth.errors import InputError, first_line
from gensynth.system.disk import about_disk

FORBIDDEN = "HF_HUB_OFFLINE forbids it"
PATIENCE = 4.0  # seconds until a network is called none


@contextmanager
def asking(what: str, instead: str) -> Iterator[bool]:
    """A block that fetches something; yields whether only this machine's copies are to be used.

    Without a network that is found out at once, and not by the hub's own tries, which take half a
    minute and print each. `what` begins the sentence that says what cannot be fetched ("the model
    x"), `instead` ends it.

    Raises:
        InputError: it cannot be fetched, and there is no copy.
        OutputError: the cache cannot be written; the message names the variable that moves it.
    """
    from huggingface_hub import errors

    problem = _problem()
    try:
        yield problem is not None
    except errors.LocalEntryNotFoundError as error:
        said = problem or first_line(error)
        raise InputError(f"{what} cannot be fetched: {said}. {instead}") from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{what} cannot be fetched: its authors give it to those who ask. Accept its terms on "
            "its page of the hub, then log in here with: hf auth login, or set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{what} cannot be fetched: the hub has none of that name, or shows it only to some; "
            f"for one of those log in with: hf auth login, or set HF_TOKEN. {instead}"
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        disk = about_disk(error) if isinstance(error, OSError) else None
        if disk is not None:
            raise disk from error
        raise InputError(f"{what} cannot be fetched: {first_line(error)}. {instead}") from error


def is_id(text: str) -> bool:
    """Whether a text that is no path here looks like "owner/name"."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~"))


def unreachable(address: str) -> str | None:
    """Why an address cannot be reached, in words; None if it answers, whatever it says."""
    found: list[str | None] = ["no answer"]

    def ask() -> None:
        import httpx

        try:
            httpx.head(address, timeout=PATIENCE)
            found[0] = None
        except (httpx.HTTPError, OSError) as error:
            found[0] = first_line(error)

    # In a thread, since looking up a name has a limit of its own, of up to half a minute.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(PATIENCE)
    said = found[0]
    return None if said is None else f"there is no network ({address}: {said})"


def weights_missing(name: str, folders: list[Path], url: str, target: Path) -> InputError:
    """What to do about published weights that are in none of some folders."""
    return InputError(
        f"{name} is neither in {folders[0]} nor in {folders[1]}. Say where you "
        f"have it with --weights FILE, have it fetched with --download, or fetch "
        f"{url} and put it at {target}."
    )


def check_copy(name: str, what: str, instead: str) -> None:
    """Whether a model of the hub can be fetched, or has a copy on this machine.

    Without a network a copy is taken, without asking again, and stderr says so. `what` begins the
    sentence that says what cannot be fetched, `instead` ends it.

    Raises:
        InputError: neither.
    """
    from huggingface_hub import errors, try_to_load_from_cache

    problem = _problem()
    if problem is None:
        return
    try:
        copy = try_to_load_from_cache(name, "config.json")
    except errors.HFValidationError as error:
        raise InputError(f"{what} cannot be fetched: {first_line(error)}. {instead}") from error
    _take_copy(name, isinstance(copy, str), problem, what, instead)


def check_data(name: str) -> None:
    """`check_copy` of a dataset, of which `datasets` has to have kept a table.

    Raises:
        InputError: neither a network nor a copy.
    """
    problem = _problem()
    if problem is not None:
        copied = any(_tables(name).glob("*/*/*/"))
        instead = "Fetch it where there is a network, and give the folder or its Parquet files."
        _take_copy(name, copied, problem, f"the dataset {name} of the hub", instead)


def _problem() -> str | None:
    """Why the hub cannot be asked; None if it can."""
    from huggingface_hub import constants

    return FORBIDDEN if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)


def _take_copy(name: str, copied: bool, problem: str, what: str, instead: str) -> None:
    from huggingface_hub import constants

    if not copied:
        raise InputError(f"{what} cannot be fetched: {problem}. {instead}")
    if problem == FORBIDDEN:
        return
    constants.HF_HUB_OFFLINE = True  # or the hub itself would try for half a minute
    if "datasets" in sys.modules:  # which looked at it when it was imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    print(f"note: {problem}; the copy of {name} on this machine is used.", file=sys.stderr)


def _tables(name: str) -> Path:
    """Where `datasets` keeps the tables of a dataset, known without importing it."""
    from huggingface_hub import constants

    cache = os.environ.get("HF_DATASETS_CACHE", f"{constants.HF_HOME}/datasets")
    *owner, last = name.split("/")
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", last)
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", words).lower()
    return Path(cache) / "___".join([*owner, words])
