"""Which backbones of a run are toys on its data: they learnt from drawn pictures, and these are others. This is no stage.

The catalog says which backbones learnt from drawn pictures only; the stage `weights` knows what the data are and
writes it into its records; everybody else asks here.
"""

from pathlib import Path

from deponij.project.frame.layout import Layout
from deponij.store.errors import StoreError
from deponij.store.sealed import read_sealed

KEY = "toy"


def toys_of(weights: Path) -> frozenset[str]:
    """Names of the toys, by the records in a run's folder `weights`, and those of tuned ones beside it; none where there
    is no such folder.

    Raises:
        StoreError: a record is damaged.
    """
    tuned = Layout(weights.parent).tuned_record("*")
    records = [*sorted(weights.glob("*.json")), *sorted(tuned.parent.glob(tuned.name))]
    return frozenset(path.stem for path in records if _is_toy(path))


def _is_toy(record: Path) -> bool:
    remedy = "`dvc repro weights` or `deponij run` writes it"
    body = read_sealed(record, remedy)
    is_toy = body.get("tuned", body).get(KEY)
    if not isinstance(is_toy, bool):
        raise StoreError(f"{record} is of another version: {KEY!r} is {is_toy!r}; {remedy}")
    return is_toy
