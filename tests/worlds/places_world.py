"""What tests of the depot's index share: where rows lie as the sidecars say, to hold a store's answers against."""

from collections.abc import Sequence
from pathlib import Path

from deponij.store.depot import FeatureStore
from deponij.store.shard import Sidecar
from deponij.store.upkeep.whole_index import Index

Place = tuple[str, int]
# So much later all that was just written is old enough for its times to be trusted.
LATER_NS = int(1e9 * 1000)


def plain(store: FeatureStore) -> dict[str, Index]:
    """The index of each identity as it follows from the sidecars in the folder, in memory and without any cache."""
    found: dict[str, list[Sidecar]] = {}
    for path in sorted(Path(store.location).glob("*/*.json")):
        name = f"{path.parent.name}/{path.stem}"
        found.setdefault(path.parent.name, []).append(Sidecar.from_bytes(name, path.read_bytes()))
    return {fingerprint: Index.build(sidecars) for fingerprint, sidecars in found.items()}


def answers(store: FeatureStore, keys: Sequence[str]) -> dict[str, list[Place | None]]:
    """Fingerprint -> shard and row of each key, as the store says."""
    found = {}
    for fingerprint, identity in store.identities().items():
        places = store.places(identity, keys)
        found[fingerprint] = [
            (places.shards[number].name, row) if number >= 0 else None
            for number, row in zip(places.numbers.tolist(), places.rows.tolist(), strict=True)
        ]
    return found


def expected(indexes: dict[str, Index], keys: Sequence[str]) -> dict[str, list[Place | None]]:
    """The same by the plain index."""
    return {
        fingerprint: [
            (index.sidecars[index.shards[place]].name, int(index.rows[place])) if place >= 0 else None
            for place in index.find(keys).tolist()
        ]
        for fingerprint, index in indexes.items()
    }


def check(store: FeatureStore, keys: Sequence[str]) -> None:
    """See that a store says of keys what the sidecars say."""
    indexes = plain(store)
    assert answers(store, keys) == expected(indexes, keys)
    for fingerprint, identity in store.identities().items():
        known = [key.decode() for key in indexes[fingerprint].keys]
        assert store.keys(identity) == known
        assert store.n_keys(identity) == len(known)
        first = store.first_shard(identity)
        assert first is not None
        assert first.name == min(sidecar.name for sidecar in indexes[fingerprint].sidecars)
