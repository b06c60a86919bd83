"""Items in, a table of parts out, with what leaks between them."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from learning_world import write_items
from PIL import Image
from under_dvc import under_dvc

from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.project.frame.layout import Layout
from deponij.stages import split as stage
from deponij.store.errors import DataError, UsageError
from deponij.store.sealed import unsealed


def noise(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 24, 3), dtype=np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """40 items, four of each photograph, two classes; one of them failed."""
    rows = [(f"photo{i // 4}#{i % 4}", noise(i), ("Can", "Cup")[i % 2]) for i in range(39)]
    write_items(tmp_path / "items", [*rows, ("photo9#3", None, "Cup")])
    return tmp_path / "items"


def parts(path: Path) -> dict[str, str | None]:
    table = pq.read_table(path)
    assert table.schema.names == ["item_id", "part", "group"]
    return dict(zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True))


def test_random_split_and_what_it_reports(items: Path, tmp_path: Path) -> None:
    params = SplitParams(strategy="random", labels="label", fractions=(0.5, 0.25, 0.25), seed=3)
    result = stage.run(params, items=items, out=tmp_path / "split.parquet")
    found = parts(tmp_path / "split.parquet")
    assert list(found) == [f"photo{i // 4}#{i % 4}" for i in range(40)]
    assert found["photo9#3"] is None
    values = list(found.values())
    assert result.n == {part: values.count(part) for part in ("train", "val", "test")}
    assert sum(result.n.values()) == 39
    assert result.n_outside == 1
    train = {i.split("#")[0] for i, part in found.items() if part == "train"}
    n_shared = sum(i.split("#")[0] in train for i, part in found.items() if part == "test")
    assert n_shared > 0
    assert f"{n_shared}" in result.leakage_summary
    assert any("could not be read" in note for note in result.notes)
    assert stage.summary(result).startswith(f"random: train {result.n['train']}, ")


def test_group_split_shares_no_photograph(items: Path, tmp_path: Path) -> None:
    params = SplitParams(strategy="group", labels="label", fractions=(0.6, 0.2, 0.2))
    stage.run(params, items=items, out=tmp_path / "split.parquet")
    sides: dict[str, set[str]] = {}
    for item_id, part in parts(tmp_path / "split.parquet").items():
        if part is not None:
            sides.setdefault(item_id.split("#")[0], set()).add(part)
    assert {len(side) for side in sides.values()} == {1}


def test_groups_are_photographs_or_what_the_strategy_groups_by(items: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.parquet"
    for changes, expected in (
        ({"strategy": "random"}, [f"photo{i // 4}" for i in range(40)]),
        ({"strategy": "group"}, [f"photo{i // 4}" for i in range(40)]),
        ({"strategy": "random", "group_by": "label"}, [("Can", "Cup")[i % 2] for i in range(39)] + ["Cup"]),
    ):
        stage.run(SplitParams(labels="label", fractions=(0.6, 0.2, 0.2), **changes), items=items, out=out)
        assert pq.read_table(out)["group"].to_pylist() == expected
    with pytest.raises(UsageError, match="no column 'batch' to group by; they have .*label"):
        stage.run(SplitParams(labels="label", group_by="batch"), items=items, out=out)


def test_a_seed_gives_the_same_bytes_and_another_seed_does_not(items: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        params = SplitParams(strategy="random", labels="label", seed=seed)
        stage.run(params, items=items, out=tmp_path / f"{name}.parquet")
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b != c


def test_refusals_write_nothing(items: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.parquet"
    with pytest.raises(UsageError, match="no column 'lable'"):
        stage.run(SplitParams(strategy="random", labels="lable"), items=items, out=out)
    with pytest.raises(DataError, match="brings no split"):
        stage.run(SplitParams(strategy="given"), items=items, out=out)
    with pytest.raises(DataError, match="TACO"):
        stage.run(SplitParams(strategy="taco56"), items=items, out=out)
    write_items(tmp_path / "failed", [("a", None, "Can")])
    with pytest.raises(DataError, match="none of the 1 items"):
        stage.run(SplitParams(), items=tmp_path / "failed", out=out)
    assert not out.exists()


def test_near_duplicates_across_sides_are_counted(tmp_path: Path) -> None:
    import pyarrow as pa

    from deponij.pipeline.likeness.phash import phash
    from deponij.store.items import ItemWriter
    from deponij.store.keys import key_of_bytes

    with ItemWriter(tmp_path / "items", pa.schema([("label", pa.string())])) as writer:
        for i in range(20):
            # Ten pictures, each there twice.
            content = noise(i // 2)
            hashed = phash(Image.open(io.BytesIO(content)).convert("RGB"))
            core = {"image_id": f"{i}", "width_px": 24, "height_px": 32, "phash": hashed}
            writer.add(
                item_id=f"{i}", key=key_of_bytes(content), content=content, metadata={"label": "a"}, **core
            )
    params = SplitParams(strategy="random", fractions=(0.5, 0.0, 0.5))
    result = stage.run(params, items=tmp_path / "items", out=tmp_path / "s.parquet")
    found = parts(tmp_path / "s.parquet")
    n_twins = sum(found[f"{2 * i}"] != found[f"{2 * i + 1}"] for i in range(10))
    assert n_twins > 0
    assert f"{n_twins}" in result.leakage_summary
    assert result.leakage


def test_under_dvc_every_split_and_those_of_before_go(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Layout.of("tiny")
    monkeypatch.chdir(tmp_path)
    at.split("gone").parent.mkdir(parents=True)
    at.split("gone").write_text("of a split that has left the profile")
    at.items.symlink_to(items)
    (tmp_path / "params.yaml").write_text(
        "profile: tiny\nlabels: [label]\n"
        "splits: {mixed: {strategy: random, labels: label, seed: 3}, apart: {strategy: group}}\n"
    )
    under_dvc(stage)
    assert sorted(path.name for path in at.splits.iterdir()) == [
        "apart.json",
        "apart.parquet",
        "mixed.json",
        "mixed.parquet",
    ]
    numbers = json.loads(at.metrics("split").read_text())
    assert set(numbers) == {"mixed", "apart"}
    params = SplitParams(strategy="random", labels="label", seed=3)
    result = stage.run(params, items=items, out=tmp_path / "split.parquet")
    assert at.split("mixed").read_bytes() == (tmp_path / "split.parquet").read_bytes()
    assert unsealed(at.split_report("mixed").read_bytes()) == result.model_dump(mode="json")
