"""What a cluster does with a run: the real queue, workers that are drawn, no model.

    python benchmarks/cluster.py [--workers 1 4 16 64 256 1000] [--hours 2]

Workers differ in speed, units in size; each worker dies about once in ``--fails`` seconds, which
costs the unit at hand, and is back after ``--back`` seconds; now and then a unit takes ``DAWDLE``
times as long. One driver hands out units and writes what comes back, one at a time. Efficiency is
the work, each unit counted once, in what all workers could have done from the first unit to the
last without dying: the end, when some have nothing to do, counts against it.
"""

import argparse
import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from probe.cluster.queue import Queue
from probe.text import aligned

SPEEDS, SIZES = 0.15, 0.3
"""Standard deviation of the logarithm of a worker's speed, and of a unit's seconds."""
RARE, DAWDLE = 0.002, 10.0
"""How often a unit dawdles, and how many times longer it takes then."""


@dataclass(frozen=True)
class Cluster:
    """What is drawn.

    Args:
        workers: How many.
        units: Units of the run.
        seconds: Of a unit on a usual worker, on average.
        fails: Seconds between two deaths of a worker, on average.
        back: Seconds until it is there again, its model loaded.
        driver: Seconds of the driver for a unit: what comes back is written by it alone.
    """

    workers: int
    units: int
    seconds: float = 30.0
    fails: float = 3600.0
    back: float = 60.0
    driver: float = 0.01


@dataclass(frozen=True)
class Course:
    """How it went.

    Args:
        seconds: From the first unit to the last.
        efficiency: Work in what all workers could have done.
        twice: Units that a second worker was given.
        deaths: Workers that died.
        given_up: Units that were given up.
    """

    seconds: float
    efficiency: float
    twice: int
    deaths: int
    given_up: int


def simulate(cluster: Cluster, seed: int = 0) -> Course:
    """One run on a cluster."""
    rng = np.random.default_rng(seed)
    speeds = rng.lognormal(-(SPEEDS**2) / 2, SPEEDS, cluster.workers)
    sizes = cluster.seconds * rng.lognormal(-(SIZES**2) / 2, SIZES, cluster.units)
    queue, order = Queue(range(cluster.units)), itertools.count()
    dies = list(rng.exponential(cluster.fails, cluster.workers))
    # What happens when: a worker has its unit done ("done"), is free ("free"), dies ("dead").
    events = [(0.0, next(order), "free", worker) for worker in range(cluster.workers)]
    heapq.heapify(events)
    now, free_at, handed, deaths = 0.0, 0.0, 0, 0
    while queue.left:
        now, _, what, worker = heapq.heappop(events)
        if what == "dead":
            queue.lost(worker)
            deaths += 1
            now += cluster.back
            dies[worker] = now + rng.exponential(cluster.fails)
        elif what == "done":  # the driver writes one thing at a time
            free_at = max(free_at, now) + cluster.driver
            queue.done(worker, free_at)
            now = free_at
        else:
            unit = queue.take(worker, now)
            if unit is not None:
                handed += 1
                seconds = sizes[unit] / speeds[worker] * (DAWDLE if rng.random() < RARE else 1.0)
                end = now + seconds
                ending = (end, "done") if end < dies[worker] else (dies[worker], "dead")
                heapq.heappush(events, (ending[0], next(order), ending[1], worker))
                continue
            now += 1.0  # it asks again
            if now >= dies[worker]:
                dies[worker] = now + rng.exponential(cluster.fails)
        heapq.heappush(events, (now, next(order), "free", worker))
    could = free_at * float(speeds.sum())
    lost = len(queue.given_up)
    twice = handed - deaths - cluster.units + lost
    return Course(free_at, float(sizes.sum()) / could, max(0, twice), deaths, lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1000])
    parser.add_argument("--hours", type=float, default=2.0, help="of work for each worker")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a unit")
    parser.add_argument("--fails", type=float, default=3600.0, help="seconds between two deaths")
    parser.add_argument("--back", type=float, default=60.0, help="seconds until it is back")
    parser.add_argument("--driver", type=float, default=0.01, help="seconds of a unit")
    args = parser.parse_args()
    rows = [["workers", "units", "hours", "efficiency", "deaths", "twice", "given up"]]
    for workers in args.workers:
        units = max(1, round(workers * args.hours * 3600 / args.seconds))
        course = simulate(Cluster(workers, units, args.seconds, args.fails, args.back, args.driver))
        rows.append(
            [
                f"{workers:,}",
                f"{units:,}",
                f"{course.seconds / 3600:.2f}",
                f"{100 * course.efficiency:.1f} %",
                f"{course.deaths:,}",
                f"{course.twice:,}",
                f"{course.given_up:,}",
            ]
        )
    print(aligned(rows, numbers=True))


if __name__ == "__main__":
    main()
