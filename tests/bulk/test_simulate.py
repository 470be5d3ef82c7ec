"""The simulation of large runs: what has to hold whatever the figures are, and cases that can be reckoned by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation import Clock, Faults, Plan, Station, simulate

ROOT = Path(__file__).parents[2]
GPU = Station("GPU", 50.0)
READS = Station("reads", 400.0, shared=True, repeats=True)
ROUGH = Faults(
    failed_requests=0.05,
    outages_a_day=3,
    outage_s=900,
    stragglers=0.1,
    straggler_factor=4,
    preemptions_an_hour=0.5,
    restart_s=120,
)
PLAN = Plan(rows=1_000_000, machines=8, stations=(GPU, READS), part_rows=4096, start_s=30, faults=ROUGH, seed=3)

plans = st.builds(
    Plan,
    rows=st.integers(1, 300_000),
    machines=st.integers(1, 40),
    stations=st.sampled_from([(GPU,), (GPU, READS), (READS,)]),
    part_rows=st.integers(500, 20_000),
    request_rows=st.sampled_from([1, 512]),
    start_s=st.sampled_from([0.0, 60.0]),
    cache_survives=st.booleans(),
    shards=st.booleans(),
    faults=st.sampled_from([Faults(), ROUGH, Faults(preemptions_an_hour=5, restart_s=1)]),
    seed=st.integers(0, 5),
)


@given(plans)
def test_every_row_is_written_once_and_embedded_at_least_once(plan: Plan) -> None:
    outcome = simulate(plan)
    assert outcome.rows == plan.rows
    assert outcome.embedded >= plan.rows
    assert outcome.machine_seconds > 0


@given(plans)
def test_a_lost_machine_costs_a_part_at_most(plan: Plan) -> None:
    outcome = simulate(plan)
    most = min(plan.part_rows, plan.in_flight_rows) if plan.cache_survives else plan.part_rows
    assert outcome.again <= outcome.preemptions * most


@given(plans)
def test_a_plan_has_one_outcome(plan: Plan) -> None:
    assert simulate(plan) == simulate(plan)


@given(plans, st.integers(1, 40))
def test_more_machines_are_never_slower_without_faults(plan: Plan, more: int) -> None:
    calm = replace(plan, faults=Faults())
    assert simulate(replace(calm, machines=plan.machines + more)).seconds <= simulate(calm).seconds * (1 + 1e-9)


@given(plans)
def test_no_station_works_longer_than_the_run(plan: Plan) -> None:
    calm = replace(plan, faults=Faults())
    assert all(0 <= share <= 1 + 1e-9 for share in simulate(calm).busy.values())


@pytest.mark.parametrize("machines", [1, 5, 20])
@pytest.mark.parametrize("shards", [False, True])
def test_without_faults_the_time_is_rows_by_machines_and_rate(machines: int, shards: bool) -> None:
    plan = Plan(rows=200_000, machines=machines, stations=(GPU,), part_rows=1000, start_s=90, shards=shards)
    outcome = simulate(plan)
    assert outcome.seconds == pytest.approx(90 + 200_000 / (machines * 50.0))
    assert outcome.machine_seconds == pytest.approx(machines * outcome.seconds)
    assert outcome.embedded == 200_000


def test_a_shared_station_is_the_pace_of_any_number_of_machines() -> None:
    plan = Plan(rows=400_000, machines=100, stations=(GPU, READS), part_rows=1000)
    outcome = simulate(plan)
    assert outcome.seconds == pytest.approx(400_000 / 400.0, rel=0.02)
    assert outcome.busiest[0][0] == "reads"


def test_the_slowest_of_a_machines_stations_is_its_pace() -> None:
    plan = Plan(rows=100_000, machines=1, stations=(GPU, Station("decoding", 20.0)), part_rows=1000)
    outcome = simulate(plan)
    assert outcome.seconds == pytest.approx(100_000 / 20.0)
    assert outcome.busiest == [("decoding", pytest.approx(1.0)), ("GPU", pytest.approx(0.4))]


def test_requests_that_fail_are_asked_again() -> None:
    plan = Plan(rows=1_000_000, machines=10, stations=(READS,), faults=Faults(failed_requests=0.2))
    assert simulate(plan).seconds == pytest.approx(1_000_000 / 400.0 / 0.8, rel=0.01)


def test_nothing_is_done_in_an_outage() -> None:
    plan = replace(PLAN, faults=Faults(outages_a_day=20, outage_s=600))
    calm, rough = simulate(replace(plan, faults=Faults())), simulate(plan)
    assert rough.outage_s > 0
    assert rough.seconds >= calm.seconds + rough.outage_s - 600


@given(st.floats(0, 1e6), st.floats(0, 1e5), st.integers(0, 5))
def test_work_that_an_outage_interrupts_is_done_after_it(start: float, work: float, seed: int) -> None:
    clock = Clock(Faults(outages_a_day=10, outage_s=1000), seed)
    end = clock.after(start, work)
    away = sum(max(0.0, min(end, at + 1000) - max(start, at)) for at in clock.starts)
    assert end - start == pytest.approx(work + away, abs=1e-3)


def test_a_machine_of_its_own_rows_goes_home_when_they_are_done() -> None:
    plan = Plan(rows=3000, machines=2, stations=(GPU,), part_rows=1000)
    assert simulate(plan).machine_seconds == pytest.approx(80.0)  # both wait for the last part
    assert simulate(replace(plan, shards=True)).machine_seconds == pytest.approx(60.0)


def test_smaller_parts_lose_less() -> None:
    fine, coarse = simulate(replace(PLAN, part_rows=1024)), simulate(replace(PLAN, part_rows=65_536))
    assert fine.again < coarse.again / 5
    kept = simulate(replace(PLAN, part_rows=65_536, cache_survives=True))
    assert kept.again < coarse.again / 5


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"machines": 0}, {"stations": ()}, {"stations": (Station("x", 0.0),)}])
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs rows|rate of x"):
        simulate(replace(PLAN, **wrong))


@pytest.mark.slow
def test_the_command_prints_every_table_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "scale.png"
    command = [sys.executable, "benchmarks/simulate.py", "--items", "2e5", "--gpus", "1,3", "--draw", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "### On GPUs: 200,000 rows" in done.stdout
    assert "| images, v2 | 3 H100 |" in done.stdout
    assert "| texts, v1 | free | 4 |" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_knows_ray_and_machines_that_stay() -> None:
    command = [sys.executable, "benchmarks/simulate.py", "--items", "2e5", "--gpus", "2", "--tables", "gpus"]
    done = subprocess.run(
        [*command, "--executor", "ray", "--on-demand", "--set", "ray_block_ms=1e6"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("| images", "| texts"))]
    assert len(lines) == 8
    assert all("driver of Ray" in line for line in lines)


def test_a_misspelt_figure_is_refused() -> None:
    command = [sys.executable, "benchmarks/simulate.py", "--set", "mfuu=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'mfuu' is no figure" in done.stderr
