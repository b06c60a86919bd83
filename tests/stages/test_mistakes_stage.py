"""The audit of labels on a made-up world: what is planted is found, sheets are drawn, refusals."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cli_world import done
from learning_world import CLASSES, picture, vectors, write_features
from PIL import Image
from under_dvc import under_dvc

from deponij.pipeline.mistakes.records import MISTAKES, MistakesReport
from deponij.project.frame.layout import Layout
from deponij.stages import mistakes
from deponij.stages.mistakes import MistakesParams
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

N = 120
WRONG = (3, 17, 42, 64, 90, 111)  # 5 %
HASH = "{:016x}"


def world(
    root: Path,
    labels: Sequence[str | None] | None = None,
    *,
    embedding: np.ndarray | None = None,
    photos: Sequence[str | None] | None = None,
    contents: dict[int, bytes] | None = None,
    phashes: dict[int, str] | None = None,
) -> dict[str, Any]:
    """120 items of four clusters, two to a photograph."""
    truth = [CLASSES[i % 4] for i in range(N)]
    given = truth if labels is None else labels
    pictures = {i: picture(i) for i in range(N)} | (contents or {})
    ids = [f"photo{i // 2}.jpg#{i % 2}" for i in range(N)]
    with ItemWriter(root / "items", pa.schema([("label", pa.string())])) as writer:
        for i in range(N):
            writer.add(
                item_id=ids[i],
                key=key_of_bytes(pictures[i]),
                image_id=f"photo{i // 2}.jpg" if photos is None else photos[i],
                content=pictures[i],
                phash=(phashes or {}).get(i),
                metadata={"label": given[i]},
            )
    features = vectors(truth, 0.1, seed=0) if embedding is None else embedding
    write_features(root / "view.h5", ids, [key_of_bytes(pictures[i]) for i in range(N)], features)
    return {"features": root / "view.h5", "items": root / "items", "labels": "label"}


def with_errors() -> list[str | None]:
    """The true labels, but for six that are another class's."""
    return [CLASSES[(i + (2 if i in WRONG else 0)) % 4] for i in range(N)]


def run(paths: dict[str, Any], out: Path | None = None, **changes: Any) -> MistakesReport:
    return mistakes.run(MistakesParams(**changes), **paths, out=out)


def item(i: int) -> str:
    return f"photo{i // 2}.jpg#{i % 2}"


def test_planted_errors_are_found_and_shown(tmp_path: Path) -> None:
    report = run(world(tmp_path, with_errors()), tmp_path / "out")
    found = {one.item_id for one in report.suspects[: len(WRONG)]}
    assert len(found & {item(i) for i in WRONG}) >= 0.8 * len(WRONG)
    assert (report.n, report.n_judged) == (N, N)
    assert report.accuracy == pytest.approx(1 - len(WRONG) / N, abs=0.02)
    assert report.n_suspects == len(report.suspects) <= 2 * len(WRONG)
    assert any("not an evaluation" in note for note in report.notes)
    assert MISTAKES.load((tmp_path / "out" / "mistakes.json").read_bytes(), "") == [report]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["label-confused.png", "label-suspects.png", "label-twins.png", "mistakes.json"]
    for name in names[:3]:
        image = Image.open(io.BytesIO((tmp_path / "out" / name).read_bytes()))
        assert image.width == 962
    # The first suspect's picture is on the sheet: its upper colour, as `picture` draws it.
    first = int(report.suspects[0].item_id[5:].split(".")[0]) * 2 + int(report.suspects[0].item_id[-1])
    colour = np.random.default_rng(first).integers(0, 255, size=3)
    sheet = np.asarray(Image.open(tmp_path / "out" / "label-suspects.png").convert("RGB")).astype(int)
    assert (np.abs(sheet - colour).max(axis=2) <= 1).sum() > 1000


def test_twins_of_each_kind(tmp_path: Path) -> None:
    features = vectors([CLASSES[i % 4] for i in range(N)], 0.1, seed=0)
    features[31] = features[20]
    features[61] = features[61] + 2 * features[50]
    paths = world(
        tmp_path,
        embedding=features,
        contents={9: picture(4)},
        # Of both pairs two bits differ; of the second the features, of two classes, say that it is none.
        phashes={
            50: HASH.format(0xF0F0_1234_5678_9ABC),
            61: HASH.format(0xF0F0_1234_5678_9ABF),
            70: HASH.format(0x0F0F_1234_5678_9ABC),
            81: HASH.format(0x0F0F_1234_5678_9ABF),
        },
    )
    report = run(paths, min_cosine=0.999)
    # 4 and 9, 20 and 31, 50 and 61 differ by odd numbers, so by class; two bits of the hashes differ.
    assert [(twin.a, twin.b, twin.how, twin.similarity) for twin in report.twins] == [
        (item(4), item(9), "picture", 1.0),
        (item(50), item(61), "phash", 1 - 2 / 64),
        (item(20), item(31), "embedding", 1.0),
    ]
    assert report.n_twins == 3
    assert (report.twins[0].label_a, report.twins[0].label_b) == CLASSES[:2]


