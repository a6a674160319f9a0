"""Randomised episodes over the catalogue and in the further worlds, shield on and off: who touched what, and why.

Run: python benchmarks/bench_worlds.py [--episodes N] [--further N] [--worlds NAME ...] [--results FILE [--summary]]
         [--budget-s S] [--json FILE]

In virtual time on all cores; the same seeds give the same outcomes on every machine. Episode i drives scenario i modulo
their number with a seed of its own, with the shield under each deadline in turn (--each: under all of them), and once
without. The promise: with the shield, no contact while the vehicle moved and every declared bound held; the command
exits with 1 if there is one. Every other contact is counted with its cause. --results keeps each episode as it ends, a
line of JSON each; a run that was stopped goes on from there, and --summary prints what there is.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from machine import keep, line, machine

from carla_bridge.scenario import shipped_scenarios
from carla_bridge.scene.episode import drive_scenario
from shield.deadline import Method

BUILT_IN = "kinematic"
FURTHER = ("commonroad", "highway", "mujoco")
_STRIDE = 7  # neighbours in the list are alike: a part of a run is to be a fair sample as well
METHODS = (Method.BACKUP, Method.BARRIER, Method.PUBLISHED)


@dataclass(frozen=True, slots=True)
class Job:
    """One episode: where, with which seed, and whether and how it is shielded."""

    world: str
    scenario: str
    seed: int
    shield: bool
    method: Method

    @property
    def row(self) -> str:
        return f"{self.world}, {f'shield, {self.method}' if self.shield else 'no shield'}"


def main() -> None:
    options = _options()
    where = machine("numpy", "opencv-python-headless", "onnxruntime")
    print(line("machine", where), flush=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    begin_s = time.monotonic()
    done = _kept(options.results)
    for job, outcome in done.items():
        rows.setdefault(job.row, []).append(outcome)
    jobs = [] if options.summary else [job for job in _jobs(options) if job not in done]
    for job, outcome in _driven(jobs, options.jobs, options.budget_s):
        rows.setdefault(job.row, []).append(outcome)
        _keep(options.results, job, outcome)
        if options.verbose:
            print(line(f"{job.row}, {job.scenario} {job.seed}", {"causes": outcome["causes"]}), flush=True)
    results = {row: _summed(found) for row, found in sorted(rows.items())}
    for row, figures in results.items():
        print(line(row, figures))
    print(line("wall", {"seconds": time.monotonic() - begin_s, "processes": options.jobs}))
    every = [{"row": row, **item} for row, found in sorted(rows.items()) for item in found if item["causes"]]
    keep(options.json, where, {**results, "contacts": every})
    broken = sum(_broken(item) for found in rows.values() for item in found)
    print(f"with the shield, contacts while moving with every bound held: {broken}")
    sys.exit(1 if broken else 0)


def _kept(path: Path | None) -> dict[Job, dict[str, Any]]:
    """Return the episodes of an earlier run; a line that a killed run left unfinished is driven again."""
    done: dict[Job, dict[str, Any]] = {}
    if path is None or not path.exists():
        return done
    for text in path.read_text().splitlines(keepends=True):
        if text.endswith("\n"):
            told = json.loads(text)
            given = told["job"]
            done[Job(**given | {"method": Method(given["method"])})] = told["outcome"]
    return done


def _keep(path: Path | None, job: Job, outcome: dict[str, Any]) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps({"job": asdict(job), "outcome": outcome}) + "\n")


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield every episode, the worlds and rows taking turns, so that any first part of them is a fair sample."""
    names = shipped_scenarios()
    for number in range(max(options.episodes, options.further)):
        if BUILT_IN in options.worlds and number < options.episodes:
            scenario, seed = names[_STRIDE * number % len(names)], options.seed + number
            # The catalogue has a multiple of three: moved on by one each round, each scenario meets every deadline.
            turn = number + number // len(names)
            yield from _pair(BUILT_IN, scenario, seed, turn, options.each)
        for world in options.worlds:
            if world != BUILT_IN and number < options.further:
                yield from _pair(world, "", options.seed + number, 0, False)


