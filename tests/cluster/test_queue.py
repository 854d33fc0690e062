"""The queue: every unit is done once, whatever becomes of those who do it."""

import heapq
from collections import Counter

import numpy as np
import pytest

from probe.cluster.queue import MOST_LOSSES, SLOW, Queue


def test_in_order() -> None:
    queue = Queue(range(3))
    assert [queue.take(worker, 0) for worker in "ab"] == [0, 1]
    assert queue.unit_of("b") == 1
    assert queue.done("b", 1)
    assert queue.take("b", 1) == 2
    assert queue.left == 2
    assert queue.take("c", 1) is None
    assert queue.done("a", 2)
    assert queue.done("b", 2)
    assert queue.left == 0


def test_units_of_the_dead_come_next() -> None:
    queue = Queue(range(3))
    queue.take("a", 0)
    queue.lost("a")
    queue.lost("never seen")
    assert [queue.take(worker, 1) for worker in "bcd"] == [0, 1, 2]


def test_a_unit_that_kills_is_given_up() -> None:
    queue = Queue(range(2))
    for worker in range(MOST_LOSSES):
        assert queue.take(worker, 0) == 0
        queue.lost(worker)
    assert queue.given_up == [0]
    assert queue.take("last", 0) == 1
    assert queue.done("last", 1)
    assert queue.left == 0


def test_the_slowest_is_handed_out_once_more() -> None:
    queue = Queue(range(4))
    for worker, unit in zip("abcd", range(4), strict=True):
        assert queue.take(worker, 0.1 * unit) == unit
    assert queue.take("e", 99) is None  # how long a unit takes is not known yet
    assert queue.done("d", 1.3)
    assert queue.take("d", 0.95 * SLOW) is None
    assert queue.take("d", 2.0 * SLOW) == 0
    assert queue.take("e", 2.0 * SLOW) == 1
    assert queue.take("f", 99) == 2
    assert queue.take("g", 99) is None
    assert queue.done("d", 100)
    assert not queue.done("a", 101)  # it comes too late
    queue.lost("b")  # which the second worker has still
    assert queue.done("e", 102)
    assert queue.done("c", 103)
    queue.lost("f")
    assert queue.left == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_course(seed: int) -> None:
    """Workers that come, die and dawdle at random: each unit is new once."""
    rng = np.random.default_rng(seed)
    queue, done = Queue(range(40)), Counter[int]()
    now, names, idle = 0.0, iter(range(10_000)), [next(iter([-1]))]
    events: list[tuple[float, int]] = []
    while queue.left:
        for worker in list(idle):
            if queue.take(worker, now) is not None:
                idle.remove(worker)
                heapq.heappush(events, (now + rng.exponential(1) ** 3, worker))
        if rng.random() < 0.2 and len(idle) + len(events) < 8:
            idle.append(next(names))
        if not events:
            now += 1
            continue
        now, worker = heapq.heappop(events)
        if rng.random() < 0.1 and sum(done.values()) > 2:
            queue.lost(worker)
            continue
        unit = queue.unit_of(worker)
        done[unit] += queue.done(worker, now)
        idle.append(worker)
    assert set(done.values()) == {1}
    assert len(done) + len(queue.given_up) == 40
