"""The server of `deponij serve` under one client and under many, and the limits that must hold.

    python benchmarks/serve.py [--seconds 30] [--clients 20] [--index INDEX --items ITEMS] [--json FILE]

Starts a server on a free port of loopback, over an index of pictures that are drawn here, or over one that is named,
and asks it: with words (each new), with stored words, with items, with pictures; first alone, then `--clients` at a
time for `--seconds`, all four mixed. Memory is what the server's process holds resident. Exit status 1 where a limit is
missed: p50 of a text query alone below 50 ms, no error, memory grown by less than a tenth from a third of the time on.
"""

import argparse
import base64
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from figures import ROOT, Line, below, drawn, encoded, indexed, parser, report

KINDS = ("text", "stored text", "item", "picture")
N_PICTURES = 400
P50_MS = 50.0
GROWTH = 0.1


@dataclass(frozen=True)
class Target:
    """A server, and what it can be asked."""

    port: int
    pid: int
    ids: list[str]
    words: list[str]

    @property
    def resident_bytes(self) -> int:
        """Of the server's process."""
        return int(psutil.Process(self.pid).memory_info().rss)


class Client:
    """One connection that is kept."""

    def __init__(self, target: Target) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An answer; raises where it is no success."""
        content = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        found = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {found[:200]!r}")
        return json.loads(found)


@contextmanager
def served(flags: list[str], folder: Path) -> Iterator[Target]:
    """A server whose models are loaded."""
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--port", "0", "--json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            if not (line := process.stdout.readline()):
                raise SystemExit("the server did not start")
            text += line
        port = json.loads(text)["port"]
        client = Client(Target(port, process.pid, [], []))
        while (health := client.ask("GET", "/api/health"))["status"] == "loading":
            time.sleep(0.2)
        if health["indexes"][0]["status"] != "ready":
            raise SystemExit(health["indexes"][0]["message"])
        about = client.ask("GET", "/api/about")
        hits = client.ask("POST", "/api/search", {"top": 400})["hits"]
        yield Target(port, process.pid, [hit["item_id"] for hit in hits], about["examples"])
    finally:
        process.terminate()
        process.wait(30)


def terms(target: Target) -> dict[str, Callable[[int], dict[str, Any]]]:
    """The n-th question of each kind."""
    pictures = [base64.b64encode(encoded(drawn(10_000 + i), "PNG")).decode() for i in range(100)]
    return {
        "text": lambda n: {"kind": "text", "value": f"a crushed thing number {n}"},
        "stored text": lambda n: {"kind": "text", "value": target.words[n % len(target.words)]},
        "item": lambda n: {"kind": "item", "value": target.ids[n % len(target.ids)]},
        "picture": lambda n: {"kind": "picture", "value": pictures[n % len(pictures)]},
    }


def alone(target: Target, n: int) -> Iterator[Line]:
    """One client, one question after the other."""
    client = Client(target)
    for kind, term in terms(target).items():
        times_ms = []
        for i in range(n + 10):
            begin = time.perf_counter()
            answer = client.ask("POST", "/api/search", {"terms": [term(i)]})
            times_ms.append(1000 * (time.perf_counter() - begin))
            assert answer["hits"]
            assert kind not in ("text", "stored text") or answer["query"]["stored_text"] == (kind != "text")
        p50, p99 = np.percentile(times_ms[10:], [50, 99])
        name = f"{kind}, alone: p50"
        yield below(name, float(p50), "ms", P50_MS) if kind == "text" else Line(name, float(p50), "ms")
        yield Line(f"{kind}, alone: p99", float(p99), "ms")


def together(target: Target, n_clients: int, seconds: float) -> Iterator[Line]:
    """Many clients, each with one question at a time, of all kinds in turn."""
    asked, numbers = terms(target), itertools.count(1_000_000)
    times_ms: dict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    resident: list[tuple[float, int]] = []
    begin = time.perf_counter()

    def work(name: int) -> None:
        client = Client(target)
        for turn in itertools.count(name):
            if time.perf_counter() - begin > seconds:
                return
            kind, started = KINDS[turn % len(KINDS)], time.perf_counter()
            try:
                client.ask("POST", "/api/search", {"terms": [asked[kind](next(numbers))]})
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                errors.append(str(error))
                client = Client(target)
            times_ms[kind].append(1000 * (time.perf_counter() - started))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(n_clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        resident.append((time.perf_counter() - begin, target.resident_bytes))
        time.sleep(min(0.5, seconds / 20))
    n = sum(map(len, times_ms.values()))
    yield Line(f"{n_clients} clients: requests a second", n / seconds, "/s")
    for kind in KINDS:
        p50, p99 = np.percentile(times_ms[kind], [50, 99])
        yield Line(f"{kind}, {n_clients} clients: p50", float(p50), "ms")
        yield Line(f"{kind}, {n_clients} clients: p99", float(p99), "ms")
    yield Line("errors", len(errors), limit="= 0", holds=not errors)
    for error in errors[:3]:
        print(f"  {error}", file=sys.stderr)
    yield from memory(resident, seconds)


def memory(resident: list[tuple[float, int]], seconds: float) -> Iterator[Line]:
    """Growth after warming up: of the median of the last third over that of the second."""
    thirds = [
        [size for at, size in resident if low * seconds / 3 <= at < (low + 1) * seconds / 3]
        for low in range(3)
    ]
    medians = [float(np.median(third)) for third in thirds]
    for name, median in zip(("first", "second", "last"), medians, strict=True):
        yield Line(f"resident, {name} third", median / 2**20, "MiB")
    yield below("growth after warming up", 100 * (medians[2] / medians[1] - 1), "%", 100 * GROWTH)


def batches(target: Target) -> Iterator[Line]:
    """How many texts and pictures shared a forward pass."""
    client = http.client.HTTPConnection("127.0.0.1", target.port)
    client.request("GET", "/metrics")
    sums: dict[str, float] = defaultdict(float)
    for line in client.getresponse().read().decode().splitlines():
        for part in ("sum", "count"):
            if line.startswith(f"deponij_encoder_batch_size_{part}"):
                sums[part] += float(line.split()[-1])
    yield Line("texts and pictures a forward pass", sums["sum"] / max(1.0, sums["count"]))


def measured(flags: list[str], folder: Path, chosen: argparse.Namespace) -> Iterator[Line]:
    """All figures of one server."""
    with served(flags, folder) as target:
        yield Line("resident when the models are loaded", target.resident_bytes / 2**20, "MiB")
        yield from alone(target, chosen.alone)
        yield from together(target, chosen.clients, chosen.seconds)
        yield from batches(target)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--seconds", type=float, default=30)
    flags.add_argument("--clients", type=int, default=20)
    flags.add_argument("--alone", type=int, default=200, help="questions of each kind by one client")
    flags.add_argument("--index", help="instead of one of drawn pictures; its backbone needs a text tower")
    flags.add_argument("--items", help="of that index, where it is no part of a run")
    chosen = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="deponij-bench-") as name:
        folder = Path(name)
        index = Path(chosen.index).absolute() if chosen.index else indexed(folder, N_PICTURES)
        named = ["--index", str(index)]
        named += ["--items", str(Path(chosen.items).absolute())] if chosen.items else []
        lines = measured(named, folder, chosen)
        return report(lines, chosen.json, clients=chosen.clients, seconds=chosen.seconds)


if __name__ == "__main__":
    raise SystemExit(main())
