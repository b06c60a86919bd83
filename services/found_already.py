"""What a run has found already, for the commands that would find it anew: mistakes and maps. This is no stage.

A run's own files are read, which takes no time; where files are named, or something is to be written, it is computed.
"""

from pathlib import Path

from deponij.pipeline.mistakes.records import MISTAKES, MistakesReport
from deponij.pipeline.record_lists import parsed, told
from deponij.project.in_force import run_of
from deponij.project.meant import Meant, run_meant
from deponij.project.report.inputs import read_records
from deponij.project.toy_features import toy_note
from deponij.stages import map as laying_out
from deponij.stages import mistakes as looking
from deponij.store.atomic import read_table
from deponij.store.errors import StoreError, UsageError


def mistakes_of(
    params: looking.MistakesParams,
    features: Path | None,
    items: Path | None,
    labels: str | None,
    *,
    of_run: Path | None,
    out: Path | None,
) -> tuple[MistakesReport, str | None]:
    """Labels worth a second look, and in one line which run's (None where all files were named).

    Raises:
        UsageError: something is neither named nor known of a run.
        DeponijError: as `looking.run`.
    """
    if features is not None and items is not None and labels is not None:
        return _audit(params, features, items, labels, out), None
    meant = _meant(features, of_run, "--items and --labels")
    column = labels or meant.labels
    if column is None:
        raise UsageError(
            f"{meant.why_no_labels}; where its items have one all the same, name it with --labels"
        )
    if features is None and items is None and out is None:
        for backbone in meant.backbones:
            path = meant.at.mistakes(backbone)
            reports = read_records([path], MISTAKES, "mistakes") if path.is_file() else []
            if report := next((one for one in reports if one.labels == column), None):
                said = meant.said(f"what it found with {backbone}, labels {column}")
                return _marked(report, meant.at.view(backbone)), said
    view = features or meant.view()
    report = _audit(params, view, items or meant.at.items, column, out)
    return report, meant.said(f"features of {view.stem}, labels {column}")


def _audit(
    params: looking.MistakesParams, view: Path, items: Path, labels: str, out: Path | None
) -> MistakesReport:
    return _marked(looking.run(params, features=view, items=items, labels=labels, out=out), view)


def _marked(report: MistakesReport, view: Path) -> MistakesReport:
    """With a note where the features are a toy's."""
    note = toy_note(view, report.backbone)
    return report if note is None else report.model_copy(update={"notes": (*report.notes, note)})


def map_of(
    params: laying_out.MapParams, features: Path | None, *, of_run: Path | None, out: Path | None
) -> tuple[laying_out.MapFacts, str | None]:
    """Facts of a map, and in one line which run's (None where the features were named).

    Raises:
        UsageError: nothing says whose.
        DeponijError: as `laying_out.run`.
    """
    if features is not None:
        return laying_out.run(params, features=features, out=out), None
    meant = run_meant(of_run)
    if out is None:
        for backbone in meant.backbones:
            if (path := meant.at.map(backbone)).is_file():
                return _facts(path), meant.said(f"its map of {backbone}, {path}")
    view = meant.view()
    return laying_out.run(params, features=view, out=out), meant.said(f"features of {view.stem}")


def _meant(features: Path | None, of_run: Path | None, also: str) -> Meant:
    at = None if features is None or of_run is not None else run_of(features)
    if features is not None and at is None and of_run is None:
        raise UsageError(f"{features} is no part of a run, so name {also} too")
    return run_meant(at.root if at is not None else of_run)


def _facts(path: Path) -> laying_out.MapFacts:
    settings = (read_table(path).schema.metadata or {}).get(b"settings", b"{}")
    try:
        return parsed(laying_out.MapFacts, settings)
    except ValueError as error:
        raise StoreError(f"{path} is of another version: {told(error)}; run the stage `map` again") from error
