"""Writes that fail on purpose at every site of every kind of work, and processes without descriptors or memory: one clear
message, a store that is intact, and a second run that comes to the same as an undisturbed one."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fault_shim
import jobs_world
import pytest
from fork_server import Outcome, Server, serving
from jobs_world import BY_NAME, JOBS, Job, Truth
from ledger import Ledger, Row, seed

from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.upkeep import inspection as upkeep

SECTION = "Writes that fail (ENOSPC, EIO, a full disk, short writes), at each site"
LIMITS = "Without file descriptors, without memory"
REASONS = {
    "enospc": "No space left on device",
    "full": "No space left on device",
    "eio": "Input/output error",
}
# Of sites that do the same to files of the same kind.
PER_SITE = 2
FEW = 4
MIB = 1 << 20

pytestmark = pytest.mark.skipif(fault_shim.compiler() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(fault_shim.build(tmp_path_factory.mktemp("shim"))) as one:
        yield one


@pytest.fixture(scope="module")
def world(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs_world.make(tmp_path_factory.mktemp("jobs") / "world", server)


def sites_of(truth: Truth, fault: str, world: Path, folder: Path, server: Server) -> tuple[str, ...]:
    """What an undisturbed run writes, call by call, in order."""
    with jobs_world.place_of(truth.job, world, folder) as place:
        return server.run(truth.job.argv, place, arm=(fault, 0)).sites


def chosen(sites: tuple[str, ...], rng: random.Random, per_site: int = PER_SITE) -> list[int]:
    """Which writes to let fail (from 1): of each site the first, the last, and some between."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, site in enumerate(sites, start=1):
        alike[re.sub(r"[0-9a-f]{6,}|\d+", "#", site)].append(number)
    found: set[int] = set()
    for numbers in alike.values():
        found |= {numbers[0], numbers[-1], *rng.sample(numbers, min(max(0, per_site - 2), len(numbers)))}
    return sorted(found)


def judged(
    truth: Truth, outcome: Outcome, reason: str | None, place: Path, server: Server
) -> tuple[str, list[str]]:
    """What came of a fault, as the ledger calls it, and what is wrong."""
    job = truth.job
    midway = jobs_world.faults_midway(truth, place)
    if outcome.status == job.status:
        # It was borne: nothing that counts was hit, or it was written another way.
        return "harmless", midway + jobs_world.faults_at_end(truth, outcome, place)
    if outcome.status < 0:
        midway.append(f"it was ended by signal {-outcome.status}")
    errors = [line for line in outcome.said.splitlines() if line.startswith("error:")]
    if "Traceback" in outcome.said or len(errors) != 1:
        midway.append(f"not one clear message: {outcome.said[-3000:]}")
    elif reason is not None and reason not in errors[0]:
        midway.append(f"the cause is not named: {errors[0]}")
    midway += broken(job, place)
    return "detected", midway + jobs_world.faults_at_end(truth, server.run(job.argv, place), place)


def broken(job: Job, place: Path) -> list[str]:
    """What `verify` has to say of the job's depot once it is swept."""
    if job.depot in (None, "older") or not (place / job.depot / FORMAT_FILE).exists():
        return []
    store = FeatureStore(place / job.depot)
    store.sweep()
    report = upkeep.verify(store)
    return [f"verify: {report}"] if report.damaged or report.orphans or report.foreign else []


def failing(
    job: Job, fault: str, world: Path, folder: Path, server: Server, row: Row, n: int | None = None
) -> None:
    """Let chosen writes fail, one a run (`n`: so many of them)."""
    truth = jobs_world.undisturbed(job, world, folder, server, times=1)
    rng = random.Random(f"{seed()} {job.name} {fault}")
    sites = sites_of(truth, fault, world, folder, server)
    numbers = chosen(sites, rng)
    assert numbers, "the shim saw no write"
    numbers = numbers if n is None else sorted(rng.sample(numbers, min(n, len(numbers))))
    print(f"{job.name}, {fault}: seed {seed()}, {len(sites)} writes, {len(numbers)} of them fail in turn")
    row.note = f"{len(sites)} writes in {len({site.split()[0] for site in sites})} ways"
    wrong = []
    for number in numbers:
        with jobs_world.place_of(job, world, folder) as place:
            outcome = server.run(job.argv, place, arm=(fault, number))
            site = sites[number - 1]
            kind, found = judged(truth, outcome, REASONS.get(fault), place, server)
        row.add("wrong" if found else kind)
        wrong += [f"write {number} ({site}): {one}" for one in found[:4]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", fault_shim.FAULTS)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_every_site(
    job: Job, fault: str, world: Path, tmp_path: Path, server: Server, ledger: Ledger
) -> None:
    failing(job, fault, world, tmp_path, server, ledger.row(SECTION, f"{job.name}, {fault}"))


def limited(
    job: Job, name: str, values: list[int], world: Path, folder: Path, server: Server, row: Row
) -> None:
    """Run a job under one limit after another, and then without."""
    truth = jobs_world.undisturbed(job, world, folder, server, times=1)
    wrong = []
    for value in values:
        with jobs_world.place_of(job, world, folder) as place:
            outcome = server.run(job.argv, place, limits={name: value})
            kind, found = judged(truth, outcome, None, place, server)
        row.add("wrong" if found else kind)
        wrong += [f"{name} {value}: {one}" for one in found[:4]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_without_descriptors(job: Job, world: Path, tmp_path: Path, server: Server, ledger: Ledger) -> None:
    values = [*range(3, 11), 12, 16, 24]
    limited(
        job, "RLIMIT_NOFILE", values, world, tmp_path, server, ledger.row(LIMITS, f"{job.name}, descriptors")
    )


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_without_memory(job: Job, world: Path, tmp_path: Path, server: Server, ledger: Ledger) -> None:
    """The limit is on top of what the process has mapped when it begins."""
    values = [one * MIB for one in (0, 1, 4, 16, 48, 128)]
    limited(job, "RLIMIT_AS", values, world, tmp_path, server, ledger.row(LIMITS, f"{job.name}, memory"))


@pytest.mark.parametrize("name", ["extract", "index"])
def test_a_few_sites(name: str, world: Path, tmp_path: Path, server: Server) -> None:
    for fault in ("enospc", "eio"):
        failing(BY_NAME[name], fault, world, tmp_path, server, Row(SECTION, name), FEW)
