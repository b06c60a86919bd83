"""What is known of a tuned backbone: a sealed JSON document in its folder, and a copy beside its features."""

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.retrieval import Task
from deponij.project.frame.settings import Section, check
from deponij.store.errors import StoreError, UsageError
from deponij.store.sealed import read_sealed
from deponij.store.texts import in_percent

# How its own classifier stands among the methods of a run.
METHOD = "network"
# What is not known before the files are written.
OF_FILES = {"size_bytes", "adapter_bytes"}
_REMEDY = "tune it again"


class Recall(Section):
    """How often what belongs together is among the first k, before and after tuning, with intervals at 95 %.

    Attributes:
        gain_interval: of after minus before, paired. Intervals are None for fewer than ten groups of pictures.
        chance: what a random order reaches on average.
    """

    before: float
    after: float
    before_interval: Interval | None
    after_interval: Interval | None
    gain_interval: Interval | None
    chance: float

    def __str__(self) -> str:
        low_high = self.gain_interval
        bounds = "" if low_high is None else f" [{100 * low_high[0]:+.1f}, {100 * low_high[1]:+.1f}]"
        gain = f"{100 * (self.after - self.before):+.1f}{bounds}"
        return f"{in_percent(self.before)} -> {in_percent(self.after)} ({gain}; chance {in_percent(self.chance)})"


class TunedRecord(Section):
    """What came of tuning a backbone.

    Attributes:
        name: of the tuned backbone.
        base, base_name: what it was tuned from, as it is loaded and as the run calls it.
        base_weights, teacher_weights: hashes of their weights.
        licence: of the base's, where it is known.
        recipe: as it was given.
        training: with what was not given too.
        said: in a few words, as `lora, rank 8, attention`.
        learns: whether classes or captions.
        labels, split: the column, and by which parts.
        items, items_sha256: name of the folder of items, and what stands for all that it holds.
        classes: of the column; none of captions.
        n_captions: different ones that it learned from; none of classes.
        n_without: items of the split's parts that have no label, or a blank caption.
        n_train, n_val: pictures that it learned from, and was chosen on.
        n_weights, n_learned: of the tower, with the text tower where it learned, and of these those that learned; the
            classifier's, and temperature and bias, are in neither.
        history: of each epoch its loss, learning rate and the figures of validation.
        kept: whose weights were kept.
        n_judged: pictures of each part that was judged.
        top1, top1_interval: of each of these, by the network's own classifier, with 95 %, or None for too few groups; none
            of captions.
        recalls: of captions, part -> way (`image-to-text`, `text-to-image`) -> `recall@k` -> figures.
        size_bytes, adapter_bytes: of its files, and of these the adapter's, known once they are written; None without one.
        toy: whether it knows drawn pictures only, where these are others.
        seconds, peak_bytes: that tuning took, see `Took`; None where the record holds nothing of a machine.
    """

    name: str
    base: str
    base_name: str
    base_weights: str
    teacher_weights: str | None = None
    licence: str | None = None
    recipe: dict[str, JsonValue]
    training: dict[str, JsonValue] = Field(default_factory=dict)
    said: str
    learns: Literal["classes", "captions"] = "classes"
    labels: str
    split: str
    items: str = ""
    items_sha256: str = ""
    classes: tuple[str, ...] = ()
    n_captions: int = 0
    n_without: int = 0
    n_train: int
    n_val: int
    n_weights: int
    n_learned: int
    history: tuple[dict[str, float], ...]
    kept: int
    n_judged: dict[str, int] = Field(default_factory=dict)
    top1: dict[str, float] = Field(default_factory=dict)
    top1_interval: dict[str, Interval | None] = Field(default_factory=dict)
    recalls: dict[str, dict[Task, dict[str, Recall]]] = Field(default_factory=dict)
    size_bytes: int = 0
    adapter_bytes: int | None = None
    toy: bool = False
    seconds: float | None = None
    peak_bytes: int | None = None

    def reached(self, part: str) -> str:
        """Figures of a part that was judged, in words."""
        if self.learns == "classes":
            return f"{part} top-1 {in_percent(self.top1[part])} by its own classifier"
        both = ", ".join(
            f"{way.replace('-', ' ')} {figures['recall@1']}" for way, figures in self.recalls[part].items()
        )
        return f"{part} recall@1 {both}"

    @property
    def judged(self) -> tuple[str, ...]:
        """Parts that were judged, the fairest last."""
        return tuple(part for part in PARTS if part in self.top1 or part in self.recalls)


def read_record(path: Path) -> TunedRecord:
    """Of a file.

    Raises:
        StoreError: there is none, or it is damaged or of another version.
    """
    body = read_sealed(path, _REMEDY)
    sizes = {name: one["size_bytes"] for name, one in (body.get("files") or {}).items()}
    of_adapter = [n_bytes for name, n_bytes in sizes.items() if name.startswith("adapter/")]
    known = {"size_bytes": sum(sizes.values())} if sizes else {}
    known |= {"adapter_bytes": sum(of_adapter)} if of_adapter else {}
    try:
        return check(TunedRecord, (body.get("tuned") or {}) | known, str(path))
    except UsageError as error:
        raise StoreError(f"{path} is of another version; {_REMEDY}: {error}") from error
