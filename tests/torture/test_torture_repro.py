"""`dvc repro` from nothing, twice: the same bytes; killed (-9) at random moments and run to its end: the same again."""

import random
import subprocess
from pathlib import Path

import pytest
import yaml
from ledger import Ledger, seed
from repro_world import Repro, differing
from test_dvc_repro import DATA, PROFILE, copy_working_tree

from deponij.sample.painter import generate

pytestmark = [pytest.mark.torture, pytest.mark.timeout(2400)]
KILLS = 8
# Past this share of an undisturbed run each attempt is let go on, so that the kills come to an end.
SHARE = 0.4


def made(folder: Path) -> Repro:
    """A clone of the working tree with the small profile, not yet run."""
    repro = Repro(folder / "clone", folder / "depot")
    repro.root.mkdir(parents=True)
    copy_working_tree(repro.root)
    (repro.root / "params.yaml").write_text(yaml.safe_dump(PROFILE, sort_keys=False))
    generate(repro.root / DATA, scenes=10, seed=3)
    subprocess.run(["git", "init", "-q"], cwd=repro.root, check=True)
    return repro


def test_twice_from_nothing_and_through_kills(tmp_path: Path, ledger: Ledger) -> None:
    first, second, killed = (made(tmp_path / name) for name in ("first", "second", "killed"))
    times = []
    for repro in (first, second):
        status, wall_s, said = repro.run()
        assert status == 0, said
        times.append(wall_s)
    row = ledger.row("`dvc repro`", "twice from nothing", f"{times[0]:.0f} and {times[1]:.0f} s")
    found = differing(first, second)
    row.add("wrong" if found else "harmless")
    row = ledger.row("`dvc repro`", "killed and run again, in one clone")
    rng = random.Random(f"{seed()} repro")
    n_killed = 0
    while n_killed < KILLS:
        status, wall_s, said = killed.run(kill_after_s=rng.uniform(1.0, SHARE * times[0]))
        if status == 0:
            break
        assert status == -9, said
        n_killed += 1
        print(f"kill {n_killed}, seed {seed()}: after {wall_s:.1f} s")
    status, wall_s, said = killed.run()
    row.note = f"{n_killed} kills on the way to one end"
    through = differing(first, killed) if status == 0 else [said]
    through += [f"{one} lies around" for one in killed.loose()]
    if n_double := killed.doubles():
        through.append(f"{n_double} rows lie in two shards")
    row.add("wrong" if through else "harmless", n_killed)
    if found or through:
        pytest.fail("\n".join([*(f"from nothing: {one}" for one in found), *through]))
