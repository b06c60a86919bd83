"""`deponij agreement`: reading observers' answers, what is printed, refusals. The measures: test_error_consistency."""

from pathlib import Path

import numpy as np
import pytest
from cli_world import call, done
from learning_world import CLASSES, World, learned, make_world
from scipy.spatial.distance import jensenshannon

from deponij.services import agreement
from deponij.store.errors import DataError, UsageError

KEYS = (
    "n n_only_a n_only_b accuracy_a accuracy_b n_unanswered_a n_unanswered_b "
    "observed_agreement expected_agreement kappa js_class js_inter"
)


def answers(path: Path, rows: str, header: str = "item,truth,response") -> Path:
    """Rows are separated by blanks."""
    path.write_text("\n".join([header, *rows.split()]) + "\n")
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two observers of six common items, in different orders; each has one item of its own."""
    a = answers(tmp_path / "a.csv", "1,cat,cat 2,cat,dog 3,dog,dog 4,dog,cat 5,cow,na 6,cow,cow 7,cow,cow")
    b = answers(tmp_path / "b.csv", "6,cow,cat 8,dog,dog 5,cow,cow 4,dog,cat 3,dog, 2,cat,cow 1,cat,cat")
    return a, b


def test_values_by_hand(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = agreement.run(*pair)
    assert (found.n, found.n_only_a, found.n_only_b) == (6, 1, 1)
    # A has 1, 3, 6 right; B has 1, 5. Both are right at 1 and wrong at 2 and 4.
    assert (found.accuracy_a, found.accuracy_b) == (3 / 6, 2 / 6)
    assert (found.n_unanswered_a, found.n_unanswered_b) == (1, 1)
    assert found.observed_agreement == 3 / 6
    assert found.expected_agreement == pytest.approx(1 / 2 * 1 / 3 + 1 / 2 * 2 / 3)
    assert found.kappa == pytest.approx(0)
    # Errors of A: cat->dog, dog->cat; of B: cow->cat, dog->cat, cat->cow. True classes cat, cow, dog.
    assert found.js_class == pytest.approx(jensenshannon([1, 0, 1], [1, 1, 1]))
    assert found.js_inter == pytest.approx(jensenshannon([1, 1, 0, 0], [0, 1, 1, 1]))
    assert capsys.readouterr().err.count("1 item is only in") == 2


def test_json_has_these_keys_and_no_others(pair: tuple[Path, Path]) -> None:
    assert sorted(done("agreement", *pair, "--json").json) == sorted(KEYS.split())


def test_words(pair: tuple[Path, Path]) -> None:
    out = done("agreement", *pair).out
    assert "6 items; left out: 1 only in A, 1 only in B" in out
    assert "A: accuracy 50.0 %, 1 without an answer, which count as wrong" in out
    assert "agreement 0.500, expected of independent observers 0.500: kappa 0.000" in out


def test_an_observer_without_errors_has_no_distance(tmp_path: Path) -> None:
    a = answers(tmp_path / "a.csv", "1,cat,cat 2,dog,dog")
    b = answers(tmp_path / "b.csv", "1,cat,dog 2,dog,dog")
    found = done("agreement", a, b, "--json").json
    assert (found["js_class"], found["js_inter"], found["kappa"]) == (None, None, 0)
    out = done("agreement", a, b).out
    assert (
        "true classes undefined, confusions undefined (one of them made no errors among its answers)" in out
    )
    assert done("agreement", a, a, "--json").json["kappa"] == 1


def test_disjoint_answers(tmp_path: Path) -> None:
    a = answers(tmp_path / "a.csv", "1,cat,dog 2,dog,dog")
    b = answers(tmp_path / "b.csv", "1,cat,cat 2,dog,cat")
    found = agreement.run(a, b)
    assert (found.observed_agreement, found.kappa) == (0, -1)
    assert found.js_class == found.js_inter == pytest.approx(np.sqrt(np.log(2)))


@pytest.mark.parametrize("name", ["na", "NA", "nan", "null", "None", "N/A"])
def test_a_class_of_that_name_is_an_answer(tmp_path: Path, name: str) -> None:
    """Namibia by its code, say: right where it is the truth, and wrong elsewhere, but never silence."""
    a = answers(tmp_path / "a.csv", f"1,{name},{name} 2,cat,{name} 3,cat,cat 4,cat,")
    b = answers(tmp_path / "b.csv", f"1,{name},cat 2,cat,cat 3,cat,cat 4,cat,{name}")
    found = agreement.run(a, b)
    assert (found.accuracy_a, found.accuracy_b) == (2 / 4, 2 / 4)
    assert (found.n_unanswered_a, found.n_unanswered_b) == (1, 0)
    # Errors: A takes a cat for it; B it for a cat, and a cat for it.
    assert found.js_inter == pytest.approx(jensenshannon([1, 0], [1, 1]))


@pytest.mark.parametrize("silence", ["", "na", "NA", "Na", " na "])
def test_no_answer(tmp_path: Path, silence: str) -> None:
    a = tmp_path / "a.csv"
    # As a spreadsheet writes it: a byte order mark, CRLF, quotes, more columns.
    a.write_bytes(
        f'\ufeffitem,person,truth,response\r\n"1, left",p,cat,"{silence}"\r\n2,p,dog,dog\r\n\r\n'.encode()
    )
    found = agreement.run(a, a)
    assert (found.n, found.n_unanswered_a, found.accuracy_a) == (2, 1, 0.5)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ("1,cat", "item,truth", "no column response; it has: item, truth"),
        ("1;cat;cat", "item;truth;response", "no column item, truth, response; it has: item;truth;response"),
        ("1,cat,cat 2,cat,cat 1,cat,dog", "item,truth,response", "1 items more than once, the first: '1'"),
        ("1,cat,cat 2,cat", "item,truth,response", "line 3: the row has fewer cells"),
        ("1,,cat", "item,truth,response", "line 2: item and truth must not be empty"),
        ("", "item,truth,response", "no rows"),
        ("x,cat,cat", "item,truth,response", "no item of the 1 in .* is among the 1 in .*'x' and '1'"),
        ("1,dog,cat", "item,truth,response", "truth of 1 of 1 common items differs, the first: '1' is 'dog'"),
    ],
)
def test_bad_files(tmp_path: Path, rows: str, header: str, message: str) -> None:
    bad, good = answers(tmp_path / "bad.csv", rows, header), answers(tmp_path / "good.csv", "1,cat,cat")
    with pytest.raises(DataError, match=message):
        agreement.run(bad, good)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"item,truth,response\n1,\xff\xfe,a\n")
    with pytest.raises(DataError, match="no CSV file in UTF-8"):
        agreement.run(tmp_path / "a.csv", tmp_path / "a.csv")
    answer = call("agreement", tmp_path / "absent.csv", tmp_path / "a.csv")
    assert (answer.status, answer.out) == (1, "")
    assert "there is no file or folder" in answer.err


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), noise=0.6)


def test_a_results_folder_is_an_observer(world: World, tmp_path: Path) -> None:
    result = learned(world, "zero-shot", tmp_path / "model", texts=world.texts)
    truth = {
        i: label
        for i, label, part in zip(world.ids, world.labels, world.parts, strict=True)
        if part == "test" and label and i not in world.failed
    }
    person = tmp_path / "person.csv"
    other = dict(zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True))
    lines = [f"{i},{name},{other[name] if n % 5 == 0 else name}" for n, (i, name) in enumerate(truth.items())]
    answers(person, " ".join(lines))
    found = agreement.run(tmp_path / "model", person)
    assert found.n == result.parts["test"].n
    assert found.accuracy_a == result.parts["test"].top1
    assert found.accuracy_b == pytest.approx(np.mean([n % 5 != 0 for n in range(len(truth))]))
    assert agreement.run(tmp_path / "model", tmp_path / "model", "val").n == result.parts["val"].n
    with pytest.raises(UsageError, match="no items of the part 'tset'; it has: train, val, test"):
        agreement.run(tmp_path / "model", person, "tset")
