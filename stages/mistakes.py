"""Stage `mistakes`: labels worth a second look, found with the features of each backbone, as JSON and sheets.

    python -m deponij.stages.mistakes

An audit of all labelled items, those of the test part among them: no figure of it says how good a model is.
"""

import shutil
from pathlib import Path

import numpy as np
from pydantic import Field

from deponij.pipeline.likeness.near_groups import near_groups
from deponij.pipeline.likeness.pairs import CONFIRM_COSINE, MIN_COSINE, Thresholds
from deponij.pipeline.mistakes.records import MISTAKES, MistakesReport
from deponij.pipeline.mistakes.suspects import OutOfFold, find_confused, find_suspects, out_of_fold
from deponij.pipeline.mistakes.twins import find_twins
from deponij.pipeline.reports.sheets import confused_sheet, suspects_sheet, twins_sheet
from deponij.project.frame.console import bar, say
from deponij.project.frame.harness import for_each, run_stage
from deponij.project.frame.lacking import NeededLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section
from deponij.project.learning.item_columns import photographs
from deponij.project.learning.results import read_labelled, tuned_on
from deponij.project.thumbnails import images_of
from deponij.store.atomic import write_bytes
from deponij.store.items import Items
from deponij.store.texts import in_percent
from deponij.store.view import View

REPORT_NAME = "mistakes.json"
# With 5 % planted errors in clusters that overlap, half of the suspects were labelled well where prediction agreed
# with 80 % of the labels, and more of them where it agreed with fewer.
TRUSTED = 0.8


class MistakesParams(Section):
    """What counts as worth a look, and how much of it is listed.

    Attributes:
        folds: of out-of-fold prediction, at most.
        seed: of their choice.
        max_bits, min_cosine, confirm_cosine: from when items count as near-duplicates; see
            `deponij.pipeline.likeness.pairs.Thresholds`.
        n_listed: longest list of suspects and of twins; all are counted.
        n_confused: pairs of classes.
        n_shown: pictures on the sheets of suspects and of twins.
    """

    folds: int = Field(default=5, ge=2, le=20)
    seed: int = Field(default=0, ge=0)
    max_bits: int | None = Field(default=None, ge=0, le=32)
    min_cosine: float = Field(default=MIN_COSINE, gt=0, le=1)
    confirm_cosine: float = Field(default=CONFIRM_COSINE, ge=-1, le=1)
    n_listed: int = Field(default=500, ge=0)
    n_confused: int = Field(default=8, ge=0, le=50)
    n_shown: int = Field(default=36, ge=0, le=300)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of the backbones only their names."""

    labels: NeededLabels
    mistakes: MistakesParams = MistakesParams()


def run(
    params: MistakesParams, *, features: Path, items: Path, labels: str, out: Path | None = None
) -> MistakesReport:
    """Look through all items that have a label and features.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        labels: the label column of the items.
        out: folder for `mistakes.json` and the sheets; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    table = Items(items)
    report = audit(params, View(features), table, labels)
    if out is not None:
        write_bytes(out / REPORT_NAME, MISTAKES.dump([report]))
        draw_sheets(report, table, out, params.n_shown)
    return report


def audit(params: MistakesParams, view: View, table: Items, labels: str) -> MistakesReport:
    """Find everything; draw nothing."""
    ids, names, vectors = read_labelled(view, table, labels)
    keys, phashes, groups = _columns(table, ids)
    # A copy with another label must not teach what judges its twin: both would look wrong, each for the other.
    knots = near_groups(phashes, keys=keys, groups=groups.tolist()).astype(str)
    with bar(f"mistakes {view.backbone} {labels}", params.folds + 1, "folds") as advance:
        held_out = out_of_fold(vectors, names, knots, folds=params.folds, seed=params.seed, advance=advance)
    suspects = find_suspects(ids.tolist(), names, held_out)
    twins = find_twins(
        vectors,
        ids.tolist(),
        names,
        keys=keys,
        phashes=phashes,
        groups=groups,
        how=Thresholds(params.max_bits, params.min_cosine, params.confirm_cosine),
    )
    confused = find_confused(ids.tolist(), names, held_out, n_pairs=params.n_confused, n_items=6)
    judged = held_out.is_judged
    accuracy = float((held_out.answers == names)[judged].mean()) if judged.any() else 0.0
    return MistakesReport(
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        labels=labels,
        n=len(ids),
        n_judged=int(judged.sum()),
        accuracy=accuracy,
        n_suspects=len(suspects),
        n_twins=len(twins),
        suspects=tuple(suspects[: params.n_listed]),
        twins=tuple(twins[: params.n_listed]),
        confused=tuple(confused),
        protocol=(
            f"out-of-fold logistic regression, {held_out.n_folds} folds of whole photographs, all parts of the data; "
            "suspects by confident learning"
        ),
        notes=(*_taught(view), *_notes(names, held_out, accuracy)),
    )


