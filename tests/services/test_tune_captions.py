"""`deponij tune` on captions: two towers learn which text a picture has, and nothing tests them by it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import tiny_models
import told_pictures
import torch
from learning_world import write_split
from PIL import Image
from told_pictures import BLANK, MISSING, PARTS, THINGS

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.families.siglip import Siglip
from deponij.pipeline.training.loop import Step
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from
from deponij.project.tuning import begun, learn
from deponij.store.items import Items
from deponij.store.view import TUNED_ON, View

BASES = ("mini-openclip", "mini-siglip")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[told_pictures.Told]:
    root = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        made = told_pictures.make(root)
        for base, more in zip(BASES, ((), ("--json",)), strict=True):
            where = ["--lr", "0.01", "--results", root / f"{base}-answers"]
            answer = cli_world.done(*made.asked(base, base, *where, *more))
            (root / f"{base}.out").write_text(answer.out)
            (root / f"{base}.err").write_text(answer.err)
        yield made


def record_of(folder: Path) -> Any:
    return json.loads((folder / "tuned.json").read_text())["tuned"]


@pytest.mark.parametrize("base", BASES)
def test_recall_rises_and_the_texts_are_as_they_were(told: told_pictures.Told, base: str) -> None:
    record = record_of(told.root / base)
    assert (record["learns"], record["labels"], record["n_without"]) == ("captions", "caption", 2)
    # 24 items of train without the blank and the missing one; they have all captions that there are.
    captions = {told_pictures.caption_of(i) for i in range(24)} - {None, " "}
    assert (record["n_train"], record["n_captions"]) == (22, len(captions))
    for way in ("image-to-text", "text-to-image"):
        figures = record["recalls"]["train"][way]["recall@1"]
        assert figures["after"] > figures["before"], way
    before, after = load(base), load(str(told.root / base))
    own = {id(one) for one in after.vision.parameters()}
    changed = {
        name
        for (name, one), (_, other) in zip(
            after.model.named_parameters(), before.model.named_parameters(), strict=True
        )
        if id(one) not in own and not torch.equal(one, other)
    }
    assert changed == {"logit_scale", *(["logit_bias"] if base == "mini-siglip" else [])}
    assert torch.equal(before.embed_texts(THINGS), after.embed_texts(THINGS))


def test_what_it_tells_a_person_and_a_program(told: told_pictures.Told) -> None:
    said = (told.root / "mini-openclip.out").read_text()
    assert "mini-openclip tuned (LoRA, rank 8, by captions)" in said
    figures = record_of(told.root / "mini-openclip")["recalls"]["test"]["text-to-image"]["recall@1"]
    wanted = f"text to image {100 * figures['before']:.1f} % -> {100 * figures['after']:.1f} % ("
    assert wanted in next(line for line in said.splitlines() if line.startswith("test recall@1 "))
    assert (
        "Left out: 2 items of the split without 'caption'." in (told.root / "mini-openclip.err").read_text()
    )
    found = json.loads((told.root / "mini-siglip.out").read_text())
    assert found["recalls"] == record_of(told.root / "mini-siglip")["recalls"]


def test_the_folder_finds_what_the_record_says(told: told_pictures.Told) -> None:
    """Of the eight items of `test`, each with a caption of its own: the largest cosine of its row, counted anew."""
    found, table = load(str(told.root / "mini-siglip")), Items(told.items)
    rows = [i for i, part in enumerate(PARTS) if part == "test"]
    pixels = [
        found.description.transform.apply(Image.open(BytesIO(content))) for _, content in table.contents(rows)
    ]
    image = found.embed_images(torch.from_numpy(np.stack(pixels)))
    text = found.embed_texts([str(told_pictures.caption_of(i)) for i in rows])
    cosines = (
        torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    ).numpy()
    recalls = record_of(told.root / "mini-siglip")["recalls"]["test"]
    for way, one in (("image-to-text", cosines), ("text-to-image", cosines.T)):
        assert recalls[way]["recall@1"]["after"] == (one.argmax(1) == np.arange(8)).mean()
        assert recalls[way]["recall@1"]["chance"] == pytest.approx(1 / 8)


def test_what_is_written_beside_the_weights(told: told_pictures.Told) -> None:
    record, card = record_of(told.root / "mini-siglip"), (told.root / "mini-siglip" / "README.md").read_text()
    assert "Learned which of 14 texts of `caption` a picture has; 2 items without one were left out." in card
    assert "| test | 8 | text to image | recall@10 |" in card
    written = json.loads((told.root / "mini-siglip-answers" / "metrics.json").read_text())
    assert written == record["recalls"]
    assert set(written) == {"train", "val", "test"}
    assert set(written["test"]["text-to-image"]) == {"recall@1", "recall@5", "recall@10"}
    assert [set(one) for one in record["history"]] == [
        {"loss", "lr", "recall@1", "image-to-text recall@1", "text-to-image recall@1"}
    ] * 2


def test_nothing_tests_it_by_what_it_has_learned_from(told: told_pictures.Told) -> None:
    folder, items = told.root / "mini-openclip", Items(told.items)
    wanted = {
        str(key): part
        for i, (key, part) in enumerate(zip(items.keys, PARTS, strict=True))
        if part != "test" and i not in (BLANK, MISSING)
    }
    assert learned_from(str(folder)) == wanted
    view = told.root / "view.h5"
    where = ["--items", told.items, "--depot", told.root / "depot", "--out", view]
    cli_world.done("extract", *where, "--backbone", folder)
    marks = dict(zip(items.ids, View(view).columns[TUNED_ON].tolist(), strict=True))
    assert {one for one, part in marks.items() if not part} == {
        one for i, one in enumerate(items.ids) if PARTS[i] == "test" or i in (BLANK, MISSING)
    }
    other = told.root / "other.parquet"
    write_split(other, items.ids, ["train" if i % 2 else "test" for i in range(len(PARTS))])
    learning = ["--features", view, "--items", told.items, "--labels", "label", "--split", other]
    answer = cli_world.done("fit", "--head", "centroid", *learning, "--json")
    # Of the 20 even ones: 4 of the old test, and the blank one.
    assert answer.json["parts"]["test"]["n"] == 5
    assert "Left out: 15 items that would test a backbone which was tuned on them." in answer.json["notes"]


def test_one_caption_alone_chooses_no_epoch(told: told_pictures.Told) -> None:
    split = told.root / "one.parquet"
    write_split(
        split, Items(told.items).ids, ["val" if i in (0, 16, 32) else "train" for i in range(len(PARTS))]
    )
    asked = told.asked("mini-siglip", "waiting", "--split", split, "--set", "training.patience=1")
    answer = cli_world.call(*asked)
    assert answer.status == 2 and "has nothing to tell one by" in answer.err


def test_frozen_texts_are_computed_once(told: told_pictures.Told, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    embed = Siglip._embed_token_ids

    def counted(self: Siglip, token_ids: torch.Tensor) -> torch.Tensor:
        called.append(len(token_ids))
        return embed(self, token_ids)

    monkeypatch.setattr(Siglip, "_embed_token_ids", counted)
    cli_world.done(*told.asked("mini-siglip", "counted"))
    assert called == [16], "the different captions of all parts"


class _Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize(
    ("base", "more"),
    [
        ("mini-openclip", ()),
        ("mini-siglip", ("--recipe", "full", "--set", "text=learns", "--lr", "0.0001")),
    ],
)
def test_an_interrupted_tuning_goes_on_to_the_same_bytes(
    told: told_pictures.Told, monkeypatch: pytest.MonkeyPatch, base: str, more: tuple[str, ...]
) -> None:
    whole, resumed = f"whole-{base}", f"resumed-{base}"
    cli_world.done(*told.asked(base, whole, *more))

    @contextmanager
    def stopping(label: str) -> Iterator[Any]:
        def stepped(step: Step) -> None:
            if step.done == 4:
                raise _Stop

        yield stepped

    with monkeypatch.context() as patch:
        patch.setattr(begun, "training_bar", stopping)
        with pytest.raises(_Stop):
            cli_world.call(*told.asked(base, resumed, *more))
    assert (told.root / f"{resumed}.unfinished" / "checkpoint" / "training.json").is_file()
    cli_world.done(*told.asked(base, resumed, *more))
    names = [path.name for path in (told.root / whole).glob("*.safetensors")]
    assert names
    for name in (*names, LEARNED_FROM):
        assert (told.root / resumed / name).read_bytes() == (told.root / whole / name).read_bytes()
    wanted, found = record_of(told.root / whole), record_of(told.root / resumed)
    assert found["recalls"] == wanted["recalls"]
    if more:
        assert not torch.equal(
            load(base).embed_texts(THINGS), load(str(told.root / resumed)).embed_texts(THINGS)
        )
        assert wanted["n_learned"] > record_of(told.root / base)["n_weights"]


def test_a_batch_that_does_not_fit_is_not_halved(
    told: told_pictures.Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "free_memory_bytes", lambda device: 18_000_000)
    answer = cli_world.call(*told.asked("mini-siglip", "large"))
    assert answer.status == 2
    assert "batch 8 would need about" in answer.err
    assert "ask for --batch 4 (training.batch_size), or save memory by checkpointing: true" in answer.err
    assert not (told.root / "large").exists()


def test_what_cannot_learn_from_captions_is_told(told: told_pictures.Told, tmp_path: Path) -> None:
    mute = tiny_models.dinov2(tmp_path / "mute")
    answer = cli_world.call(*told.asked(mute, "wrong"))
    assert answer.status == 2
    assert "(family dinov2) has no text tower" in answer.err and "open_clip, siglip" in answer.err
    for column, message in (
        ("area", "no column 'area' of texts to learn captions from; they have: label, caption"),
        ("captions", "no column 'captions' of texts"),
    ):
        asked = ["caption" if one is None else one for one in told.asked("mini-siglip", "wrong")]
        asked[asked.index("caption")] = column
        answer = cli_world.call(*asked)
        assert answer.status == 2
        assert message in answer.err


def test_fewer_than_two_captions_are_an_error(told: told_pictures.Told, tmp_path: Path) -> None:
    ids = Items(told.items).ids
    for rows, n in (((0, 16), 1), ((BLANK, MISSING), 0)):
        split = tmp_path / f"{n}.parquet"
        write_split(split, ids, ["train" if i in rows else "test" for i in range(len(ids))])
        asked = told.asked("mini-siglip", "wrong")
        asked[asked.index(told.split)] = split
        answer = cli_world.call(*asked)
        assert answer.status == 1
        assert f"its train part has {n} different caption(s) in 'caption'; two are needed" in answer.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["text=learns"], "text: learns trains both towers whole: recipe: full, not lora"),
        (["balance=0.5"], "balance: for learns: classes alone"),
        (["mix.mixup=0.2"], "mix: for learns: classes alone"),
        (["start=zero"], "start: for learns: classes alone"),
        (["training.batch_size=1"], "training.batch_size: 1; captions are told apart within a batch"),
        (["learns=classes", "text=learns"], "text: learns is for learns: captions"),
        (["learns=poems"], "learns: Input should be 'classes' or 'captions'"),
    ],
)
def test_what_is_wrong_with_a_recipe_of_captions(
    told: told_pictures.Told, more: list[str], message: str
) -> None:
    flags = [word for one in more for word in ("--set", one)]
    answer = cli_world.call(*told.asked("mini-siglip", "wrong", *flags))
    assert answer.status == 2
    assert message in answer.err
