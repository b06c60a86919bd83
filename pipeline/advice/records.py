"""What to do next, as frozen records and JSON: findings in their order, each with its pictures and what acts on it.

Finding them: `findings`, `quality`. Where they lie: `deponij.project.advice`.
"""

from typing import Literal

from deponij.pipeline.data.corrections import Do
from deponij.pipeline.record_lists import Record, RecordList

Kind = Literal[
    "labels",
    "duplicates",
    "unreadable",
    "small-classes",
    "blurred",
    "dark",
    "flat",
    "tiny",
    "odd-shape",
    "confused",
    "unlabelled",
]


class Subject(Record):
    """One item of a finding, and what is proposed.

    Attributes:
        do, label: as in `deponij.pipeline.data.corrections.Correction`; nothing where only a person can tell.
        was: the label that it has, if any.
        note: why it is here, in a few words.
        beside: another item to hold it against; empty for none.
    """

    item_id: str
    do: Do = ""
    label: str = ""
    was: str = ""
    note: str = ""
    beside: str = ""


class Finding(Record):
    """One piece of advice.

    Attributes:
        kind: a short name, by which `deponij advice --take` takes it.
        title: what was found, in a line of at most 76 characters where names allow it.
        why: why it matters, in a sentence.
        n: how many there are; the list of subjects may be shorter.
        column: the label column it is about; empty for none.
        facts: lines on what has no pictures of its own, such as classes.
        acts: commands that do something about it, in their order.
        look: a command that shows more; empty for none.
        sheet: a page of its pictures, below the run's folder; empty for none.
    """

    kind: Kind
    title: str
    why: str
    n: int
    column: str = ""
    facts: tuple[str, ...] = ()
    subjects: tuple[Subject, ...] = ()
    acts: tuple[str, ...] = ()
    look: str = ""
    sheet: str = ""


class Advice(Record):
    """All of a run.

    Attributes:
        root: the run's folder.
        backbone: whose features were used; empty for none.
        labels: the column of one label an item that was looked at; empty for none.
        findings: the most urgent first; none where there is nothing to do.
        again: the commands that run again with what was taken, and compare.
        notes: what a reader must know.
    """

    root: str
    n_items: int
    backbone: str
    findings: tuple[Finding, ...]
    again: tuple[str, ...]
    notes: tuple[str, ...] = ()
    labels: str = ""


ADVICE = RecordList(Advice)

# Pictures of a finding on a page.
SHOWN = 12


def subjects_of(advice: Advice | None) -> list[str]:
    """Ids of the items that a page shows pictures of."""
    if advice is None:
        return []
    shown = [one for finding in advice.findings for one in finding.subjects[:SHOWN]]
    return [item_id for one in shown for item_id in (one.item_id, one.beside) if item_id]