def _pair(world: str, scenario: str, seed: int, turn: int, each: bool) -> Iterator[Job]:
    for method in METHODS if each else (METHODS[turn % len(METHODS)],):
        yield Job(world, scenario, seed, True, method)
    yield Job(world, scenario, seed, False, Method.BACKUP)


def _driven(jobs: list[Job], processes: int, budget_s: float) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Yield what came of each episode; none is begun later than `budget_s` [s]."""
    end_s = time.monotonic() + budget_s
    waiting: list[tuple[Job, Future[dict[str, Any]]]] = []
    with ProcessPoolExecutor(processes) as pool:
        for number, job in enumerate(jobs):
            if time.monotonic() >= end_s:
                print(f"out of time: {number} of {len(jobs)} episodes begun", flush=True)
                break
            waiting.append((job, pool.submit(run, job)))
            if len(waiting) >= 2 * processes:
                first = waiting.pop(0)
                yield first[0], first[1].result()
        for job, future in waiting:
            yield job, future.result()


def run(job: Job) -> dict[str, Any]:
    """Drive one episode."""
    if job.world == BUILT_IN:
        return asdict(drive_scenario(job.scenario, job.seed, shield=job.shield, method=job.method))
    from carla_bridge.worlds.drive import drive_world  # needs the extra `worlds`
    from carla_bridge.worlds.registry import open_world

    world = open_world(job.world, seed=job.seed)
    # A driver that does not look at obstacles: without the shield it runs into them.
    done = drive_world(job.world, world, shielded=job.shield, pass_m=0.0)
    causes = [cause for cause, count in done.causes.items() for _ in range(count)]
    return asdict(done) | {
        "seed": job.seed,
        "causes": causes,
        "bounds_broken": sorted(done.broken),
        "off_track": done.ended == "off_track",
        "progress": done.progress_m,
    }


def _broken(item: dict[str, Any]) -> int:
    """Return the contacts that break the promise: shielded, certified, moving, every declared bound held."""
    return sum(cause == "moving, bounds held" for cause in item["causes"]) if item["shield"] else 0


def _summed(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    clearances = [item["min_clearance_m"] for item in found if item["min_clearance_m"] is not None]
    causes = Counter(_class(cause) for item in found for cause in item["causes"])
    return {
        "episodes": len(found),
        "promise_broken": sum(map(_broken, found)),
        "moving": sum(item["collisions_moving"] for item in found),
        "at_rest": sum(item["collisions_at_rest"] for item in found),
        "min_clearance_m": min(clearances, default=float("nan")),
        "uncertified": sum(item["uncertified"] for item in found),
        "off_track": sum(bool(item["off_track"]) for item in found),
        "progress": sum(item["progress"] for item in found) / len(found),
        "backup_share": sum(item["backup_share"] for item in found) / len(found),
        "deadline_median_s": median(item["deadline_median_s"] or 0.0 for item in found),
        "bounds_broken": ", ".join(sorted({name for item in found for name in item["bounds_broken"]})) or "none",
        "causes": ", ".join(f"{count} {cause}" for cause, count in causes.most_common()) or "none",
    }


def _class(cause: str) -> str:
    return "struck at rest" if cause.startswith("struck at rest") else cause


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--episodes", type=int, default=1000, help="seeds in the built-in world")
    parser.add_argument("--further", type=int, default=100, help="seeds in each further world")
    parser.add_argument("--worlds", nargs="+", choices=(BUILT_IN, *FURTHER), default=[BUILT_IN], help="which worlds")
    parser.add_argument("--each", action="store_true", help="every seed under every deadline")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--budget-s", type=float, default=1e9, help="begin no episode later than this [s]")
    parser.add_argument("--verbose", action="store_true", help="a line an episode")
    parser.add_argument("--results", type=Path, default=None, help="keep each episode here, and go on from there")
    parser.add_argument("--summary", action="store_true", help="drive nothing: print what --results holds")
    parser.add_argument("--json", type=Path, default=None, help="keep machine and figures here")
    options = parser.parse_args()
    if options.summary and options.results is None:
        parser.error("--summary prints what --results holds: name its file")
    return options


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
