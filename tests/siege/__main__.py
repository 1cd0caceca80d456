"""`python -m tests.siege`: sieges with one seed after another, on both databases."""

import argparse
import random
import shutil
import tempfile
from pathlib import Path

from tests.siege.siege import Siege


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--seed", type=int, help="this one first; default: drawn")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    first = random.randrange(10**6) if options.seed is None else options.seed
    for seed in range(first, first + options.seeds):
        for engine in [options.engine] if options.engine else ["sqlite", "postgresql"]:
            folder = Path(tempfile.mkdtemp(prefix="siege-"))
            # What has failed can be looked at.
            print(f"{engine} seed {seed}: {folder}", flush=True)
            print(Siege(engine, seed, options.jobs, folder).run(), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
