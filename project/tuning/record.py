"""What is known of a tuned backbone: a sealed JSON document in its folder, and a copy beside its features."""

from pathlib import Path

from pydantic import JsonValue

from deponij.project.frame.settings import Section, check
from deponij.store.errors import StoreError, UsageError
from deponij.store.sealed import read_sealed

# How its own classifier stands among the methods of a run.
METHOD = "network"
_REMEDY = "tune it again"


class TunedRecord(Section):
    """What came of tuning a backbone.

    Attributes:
        name: of the tuned backbone. base, base_name: what it was tuned from, as it is loaded and as the run calls it.
        base_weights, teacher_weights: hashes of their weights. licence: of the base's, where it is known.
        recipe: as it was given. said: in a few words, as `lora, rank 8, attention`.
        labels, split, classes: what it learned.
        n_train, n_val: pictures that it learned from, and was chosen on.
        n_weights, n_learned: of the tower, and of these those that learned; the classifier's are in neither.
        history: of each epoch its loss, learning rate and the figures of validation. kept: whose weights were kept.
        top1: of each part that was judged, by the network's own classifier.
        size_bytes: of the weights. toy: whether it knows drawn pictures only, where these are others.
        seconds, peak_bytes: that tuning took, and memory of a GPU; None where the record holds nothing of a machine.
    """

    name: str
    base: str
    base_name: str
    base_weights: str
    teacher_weights: str | None = None
    licence: str | None = None
    recipe: dict[str, JsonValue]
    said: str
    labels: str
    split: str
    classes: tuple[str, ...]
    n_train: int
    n_val: int
    n_weights: int
    n_learned: int
    history: tuple[dict[str, float], ...]
    kept: int
    top1: dict[str, float]
    size_bytes: int
    toy: bool = False
    seconds: float | None = None
    peak_bytes: int | None = None


def read_record(path: Path) -> TunedRecord:
    """Of a file.

    Raises:
        StoreError: there is none, or it is damaged or of another version.
    """
    try:
        return check(TunedRecord, read_sealed(path, _REMEDY).get("tuned") or {}, str(path))
    except UsageError as error:
        raise StoreError(f"{path} is of another version; {_REMEDY}: {error}") from error
