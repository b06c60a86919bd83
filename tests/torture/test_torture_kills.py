"""`kill -9` at random moments of every kind of work: nothing lost, no key twice, results equal, nothing left over."""

import random
from pathlib import Path

import jobs_world
import pytest
from fork_server import Server
from jobs_world import BY_NAME, JOBS, Bench, Job, Truth
from ledger import Clock, Ledger, Row, attempts, seed

SECTION = "Kills (`kill -9` of the whole process group at a random moment, then run again)"
# Of every kind of work; with those on `dvc repro` about two hundred.
KILLS = 16
# A kill that comes when the work is done already is none; so many draws in a row mean that something else is wrong.
DRAWS = 12


def one_kill(truth: Truth, world: Path, folder: Path, server: Server, rng: random.Random) -> list[str]:
    """Kill a job once and run it again; what is wrong then."""
    job = truth.job
    for _ in range(DRAWS):
        with jobs_world.place_of(job, world, folder) as place:
            if not server.run(job.argv, place, kill_after_s=jobs_world.moment(rng, truth)).was_killed:
                continue
            midway = jobs_world.faults_midway(truth, place)
            return midway + jobs_world.faults_at_end(truth, server.run(job.argv, place), place)
    raise AssertionError(f"{job.name} was always done before its {DRAWS} kills")


def kills(job: Job, n: int, bench: Bench, folder: Path, row: Row, clock: Clock | None = None) -> None:
    """Kill it so often, or until the time is up."""
    truth = jobs_world.undisturbed(job, bench.world, folder, bench.server)
    rng = random.Random(f"{seed()} {job.name}")
    print(f"{job.name}: seed {seed()}, {truth.wall_s:.2f} s undisturbed")
    assert truth.varying == set(), "two undisturbed runs differ"
    row.note = f"{truth.wall_s:.1f} s undisturbed"
    wrong = []
    for number in range(n):
        if clock is not None and clock.is_up:
            row.note = f"{row.note}; the time was up".lstrip("; ")
            break
        found = one_kill(truth, bench.world, folder, bench.server, rng)
        row.add("wrong" if found else "harmless")
        wrong += [f"kill {number}: {one}" for one in found[:5]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_many_kills(job: Job, bench: Bench, tmp_path: Path, ledger: Ledger) -> None:
    kills(job, attempts(KILLS), bench, tmp_path, ledger.row(SECTION, job.name), ledger.clock)


@pytest.mark.parametrize("name", ["extract", "gc"])
def test_a_few_kills(name: str, light_bench: Bench, tmp_path: Path) -> None:
    kills(BY_NAME[name], 2, light_bench, tmp_path, Row(SECTION, name))