def _columns(table: Items, ids: np.ndarray) -> tuple[list[str], list[str | None], np.ndarray]:
    """Keys, perceptual hashes and photographs of these items."""
    order = [table.places[item_id] for item_id in ids.tolist()]
    keys, phashes = table.keys, table.column("phash")
    return [str(keys[row]) for row in order], [phashes[row] for row in order], photographs(table, ids)


def _taught(view: View) -> list[str]:
    seen = tuned_on([view])
    told = f"{len(seen):,} of these items taught {view.backbone} their labels, which look right to it: ask its base instead."
    return [told] if seen else []


def _notes(names: np.ndarray, held_out: OutOfFold, accuracy: float) -> tuple[str, ...]:
    notes = ["Items of the test part are among these: an audit of labels, not an evaluation."]
    if accuracy < TRUSTED:
        notes.append(
            f"Prediction agrees with {in_percent(accuracy)} of the labels only: many of these suspects are the model's own "
            "mistakes. Look at the first ones, or use a better backbone."
        )
    left_out = sorted(set(names[~held_out.is_judged].tolist()))
    if left_out:
        n = int((~held_out.is_judged).sum())
        shown = ", ".join(left_out[:10]) + (", …" if len(left_out) > 10 else "")
        notes.append(
            f"{n} items could not be judged, for no other photograph that was learned from has their class: {shown}."
        )
    return tuple(notes)


def draw_sheets(report: MistakesReport, table: Items, folder: Path, n_shown: int) -> None:
    """Write `LABELS-suspects.png`, `LABELS-twins.png` and `LABELS-confused.png`."""
    suspects, twins = report.suspects[:n_shown], report.twins[: n_shown // 2]
    ids = {one.item_id for one in suspects} | {item for twin in twins for item in (twin.a, twin.b)}
    ids |= {item_id for pair in report.confused for item_id in pair.item_ids}
    images = images_of(table, ids)
    source = (
        f"{table.path}, n = {report.n:,}; features: {report.backbone}, {report.fingerprint}\n"
        f"{report.protocol}; it agrees with {in_percent(report.accuracy)} of the labels"
    )
    of = f"{report.labels}, {report.backbone}"
    sheets = {
        "suspects": suspects_sheet(
            suspects, images, f"Labels that look wrong: {of}{_some(len(suspects), report.n_suspects)}", source
        ),
        "twins": twins_sheet(
            twins, images, f"Alike, but labelled differently: {of}{_some(len(twins), report.n_twins)}", source
        ),
        "confused": confused_sheet(report.confused, images, f"Confused most: {of}", source),
    }
    for name, png in sheets.items():
        write_bytes(folder / f"{report.labels}-{name}.png", png)


def _some(n_shown: int, n: int) -> str:
    return f"; the first {n_shown} of {n:,}" if n_shown < n else ""


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone and label set of the profile."""
    table = Items(at.items)

    def look_at(backbone: str) -> None:
        view, sheets = View(at.view(backbone)), at.mistake_sheets(backbone)
        shutil.rmtree(sheets, ignore_errors=True)
        reports = []
        if tuned_on([view]):
            say(
                f"mistakes {backbone}: it has learned these labels, which look right to it; its base looks instead"
            )
        for labels in params.labels if not tuned_on([view]) else ():
            report = audit(params.mistakes, view, table, labels)
            draw_sheets(report, table, sheets, params.mistakes.n_shown)
            say(
                f"mistakes {backbone} {labels}: {report.n_suspects} suspects among {report.n_judged} labels, "
                f"twins with another label: {report.n_twins} -> {sheets}"
            )
            reports.append(report)
        write_bytes(at.mistakes(backbone), MISTAKES.dump(reports))

    for_each(params.backbones, look_at)


def _outs(at: Layout) -> list[Path]:
    return [at.mistakes("any").parent]


if __name__ == "__main__":
    run_stage("mistakes", Params, main, outs=_outs)
