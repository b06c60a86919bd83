"""What an audit of labels found, as frozen records and JSON. Finding it: `suspects`, `twins`."""

from deponij.pipeline.likeness.pairs import How
from deponij.pipeline.record_lists import Record, RecordList


class Suspect(Record):
    """An item whose label is probably wrong.

    Attributes:
        label, suggested: the class it is given, and the likeliest one by out-of-fold prediction.
        quality: of the label, 0 (worst) to 1; the list is in this order. As scored, the label's probability.
        prob_label, prob_suggested: the two classes' probabilities.
    """

    item_id: str
    label: str
    suggested: str
    quality: float
    prob_label: float
    prob_suggested: float


class Twin(Record):
    """Two items that look alike and have different labels.

    Attributes:
        similarity: 1 is the same: 1 for equal pictures, the share of equal bits for `phash`, the cosine of
            the features for `embedding`.
        how: `picture` (equal bytes), `phash` (perceptual hash) or `embedding`; the strongest that holds.
        same_photo: whether both are of one photograph; two objects that overlap may both be labelled well.
    """

    a: str
    b: str
    label_a: str
    label_b: str
    similarity: float
    how: How
    same_photo: bool


class ConfusedPair(Record):
    """A class that is often taken for another one.

    Attributes:
        n, n_truth: items of `truth` that were answered with `answer`, and all that were judged.
        item_ids: some of the n, the surest wrong answers first.
    """

    truth: str
    answer: str
    n: int
    n_truth: int
    item_ids: tuple[str, ...]


class MistakesReport(Record):
    """An audit of one label column with one backbone's features. It is no evaluation: test items are in it.

    Attributes:
        n: items with a label and features.
        n_judged: those of them whose class occurs in other photographs too.
        accuracy: share of the judged that out-of-fold prediction answers as labelled.
        n_suspects, n_twins: found; the lists hold the first of them.
        protocol: how, in words.
        notes: what a reader must know.
    """

    backbone: str
    fingerprint: str
    labels: str
    n: int
    n_judged: int
    accuracy: float
    n_suspects: int
    n_twins: int
    suspects: tuple[Suspect, ...]
    twins: tuple[Twin, ...]
    confused: tuple[ConfusedPair, ...]
    protocol: str
    notes: tuple[str, ...]


MISTAKES = RecordList(MistakesReport)
