"""All benchmarks of `make bench`, one after the other, and their figures in one file; `redraw.py` makes pages of it.

    python benchmarks/all.py [--whole] [--only store,startup] [--out benchmarks/figures.json] [--anew]

Each is a process of its own with a limit of time. `--whole` measures at full size (hours; wants an idle machine),
otherwise each is small. What is measured takes the place of the same benchmark's earlier figures in the file; the others
stay, with their own date, form and load. A file of another machine is refused, unless `--anew` replaces it.

Exit status 1 where a benchmark failed or took too long. Limits that are missed are figures, and no failure.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures.json"
# Of one benchmark in its quick form, and at full size.
QUICK_S, WHOLE_S = 290, 3 * 3600
# More waiting processes than this for each core, before a benchmark begins: times say little.
BUSY = 0.25


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder, what it is about, and its arguments in both forms."""

    name: str
    about: str
    quick: str = ""
    whole: str = ""

    def command(self, is_whole: bool, figures: Path) -> list[str]:
        arguments = (self.whole if is_whole else self.quick).split()
        return [sys.executable, str(HERE / f"{self.name}.py"), *arguments, "--json", str(figures)]


BENCHMARKS = (
    Benchmark("startup", "From a new process to the first answer", "--times 2", "--times 9"),
    Benchmark(
        "extract",
        "Extraction over the model's bare forward rate",
        "--models efficientnet-lite0,mini-openclip --pictures 24 --seconds 3",
    ),
    Benchmark(
        "plain",
        "Items and extraction over a plain script of the same",
        "--only small,photographs --pictures 240 --threads 1 --workers 1",
    ),
    Benchmark(
        "engines",
        "Other engines for the forward pass on a CPU",
        "--only lite0 --rounds 3 --batches 2 --threads 1",
        "--rounds 5",
    ),
    Benchmark(
        "pages",
        "Order in memory and kept pages, for the forward pass on a CPU",
        "--only lite0 --rounds 1 --seconds 3",
    ),
    Benchmark("store", "The store over plain files of the same rows", "--rows 30720 --rounds 2", "--large"),
    Benchmark(
        "depot_index", "Where rows lie, against the number of rows", "--rows 100000 1000000 --no-growth"
    ),
    Benchmark("heads", "Heads trained together against one after another", "--quick"),
    Benchmark("tables", "All tables in one go, at the size of TACO", "--seeds 1"),
    Benchmark("retrieval", "Search over raw FAISS", "--quick"),
    Benchmark("serve", "The server's latencies", "--seconds 8 --clients 8 --alone 30"),
    Benchmark(
        "reading", "Stored maps read back over a raw read of the same files", "--pictures 48 --rounds 3"
    ),
    Benchmark(
        "segmentation",
        "A decoder's epoch from stored maps over one on the fly",
        "--drawn --only linear,fpn --pictures 8 --rounds 1",
        "--threads 2",
    ),
    Benchmark(
        "tuning", "A tuning step over the bare step", "--only loop --steps 2 --rounds 1", "--threads 2"
    ),
    Benchmark(
        "growth", "Memory and time against size", "--sizes 10000,30000,100000 --budget 6", "--budget 3600"
    ),
    Benchmark(
        "past_memory",
        "Heads and tables of more rows than memory holds",
        "--rows 30000 --memory 0.25 --only linear,logistic,knn",
        "--rows 100000,1000000",
    ),
    Benchmark("items_growth", "Items in their growth", "--sizes 10000,100000 --pictures 200"),
)


def machine() -> dict[str, Any]:
    """What figures depend on, and does not change from hour to hour."""
    import psutil

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }


def processor() -> str:
    """Its name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def run(benchmark: Benchmark, is_whole: bool) -> dict[str, Any]:
    """One benchmark's entry in the file; `problem` where it has no figures, or not all of them."""
    entry: dict[str, Any] = {
        "about": benchmark.about,
        "form": "whole" if is_whole else "quick",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load_before": round(os.getloadavg()[0], 2),
        "arguments": benchmark.whole if is_whole else benchmark.quick,
    }
    entry["was_busy"] = entry["load_before"] > BUSY * (os.cpu_count() or 1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deponij-bench-") as folder:
        figures = Path(folder) / "figures.json"
        ended = stopped(benchmark.command(is_whole, figures), WHOLE_S if is_whole else QUICK_S)
        entry["seconds"] = round(time.monotonic() - begun, 1)
        if figures.is_file():
            told = json.loads(figures.read_text())
            entry["lines"] = told.pop("lines")
            # Its own load is measured again when it is under way.
            entry["facts"] = {
                name: value for name, value in told.items() if name not in ("load_before", "cores")
            }
        if ended and (ended.startswith("stopped") or "lines" not in entry):
            entry["problem"] = ended
    return entry


def stopped(command: list[str], limit_s: float) -> str:
    """Run to the end or to the limit, with everything that it started; what went wrong, in words."""
    process = subprocess.Popen(
        command, cwd=HERE.parent, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"stopped after {limit_s:.0f} s"
    told = errors.strip().splitlines()
    return (
        f"exit status {process.returncode}: {told[-1] if told else 'nothing was said'}"
        if process.returncode
        else ""
    )


def kept(path: Path, here: dict[str, Any], is_anew: bool) -> dict[str, Any]:
    """Earlier entries of this machine."""
    if is_anew or not path.is_file():
        return {}
    found = json.loads(path.read_text())
    if found["machine"] != here:
        raise SystemExit(
            f"{path} has figures of another machine or release:\n  {found['machine']}\n  here: {here}\n"
            "Give --anew to replace them all, or --out for another file."
        )
    entries: dict[str, Any] = found["benchmarks"]
    return entries


def main() -> int:
    names = [one.name for one in BENCHMARKS]
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--whole", action="store_true", help="at full size")
    flags.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}")
    flags.add_argument("--out", type=Path, default=FIGURES)
    flags.add_argument("--anew", action="store_true", help="forget what is in the file")
    args = flags.parse_args()
    wanted = args.only.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        flags.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names)}")
    here = machine()
    entries = kept(args.out, here, args.anew)
    failed = []
    for benchmark in (one for one in BENCHMARKS if one.name in wanted):
        print(f"\n{benchmark.name}: {benchmark.about}", flush=True)
        entries[benchmark.name] = entry = run(benchmark, args.whole)
        if "problem" in entry:
            failed.append(benchmark.name)
            print(f"  {entry['problem']}", flush=True)
        # After each, so that one that is stopped by hand leaves what was measured.
        ordered = {name: entries[name] for name in names if name in entries}
        args.out.write_text(json.dumps({"machine": here, "benchmarks": ordered}, indent=1) + "\n")
    if failed:
        print(f"\nwithout all figures: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