def test_copies_are_judged_by_the_same_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items 8 and 21 are of two photographs and two classes, and have one hash: neither may teach what judges the other."""
    seen: list[list[str]] = []
    real = mistakes.out_of_fold

    def spy(features: Any, names: Any, groups: Any, **how: Any) -> Any:
        seen.append(groups.tolist())
        return real(features, names, groups, **how)

    monkeypatch.setattr(mistakes, "out_of_fold", spy)
    run(world(tmp_path, phashes={8: HASH.format(7), 21: HASH.format(7)}))
    (groups,) = seen
    assert groups[8] == groups[21]
    assert groups[8] == groups[9], "photographs stay whole"


def test_where_nothing_is_wrong_nothing_is_listed(tmp_path: Path) -> None:
    report = run(world(tmp_path), tmp_path / "out", min_cosine=0.9999)
    assert report.suspects == report.twins == report.confused == ()
    assert (report.accuracy, report.n_suspects, report.n_twins) == (1.0, 0, 0)
    assert Image.open(tmp_path / "out" / "label-suspects.png").height < 200


def test_a_weak_model_is_said_to_be_weak(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(N, 16)).astype(np.float32)
    report = run(world(tmp_path, embedding=noise))
    assert report.accuracy < 0.5
    assert any("the model's own mistakes" in note for note in report.notes)


def test_lists_are_cut_and_counted(tmp_path: Path) -> None:
    report = run(world(tmp_path, with_errors()), tmp_path / "out", n_listed=2, n_shown=1)
    assert len(report.suspects) == 2 < report.n_suspects


def test_a_class_with_one_item_is_not_judged(tmp_path: Path) -> None:
    labels: list[str | None] = [CLASSES[i % 4] for i in range(N)]
    labels[7], labels[9] = "Unicorn", None
    report = run(world(tmp_path, labels))
    assert (report.n, report.n_judged) == (N - 1, N - 2)
    assert any("1 items could not be judged" in note and "Unicorn" in note for note in report.notes)
    assert item(7) not in {one.item_id for one in report.suspects}


def test_items_without_a_photograph_stand_alone(tmp_path: Path) -> None:
    assert run(world(tmp_path, with_errors(), photos=[None] * N)).n_judged == N


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    paths = world(tmp_path, with_errors())
    for name in ("a", "b"):
        run(paths, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_bad_input_is_named(tmp_path: Path) -> None:
    paths = world(tmp_path)
    with pytest.raises(UsageError, match="no column 'colour'"):
        run(paths | {"labels": "colour"})
    for name, changes, error, message in (
        ("one", {"labels": ["Can"] * N}, DataError, "all 120 items have the label 'Can'"),
        ("empty", {"labels": [None] * N}, DataError, "no item of .* has both a 'label' and features"),
        ("photo", {"photos": ["p"] * N}, DataError, "of one photograph"),
        ("constant", {"embedding": np.ones((N, 4), np.float32)}, DataError, "the same .constant. features"),
        ("nan", {"embedding": np.full((N, 4), np.nan, np.float32)}, StoreError, "NaN or infinite"),
    ):
        with pytest.raises(error, match=message):
            run(world(tmp_path / name, **changes))  # type: ignore[arg-type]


def test_a_view_of_other_pictures_is_refused(tmp_path: Path) -> None:
    ours = world(tmp_path / "a")
    others = world(tmp_path / "b", contents={5: picture(500)})
    with pytest.raises(StoreError, match="saw other pictures"):
        run(ours | {"features": others["features"]})


def test_under_dvc_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, at = world(tmp_path / "w", with_errors()), Layout.of("tiny")
    flags = [f"--{name}={value}" for name, value in paths.items()]
    answer = done("mistakes", *flags, "--json").json
    monkeypatch.chdir(tmp_path)
    at.view("b").parent.mkdir(parents=True)
    at.items.symlink_to(paths["items"])
    for backbone in ("b", "c"):
        at.view(backbone).symlink_to(paths["features"])
    Path("params.yaml").write_text("profile: tiny\nbackbones: {b: {}, c: {}}\nlabels: [label]\n")
    stale = at.mistake_sheets("b") / "gone-suspects.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of a label set that has left the profile")
    under_dvc(mistakes)
    assert json.loads(at.mistakes("b").read_text())["records"] == [answer]
    assert at.mistakes("c").read_bytes() == at.mistakes("b").read_bytes()
    assert sorted(path.name for path in at.mistake_sheets("b").iterdir()) == [
        f"label-{name}.png" for name in ("confused", "suspects", "twins")
    ]
    shown = done("mistakes", *flags).out
    assert f"{answer['n_suspects']} of 120 labels look wrong" in shown
    assert answer["suspects"][0]["item_id"] in shown
