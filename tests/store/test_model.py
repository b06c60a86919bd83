"""The depot against a plain dict, whatever is done to it and in whatever order."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from depot_world import CLIP, OTHER, dump, fill, keys_of, loose_files, vectors
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deponij.store.depot import FeatureStore
from deponij.store.upkeep import inspection as upkeep

IDENTITIES = st.sampled_from([CLIP, OTHER])
NUMBERS = st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda p: range(p[0], p[0] + p[1]))


class DepotMachine(RuleBasedStateMachine):
    """Rows come, are read, doubled, packed, brought over and collected; the dict says what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="deponij-test-"))
        self.store = FeatureStore(self.path / "depot", create=True)
        self.model: dict[tuple[str, str], bytes] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.path)

    def _expect(self, identity, numbers) -> None:
        keys = keys_of(numbers)
        rows = vectors(keys, identity.precision)
        self.model |= {(identity.fingerprint, k): r.tobytes() for k, r in zip(keys, rows, strict=True)}

    @rule(identity=IDENTITIES, numbers=NUMBERS, shard_rows=st.integers(1, 9))
    def add(self, identity, numbers, shard_rows) -> None:
        n_new = len({(identity.fingerprint, key) for key in keys_of(numbers)} - set(self.model))
        assert fill(self.store, numbers, identity=identity, batch=3, shard_rows=shard_rows) == n_new
        self._expect(identity, numbers)

    @rule(identity=IDENTITIES, numbers=NUMBERS)
    def add_again(self, identity, numbers) -> None:
        keys = keys_of(numbers)
        with self.store.writer(identity, {}) as writer:
            writer.add(keys, {"embedding": vectors(keys, identity.precision)})
        self._expect(identity, numbers)

    @rule(identity=IDENTITIES, order=st.randoms(use_true_random=False))
    def read(self, identity, order) -> None:
        known = [key for fingerprint, key in self.model if fingerprint == identity.fingerprint]
        if known:
            keys = order.choices(known, k=20)
            rows = self.store.read(keys, identity)["embedding"]
            np.testing.assert_array_equal(rows, vectors(keys, identity.precision))

    @rule(target_bytes=st.sampled_from([1, 8_000, 1 << 26]))
    def compact(self, target_bytes) -> None:
        upkeep.compact(self.store, target_bytes=target_bytes)
        assert all(line.n_double == 0 for line in upkeep.info(self.store).identities)

    @rule(identity=IDENTITIES, numbers=NUMBERS)
    def merge(self, identity, numbers) -> None:
        other = FeatureStore(self.path / "other", create=True)
        fill(other, numbers, identity=identity, shard_rows=5)
        n_new = len({(identity.fingerprint, key) for key in keys_of(numbers)} - set(self.model))
        assert sum(upkeep.merge(self.store, other).n_rows.values()) == n_new
        shutil.rmtree(self.path / "other")
        self._expect(identity, numbers)

    @rule(numbers=NUMBERS)
    def collect(self, numbers) -> None:
        keep = set(keys_of(numbers))
        upkeep.gc(self.store, keep, dry_run=False)
        self.model = {place: row for place, row in self.model.items() if place[1] in keep}

    @rule()
    def reopen(self) -> None:
        self.store = FeatureStore(self.path / "depot")

    @invariant()
    def everything_is_there_once(self) -> None:
        found = {(f, key): row for f, rows in dump(self.store).items() for key, row in rows.items()}
        assert found == self.model
        assert loose_files(self.path / "depot") == []


DepotMachine.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=12,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
test_the_depot_is_a_dict = DepotMachine.TestCase
