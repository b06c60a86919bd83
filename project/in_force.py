"""Where things lie when nobody says: in the run of the profile in force, or in the run that a file is part of.

This is no stage. Services look here, so that all of them mean the same by what is not named.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from deponij.project.frame.layout import RESULTS_DEPTH, SEGMENTATION_DEPTH, Layout
from deponij.project.frame.settings import PARAMS_FILE, OfBackbones, Slug, load
from deponij.project.frame.toys import toys_of
from deponij.store.errors import StoreError, UsageError
from deponij.store.items import Items
from deponij.store.sealed import read_sealed


class InForce(OfBackbones):
    """The sections of params.yaml that say what a run consists of."""

    profile: str
    data: dict[str, Any] = Field(default_factory=dict)
    splits: dict[Slug, Any] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    text_backbones: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    label_sets: tuple[str, ...] = ()
    tables: dict[str, Any] = Field(default_factory=dict)
    extract: dict[str, Any] = Field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """Where its run lies."""
        return Layout.of(self.profile)

    def require(self, backbone: str) -> None:
        """Refuse a backbone that is none of the profile's.

        Raises:
            UsageError: naming those it has.
        """
        if backbone not in self.backbones:
            raise UsageError(
                f"the profile {self.profile} has no backbone {backbone!r}; it has {', '.join(self.backbones)}"
            )


def profile_of(run: Layout | None) -> InForce | None:
    """The profile in force, if there is one and the run is its own."""
    if run is None or not PARAMS_FILE.is_file():
        return None
    profile = load(InForce)
    return profile if run.root.resolve() == profile.layout.root.resolve() else None


def run_of(path: Path) -> Layout | None:
    """The run that an index or a view is part of; None where it stands alone."""
    # Not resolved: in a run whose files are links into a cache, the names of the run count.
    path = path.absolute()
    at = Layout(path.parent.parent)
    return at if path in (at.index(path.name), at.view(path.stem)) and at.items.is_dir() else None


def toys_beside(*paths: Path) -> frozenset[str]:
    """Backbones that are toys on their data to the runs that views, indexes and results folders are part of."""
    runs = [run_of(path) or run_of_results(path) for path in paths]
    return frozenset().union(*(toys_of(run.weights) for run in runs if run is not None))


def run_of_results(folder: Path) -> Layout | None:
    """The run that a results folder, or that of a decoder, lies so deep in; None where no folder is above it."""
    path = folder.resolve()
    # A decoder lies one folder less deep.
    above = path.parents[SEGMENTATION_DEPTH - 1 : SEGMENTATION_DEPTH]
    decoders = [at for at in above if path.is_relative_to(Layout(at).segmentation)]
    root = decoders or path.parents[RESULTS_DEPTH - 1 : RESULTS_DEPTH]
    return Layout(root[0]) if root else None


def items_of(path: Path, items: Path | None) -> Items:
    """The items that were named, else those of the run that an index or a view is part of.

    Raises:
        UsageError: none were named, and it is no part of a run.
        StoreError: they cannot be read.
    """
    run = run_of(path)
    if items is not None:
        return Items(items)
    if run is None:
        raise UsageError("pictures are with the items; name their folder with --items ITEMS")
    return Items(run.items)


def require_items(items: Items, ids: Sequence[str], keys: Sequence[str], what: str) -> None:
    """Refuse items that are not those that an index was made from.

    Args:
        ids, keys: of some of the index.
        what: these are, for the message.

    Raises:
        UsageError: one of them is not there, or has another picture.
    """
    if strangers := items.strangers(ids, keys):
        raise UsageError(
            f"{items.path} does not hold {what} ({len(strangers)} are not in it, the first: {strangers[0]!r}); name the "
            "items that the index was made from with --items ITEMS"
        )


def recorded_backbone(index: Path) -> dict[str, Any] | None:
    """What an index's run wrote down of its backbone when it looked for weights; None where there is no record.

    Raises:
        StoreError: the record is damaged.
    """
    run = run_of(index)
    return None if run is None else weights_record(run, index.name)


def weights_record(run: Layout, backbone: str) -> dict[str, Any] | None:
    """What a run wrote down of a backbone when it looked for weights, `spec` by which it was found among it.

    Raises:
        StoreError: the record is damaged.
    """
    tuned = run.tuned_record(backbone)
    if tuned.is_file():
        body: dict[str, Any] = read_sealed(tuned, "tune it again")["tuned"]
        return body | {"spec": str(run.tuned(backbone))}
    record = run.weights / f"{backbone}.json"
    if not record.is_file():
        return None
    facts = read_sealed(record, "`dvc repro weights` or `deponij run` writes it")
    if not isinstance(facts.get("spec"), str):
        raise StoreError(
            f"{record} is of another version: it names no backbone; `dvc repro weights` writes it"
        )
    return facts
