"""`kill -9` at random moments of every kind of work: nothing lost, no key twice, results equal, nothing left lying around."""

import random
from collections.abc import Iterator
from pathlib import Path

import jobs_world
import pytest
from fork_server import Server, serving
from jobs_world import JOBS, Job, Truth
from ledger import Ledger, Row, seed

SECTION = "Kills (`kill -9` of the whole process group at a random moment, then run again)"
# Of every kind of work; with those on `dvc repro` about two hundred.
KILLS = 16
# A kill that comes when the work is done already is none; so many draws in a row mean that something else is wrong.
DRAWS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def world(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs_world.make(tmp_path_factory.mktemp("jobs") / "world", server)


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


def kills(job: Job, n: int, world: Path, folder: Path, server: Server, row: Row) -> None:
    truth = jobs_world.undisturbed(job, world, folder, server)
    rng = random.Random(f"{seed()} {job.name}")
    print(f"{job.name}: seed {seed()}, {truth.wall_s:.2f} s undisturbed; varying: {sorted(truth.varying)}")
    row.note = f"{truth.wall_s:.1f} s undisturbed"
    wrong = []
    for number in range(n):
        found = one_kill(truth, world, folder, server, rng)
        row.add("wrong" if found else "harmless")
        wrong += [f"kill {number}: {one}" for one in found[:5]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_many_kills(job: Job, world: Path, tmp_path: Path, server: Server, ledger: Ledger) -> None:
    kills(job, KILLS, world, tmp_path, server, ledger.row(SECTION, job.name))
