"""A fleet of machines that embeds rows, part after part, as discrete events: what `simulate.py` asks.

A part is what a write task writes, and what is lost with its machine. Rows pass through stations: some belong to each
machine (a GPU, its CPUs, its network), some to all of them together (a bucket, the limits of a key). A machine works on
one part at a time, in which the stations overlap, so that the slowest of them sets the pace; the shared ones serve in
the order of asking. Every draw comes from the seed, so a plan has one outcome.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

DAY_S = 86_400.0
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Station:
    """Something that every row passes through."""

    name: str
    rate: float
    """Rows a second: of one machine, or of all together if `shared`."""
    shared: bool = False
    repeats: bool = False
    """Whether a request that fails uses it again."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong; nothing by default."""

    failed_requests: float = 0.0
    """Share of requests to the service or the storage that fail and are sent again."""
    outages_a_day: float = 0.0
    """How often the service or the storage is away for everybody."""
    outage_s: float = 0.0
    """How long, in seconds."""
    stragglers: float = 0.0
    """Share of parts that take longer."""
    straggler_factor: float = 1.0
    """How many times as long."""
    preemptions_an_hour: float = 0.0
    """How often a machine is taken away, a machine."""
    restart_s: float = 0.0
    """Seconds until another machine stands in its place."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is embedded, and by whom."""

    rows: int
    machines: int
    stations: tuple[Station, ...]
    part_rows: int = 8192
    request_rows: int = 1
    """Rows of one request to the service or the storage."""
    start_s: float = 0.0
    """Seconds from a machine's start to its first row: boot, weights."""
    in_flight_rows: int = 512
    """Rows of a machine that have no answer yet."""
    cache_survives: bool = False
    """Whether vectors of a part that was lost are found again: a cache outside the machine."""
    shards: bool = False
    """Whether each machine has rows of its own (`--shard i/n`); else all take from one queue (Ray)."""
    faults: Faults = Faults()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan."""

    seconds: float
    """Until the last part was written."""
    machine_seconds: float
    """That machines were there and paid for."""
    rows: int
    """That were written."""
    embedded: int
    """Rows that were embedded, those that had to be embedded again too."""
    preemptions: int
    outage_s: float
    """Seconds of the run in which nothing could be read or asked."""
    busy: dict[str, float]
    """Share of the time that each station was at work."""

    @property
    def again(self) -> int:
        """Rows that were embedded more than once."""
        return self.embedded - self.rows

    @property
    def busiest(self) -> list[tuple[str, float]]:
        """Stations, the one that limits the run first."""
        return sorted(self.busy.items(), key=lambda entry: -entry[1])


def work_of(station: Station, rows: int, again: float) -> float:
    """Seconds that so many rows take at a station, each of their requests sent `again` times."""
    return rows / station.rate * (again if station.repeats else 1.0)


class Clock:
    """Tells when work is done that rests during outages.

    Args:
        faults: how many outages, how long.
        seed: of their moments.
    """

    def __init__(self, faults: Faults, seed: int) -> None:
        self.rate, self.length = faults.outages_a_day / DAY_S, faults.outage_s
        self.draw = random.Random(f"outages {seed}")
        self.starts: list[float] = []
        self.known = math.inf if self.rate == 0 or self.length == 0 else 0.0

    def after(self, start: float, work: float) -> float:
        """The moment at which so many seconds of work are done that begin at `start`."""
        if self.known == math.inf:
            return start + work
        self._extend(start + work)
        index = max(0, bisect_right(self.starts, start) - 1)
        while True:
            self._extend(start + work)
            if index >= len(self.starts) or self.starts[index] >= start + work:
                return start + work
            back = self.starts[index] + self.length
            if back > start:
                done = max(0.0, self.starts[index] - start)
                start, work = back, work - done
            index += 1

    def total(self, end: float) -> float:
        """Seconds of outages until `end`."""
        self._extend(end)
        return sum(min(self.length, end - start) for start in self.starts if start < end)

    def _extend(self, until: float) -> None:
        while self.known <= until:
            self.known += self.draw.expovariate(self.rate)
            self.starts.append(self.known)
            self.known += self.length


@dataclass(slots=True)
class Machine:
    """One of the fleet."""

    name: int
    lost_at: float
    up_since: float
    queue: deque[int]
    """Rows of each part that it may take: its own, or everybody's."""


