"""Records what a gensynth computes, to show that a change of its code changes no result.

    python tools/results.py record before.json       with the old code
    python tools/results.py compare before.json      with the new: prints every difference

Run it at the top of a checkout, with a Python that has that gensynth installed. It asks only for
what stays when code moves: the command line, `gensynth.load`, and the endpoint of the web page.
Results are pixels and recipes of pictures, losses and weights of a few steps of every
configuration, and scores; all on the CPU, and only to be compared on one machine with one set of
packages.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from results.cases import Case, Shared, all_cases
from results.lists import TOKENS
from results.reading import Results

Recorded = dict[str, Results]  # by case
FAILED = "failed"  # the result of a case that ended with an error
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # sums in another order round differently
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("action", choices=("record", "compare", "list"))
    parser.add_argument("file", type=Path, nargs="?", help="of the results; not for list")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="has data/")
    parser.add_argument("--only", default="", metavar="WORD", help="cases with it in their names")
    parser.add_argument("--jobs", type=int, default=2, help="cases run at the same time")
    args = parser.parse_args()
    if args.action != "list" and args.file is None:
        parser.error("FILE is missing")
    sys.path.insert(0, str(Path.cwd()))  # the code that `python -m gensynth` runs here
    with tempfile.TemporaryDirectory(prefix="gensynth-results-") as name:
        folder = Path(name)
        shared = Shared((args.shared / "data").resolve(), folder / "tokenizer", folder / "vae")
        cases = [case for case in all_cases(shared) if args.only in case.name]
        if args.action == "list":
            print(*(case.name for case in cases), sep="\n")
            return
        begun = time.monotonic()
        prepare(shared, folder)
        now = run_all(cases, folder, args.jobs)
    count = sum(map(len, now.values()))
    print(f"{count} results of {len(now)} cases in {time.monotonic() - begun:.0f} s")
    if args.action == "record":
        args.file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        sys.exit(any(FAILED in results for results in now.values()))
    recorded = json.loads(args.file.read_text(encoding="utf-8"))
    was = {name: results for name, results in recorded.items() if args.only in name}
    sys.exit(compare(was, now) > 0)


def prepare(shared: Shared, folder: Path) -> None:
    """Sets the environment, imports what every case needs, and makes two autoencoders."""
    os.environ |= ENVIRONMENT
    for name in ("GENSYNTH_CACHE", "HF_DATASETS_CACHE", "TMPDIR"):
        (folder / name).mkdir()
        os.environ[name] = str(folder / name)
    tempfile.tempdir = None  # so that TMPDIR counts
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch
    import torch.utils.tensorboard
    import torchmetrics  # noqa: F401
    from diffusers import AutoencoderKL

    import gensynth

    torch.set_num_threads(1)
    print(f"gensynth in {Path(gensynth.__file__).parent}")
    gensynth.load(TOKENS, device="cpu").autoencoder.save_pretrained(shared.tokenizer)
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4, 4, 4, 4],
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.18215,
        mid_block_add_attention=False,
    )
    vae.save_pretrained(shared.vae)


def run_all(cases: Sequence[Case], folder: Path, jobs: int) -> Recorded:
    """The results of each case, which runs in a process of its own, forked from this one."""
    context = multiprocessing.get_context("fork")
    found: Recorded = {}
    running: dict[BaseProcess, tuple[Case, Path, float]] = {}
    waiting = list(enumerate(cases))
    while waiting or running:
        while waiting and len(running) < jobs:
            number, case = waiting.pop(0)
            place = folder / f"case-{number}"
            place.mkdir()
            process = context.Process(target=run_one, args=(case, place))
            process.start()
            running[process] = case, place, time.monotonic()
        wait([process.sentinel for process in running])
        for process in [process for process in running if not process.is_alive()]:
            case, place, since = running.pop(process)
            found[case.name] = results_of(process, place)
            shutil.rmtree(place)
            seconds = time.monotonic() - since
            print(f"[{len(found)}/{len(cases)}] {seconds:.1f} s: {case.name}", flush=True)
    return {case.name: found[case.name] for case in cases}


def run_one(case: Case, folder: Path) -> None:
    """Runs a case; what its commands print goes into a file."""
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    results = case.run(folder)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def results_of(process: BaseProcess, folder: Path) -> Results:
    """What a process that has ended found, or the last line that it printed."""
    process.join()
    if process.exitcode == 0:
        results: Results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        return results
    log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    print(log[-2000:], file=sys.stderr)
    return {FAILED: f"exit code {process.exitcode}"}


def compare(was: Recorded, now: Recorded) -> int:
    """Prints every result that is not as it was, and returns their number."""
    before, after = flat(was), flat(now)
    different = [name for name in before | after if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}\n  was {before.get(name, 'missing')}\n  now {after.get(name, 'missing')}")
    print(f"{len(before | after)} results compared, {len(different)} differ")
    return len(different)


def flat(recorded: Recorded) -> dict[str, str]:
    """Results as text, by case and name."""
    return {
        f"{case}: {name}": json.dumps(value, sort_keys=True)
        for case, results in recorded.items()
        for name, value in results.items()
    }


if __name__ == "__main__":
    main()
