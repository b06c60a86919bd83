"""Writes that fail on purpose at every site of every kind of work, and processes without descriptors or memory: one clear
message, a store that is intact, and a second run that comes to the same as an undisturbed one."""

import random
import re
from collections import defaultdict
from pathlib import Path

import fault_shim
import jobs_world
import pytest
from fork_server import Outcome, Server
from jobs_world import BY_NAME, JOBS, Bench, Job, Truth
from ledger import Clock, Ledger, Row, attempts, seed

from deponij.store.atomic import PART
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
# Of one kind of work and one fault.
PER_JOB = 20
FEW = 3
# How many may be open, and how many bytes may be mapped beyond what is when it begins.
DESCRIPTORS = [*range(3, 11), 12, 16, 24]
MEMORY = [one << 20 for one in (0, 1, 4, 16, 48, 128)]

pytestmark = pytest.mark.skipif(fault_shim.compiler() is None, reason="there is no C compiler")


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
        found = jobs_world.faults_at_end(truth, outcome, place)
        if found and all(PART in one and one.endswith("is there") for one in found):
            # What it had no means to clear away, the next run does.
            found = jobs_world.faults_at_end(truth, server.run(job.argv, place), place)
        return "harmless", midway + found
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
    job: Job,
    fault: str,
    bench: Bench,
    folder: Path,
    row: Row,
    clock: Clock | None = None,
    n: int | None = None,
) -> None:
    """Let chosen writes fail, one a run (`n`: so many of them), or until the time is up."""
    truth = jobs_world.undisturbed(job, bench.world, folder, bench.server, times=1)
    rng = random.Random(f"{seed()} {job.name} {fault}")
    sites = sites_of(truth, fault, bench.world, folder, bench.server)
    numbers = chosen(sites, rng)
    assert numbers, "the shim saw no write"
    numbers = numbers if n is None else sorted(rng.sample(numbers, min(n, len(numbers))))
    print(f"{job.name}, {fault}: seed {seed()}, {len(sites)} writes, {len(numbers)} of them fail in turn")
    row.note = f"{len(sites)} writes in {len({site.split()[0] for site in sites})} ways"
    wrong = []
    for number in numbers:
        if clock is not None and clock.is_up:
            row.note = f"{row.note}; the time was up".lstrip("; ")
            break
        with jobs_world.place_of(job, bench.world, folder) as place:
            outcome = bench.server.run(job.argv, place, arm=(fault, number))
            kind, found = judged(truth, outcome, REASONS.get(fault), place, bench.server)
        row.add("wrong" if found else kind)
        wrong += [f"write {number} ({sites[number - 1]}): {one}" for one in found[:4]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", fault_shim.FAULTS)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_every_site(job: Job, fault: str, bench: Bench, tmp_path: Path, ledger: Ledger) -> None:
    row = ledger.row(SECTION, f"{job.name}, {fault}")
    failing(job, fault, bench, tmp_path, row, ledger.clock, attempts(PER_JOB))


def limited(
    job: Job, name: str, values: list[int], bench: Bench, folder: Path, row: Row, clock: Clock | None = None
) -> None:
    """Run a job under one limit after another, and then without."""
    truth = jobs_world.undisturbed(job, bench.world, folder, bench.server, times=1)
    wrong = []
    for value in values:
        if clock is not None and clock.is_up:
            row.note = f"{row.note}; the time was up".lstrip("; ")
            break
        with jobs_world.place_of(job, bench.world, folder) as place:
            outcome = bench.server.run(job.argv, place, limits={name: value})
            kind, found = judged(truth, outcome, None, place, bench.server)
        row.add("wrong" if found else kind)
        wrong += [f"{name} {value}: {one}" for one in found[:4]]
    if wrong:
        pytest.fail("\n".join(wrong))


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_without_descriptors(job: Job, bench: Bench, tmp_path: Path, ledger: Ledger) -> None:
    row = ledger.row(LIMITS, f"{job.name}, descriptors")
    limited(job, "RLIMIT_NOFILE", DESCRIPTORS, bench, tmp_path, row, ledger.clock)


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_without_memory(job: Job, bench: Bench, tmp_path: Path, ledger: Ledger) -> None:
    row = ledger.row(LIMITS, f"{job.name}, memory")
    limited(job, "RLIMIT_AS", MEMORY, bench, tmp_path, row, ledger.clock)


@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_a_few_sites(fault: str, light_bench: Bench, tmp_path: Path) -> None:
    failing(BY_NAME["extract"], fault, light_bench, tmp_path, Row(SECTION, fault), n=FEW)


def test_without_the_least(light_bench: Bench, tmp_path: Path) -> None:
    limited(
        BY_NAME["compact"], "RLIMIT_NOFILE", DESCRIPTORS[2:5], light_bench, tmp_path, Row(LIMITS, "compact")
    )
