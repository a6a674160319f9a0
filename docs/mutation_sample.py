"""Print a seeded sample of the mutants, `count` of each module (all where there are fewer)."""

import json
import pathlib
import random
import sys

seed, count = int(sys.argv[1]), int(sys.argv[2])
for meta in sorted(pathlib.Path("mutants/shield").rglob("*.meta")):
    names = sorted(json.loads(meta.read_text())["exit_code_by_key"])
    print(*random.Random(f"{seed} {meta}").sample(names, min(count, len(names))), sep="\n")
