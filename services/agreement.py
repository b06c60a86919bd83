"""Error consistency of two observers: answers from a CSV file or from a results folder, matched by item.

What `deponij agreement` calls; this is no stage.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deponij.pipeline.metrics.agreement import Agreement, agreement
from deponij.project.frame.console import warn
from deponij.project.learning.result_files import RESULT_NAME, read_result
from deponij.store.errors import DataError, UsageError, explained

COLUMNS = ("item", "truth", "response")
# As published answers of people have it (Geirhos and others, 2021), in small letters.
NO_ANSWER = "na"


@dataclass(frozen=True, slots=True)
class AgreementReport(Agreement):
    """What two observers have in common on the items that both were shown.

    Attributes:
        n_only_a: items of the first one alone, which are left out.
        n_only_b: items of the second one alone.
    """

    n_only_a: int
    n_only_b: int


# Item -> (truth, response); an empty response is no answer.
Answers = dict[str, tuple[str, str]]


def run(a: Path, b: Path, part: str = "test") -> AgreementReport:
    """Compare two observers on the items that both were shown.

    Args:
        a, b: CSV files with the columns item, truth and response (empty is no answer, and so is `na`, unless a
            class is called so), or results folders.
        part: whose items are taken of a results folder.

    Raises:
        DataError: a file cannot be read as such answers, truths differ, or no item is common.
        UsageError: a results folder has no items in this part.
        StoreError: a results folder is damaged.
    """
    answers_a, answers_b = _silent([(_read(path, part), path.is_dir()) for path in (a, b)])
    common = [item for item in answers_a if item in answers_b]
    if not common:
        raise DataError(
            f"no item of the {len(answers_a)} in {a} is among the {len(answers_b)} in {b}; they are matched by "
            f"name, the first ones are {next(iter(answers_a))!r} and {next(iter(answers_b))!r}"
        )
    differing = [item for item in common if answers_a[item][0] != answers_b[item][0]]
    if differing:
        first = differing[0]
        raise DataError(
            f"the truth of {len(differing)} of {len(common)} common items differs, the first: {first!r} is "
            f"{answers_a[first][0]!r} in {a} and {answers_b[first][0]!r} in {b}; use the same labels for both"
        )
    only_a, only_b = len(answers_a) - len(common), len(answers_b) - len(common)
    for n, path in ((only_a, a), (only_b, b)):
        if n:
            warn(f"{n} {'item is' if n == 1 else 'items are'} only in {path} and left out")
    agreed = agreement(
        np.array([answers_a[item][0] for item in common], dtype=np.str_),
        *(np.array([rows[item][1] for item in common], dtype=np.str_) for rows in (answers_a, answers_b)),
    )
    return AgreementReport(**asdict(agreed), n_only_a=only_a, n_only_b=only_b)


def _silent(read: Sequence[tuple[Answers, bool]]) -> list[Answers]:
    """Answers with `na` made no answer; not where it is a class, of the truth or of a model (whose answers are all)."""
    of_models = {response for rows, is_model in read if is_model for _, response in rows.values()}
    classes = {truth for rows, _ in read for truth, _ in rows.values()} | of_models
    if any(name.lower() == NO_ANSWER for name in classes):
        return [rows for rows, _ in read]
    return [
        {item: (truth, "" if said.lower() == NO_ANSWER else said) for item, (truth, said) in rows.items()}
        for rows, _ in read
    ]


def _read(path: Path, part: str) -> Answers:
    if path.is_dir():
        return _read_results(path, part)
    if not path.is_file():
        raise DataError(f"there is no file or folder {path}; give a CSV file or a folder with {RESULT_NAME}")
    return _read_csv(path)


def _read_results(folder: Path, part: str) -> Answers:
    result, predictions = read_result(folder)
    chosen = predictions.of(part)
    if not len(chosen.ids):
        raise UsageError(f"{folder} has no items of the part {part!r}; it has: {', '.join(result.parts)}")
    rows = zip(chosen.truth.tolist(), chosen.top_labels[:, 0].tolist(), strict=True)
    return dict(zip(chosen.ids.tolist(), rows, strict=True))


def _read_csv(path: Path) -> Answers:
    try:
        with explained(f"cannot read {path}", DataError), path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(missing)}; it has: "
                    f"{', '.join(reader.fieldnames or ()) or 'nothing'}. Needed are {', '.join(COLUMNS)}"
                )
            rows = [(reader.line_num, [row[name] for name in COLUMNS]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from error
    return _answers(path, rows)


def _answers(path: Path, rows: list[tuple[int, list[str | None]]]) -> Answers:
    if not rows:
        raise DataError(f"{path} has no rows below its header")
    answers: Answers = {}
    repeated = []
    for line, cells in rows:
        filled = [cell.strip() for cell in cells if cell is not None]
        if len(filled) < len(cells):
            raise DataError(f"{path}, line {line}: the row has fewer cells than the header")
        item, truth, response = filled
        if not item or not truth:
            raise DataError(f"{path}, line {line}: item and truth must not be empty; only a response may be")
        if item in answers:
            repeated.append(item)
        answers[item] = (truth, response)
    if repeated:
        raise DataError(
            f"{path} has {len(set(repeated))} items more than once, the first: {repeated[0]!r}; keep one answer each"
        )
    return answers