class Fleet:
    """The state of a run.

    Args:
        plan: what is embedded, and by whom.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock(plan.faults, plan.seed)
        self.draw = random.Random(f"fleet {plan.seed}")
        self.noise = np.random.default_rng(plan.seed)
        self.order = itertools.count()
        self.events: list[tuple[float, int, str, Machine, int, float]] = []
        """(moment, order, what happens, machine, rows of the part, share of them that is done)."""
        self.free = {station.name: 0.0 for station in plan.stations if station.shared}
        """When each shared station has served all that was asked."""
        self.work = {station.name: 0.0 for station in plan.stations}
        """Seconds that each station was at work."""
        self.idle: list[Machine] = []
        self.rows = self.embedded = self.preemptions = 0
        self.machine_seconds = self.end = 0.0

    def run(self) -> Outcome:
        """All events, until no part is left."""
        machines = self.start()
        acts = {"free": self.take, "done": self.write, "lost": self.lose}
        while self.events:
            moment, _, what, machine, rows, share = heapq.heappop(self.events)
            acts[what](moment, machine, rows, share)
        for machine in [] if self.plan.shards else machines:
            self.machine_seconds += max(0.0, self.end - machine.up_since)
        return self.outcome()

    def start(self) -> list[Machine]:
        """Machines, with the parts divided among them or in one queue."""
        plan = self.plan
        whole, rest = divmod(plan.rows, plan.part_rows)
        parts = [plan.part_rows] * whole + [rest] * (rest > 0)
        common = deque(parts)
        machines = []
        for name in range(plan.machines):
            queue = deque(parts[name :: plan.machines]) if plan.shards else common
            machine = Machine(name, self.next_loss(0.0), 0.0, queue)
            machines.append(machine)
            self.schedule(plan.start_s, "free", machine)
        return machines

    def schedule(self, moment: float, what: str, machine: Machine, rows: int = 0, share: float = 0.0) -> None:
        """Puts an event where it belongs; those of one moment keep their order."""
        heapq.heappush(self.events, (moment, next(self.order), what, machine, rows, share))

    def next_loss(self, moment: float) -> float:
        """When a machine that starts now is taken away."""
        rate = self.plan.faults.preemptions_an_hour / HOUR_S
        return moment + self.draw.expovariate(rate) if rate else math.inf

    def take(self, moment: float, machine: Machine, _rows: int = 0, _share: float = 0.0) -> None:
        """The machine takes its next part; without one it rests."""
        if not machine.queue:
            self.rest(moment, machine)
            return
        if machine.lost_at <= moment:
            self.replace(machine.lost_at, machine)
            return
        rows = machine.queue.popleft()
        again = self.repeat(rows)
        end = self.reserve(moment, rows, again)
        share = min(1.0, (machine.lost_at - moment) / (end - moment))
        for station in self.plan.stations:
            self.work[station.name] += share * work_of(station, rows, again)
        if share < 1.0:
            self.schedule(machine.lost_at, "lost", machine, rows, share)
        else:
            self.schedule(end, "done", machine, rows)

    def reserve(self, moment: float, rows: int, again: float) -> float:
        """When a part that starts now is written, behind what the shared stations have to do before it."""
        plan, faults, end = self.plan, self.plan.faults, moment
        stretch = faults.straggler_factor if self.draw.random() < faults.stragglers else 1.0
        for station in plan.stations:
            seconds = work_of(station, rows, again)
            if station.shared:
                done = self.clock.after(max(moment, self.free[station.name]), seconds)
                self.free[station.name] = done
            else:
                done = self.clock.after(moment, seconds * stretch)
            end = max(end, done)
        return end

    def repeat(self, rows: int) -> float:
        """How often a request of this part is sent, in the mean."""
        failing = self.plan.faults.failed_requests
        if not failing:
            return 1.0
        requests = math.ceil(rows / self.plan.request_rows)
        return 1.0 + float(self.noise.negative_binomial(requests, 1.0 - failing)) / requests

    def write(self, moment: float, machine: Machine, rows: int, _share: float) -> None:
        """A part is there for good."""
        self.rows += rows
        self.embedded += rows
        self.end = max(self.end, moment)
        self.take(moment, machine)

    def lose(self, moment: float, machine: Machine, rows: int, share: float) -> None:
        """The machine is gone, and with it what was not written; the part is for another one."""
        done = int(rows * share)
        kept = max(0, done - self.plan.in_flight_rows) if self.plan.cache_survives else 0
        self.rows += kept
        self.embedded += done
        machine.queue.appendleft(rows - kept)
        self.replace(moment, machine)
        if self.idle:
            waiting = self.idle.pop()
            waiting.lost_at = self.next_loss(moment)  # as likely as ever: the wait says nothing of what comes
            self.schedule(moment, "free", waiting)

    def replace(self, moment: float, machine: Machine) -> None:
        """Another machine takes the place of one that is gone."""
        self.preemptions += 1
        self.machine_seconds += moment - machine.up_since
        machine.up_since = moment + self.plan.faults.restart_s
        machine.lost_at = self.next_loss(machine.up_since)
        self.schedule(machine.up_since + self.plan.start_s, "free", machine)

    def rest(self, moment: float, machine: Machine) -> None:
        """The machine has nothing to do."""
        if self.plan.shards:
            self.machine_seconds += max(0.0, moment - machine.up_since)
        else:
            self.idle.append(machine)

    def outcome(self) -> Outcome:
        """What the run came to."""
        times = {station.name: self.end if station.shared else self.machine_seconds for station in self.plan.stations}
        return Outcome(
            seconds=self.end,
            machine_seconds=self.machine_seconds,
            rows=self.rows,
            embedded=self.embedded,
            preemptions=self.preemptions,
            outage_s=self.clock.total(self.end) if self.plan.faults.outages_a_day else 0.0,
            busy={name: self.work[name] / time if time else 0.0 for name, time in times.items()},
        )


def simulate(plan: Plan) -> Outcome:
    """Runs a plan to its end.

    Raises:
        ValueError: the plan has no rows, machines or stations, or a rate that is not positive.
    """
    if min(plan.rows, plan.machines, plan.part_rows) < 1 or not plan.stations:
        raise ValueError(f"a plan needs rows, machines, parts and stations: {plan}")
    if slow := [station.name for station in plan.stations if not station.rate > 0]:
        raise ValueError(f"the rate of {', '.join(slow)} has to be positive")
    return Fleet(plan).run()


def without_faults(plan: Plan) -> Plan:
    """The same plan in a perfect world."""
    return replace(plan, faults=Faults())
