"""Kills a run with snapshots, evaluations and two processes at random moments, and compares it.

    python tools/kill_test.py --moments 30 --seed 0
    python tools/kill_test.py --kind captions

Its log, snapshots, evaluations, best model and weights must be those of the run in peace, to the
bit; of its grids of samples those that were drawn. A few moments are a test (tests/training).
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "training"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--moments", type=int, default=30, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="keeps the runs there; else they are deleted")
    from killing import KINDS, in_peace, killed, same, write_real

    parser.add_argument("--kind", choices=KINDS, default="classes", help="what the run is told")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="gensynth-kill-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["GENSYNTH_CACHE"] = str(folder / "cache")
        real, steps = write_real(folder / "real", args.kind), 20 + 5 * args.moments
        chance = random.Random(args.seed)
        run = killed(folder / "killed", real, steps, args.moments, chance, args.kind)
        different = same(in_peace(folder / "peace", real, steps, args.kind), run)
    print("\n".join(different) or f"{args.moments} kills: nothing differs")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
