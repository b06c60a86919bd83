"""A made-up world with everything that a page can show, for the tests of the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from learning_world import World, learned, make_world

from deponij.pipeline.advice.records import ADVICE, Advice, Finding, Subject
from deponij.pipeline.curves import CURVES
from deponij.pipeline.likeness.records import LIKENESS
from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.pipeline.mistakes.records import MISTAKES, ConfusedPair, Suspect, Twin
from deponij.pipeline.reports.cells import (
    CELLS,
    Cell,
    Place,
    Reference,
    chance_cell,
    majority_cell,
    measured_cell,
)
from deponij.project.frame.layout import Layout
from deponij.project.learning.result_files import read_judged
from deponij.project.learning.results import examples_of, judge, write_results
from deponij.project.learning.zero_shot_answers import answer
from deponij.project.retrieval import images, texts
from deponij.project.retrieval.archive import RetrievalParams
from deponij.stages import curves, likeness, mistakes
from deponij.stages import map as mapping
from deponij.stages.curves import CurveParams
from deponij.stages.likeness import LikenessParams
from deponij.stages.map import MapParams
from deponij.stages.mistakes import MistakesParams
from deponij.store.atomic import write_table
from deponij.store.sealed import sealed
from deponij.store.view import View

SPLIT_REPORT = {
    "split": "split.parquet",
    "strategy": "group",
    "seed": 0,
    "n": {"train": 60, "val": 20, "test": 40},
    "n_outside": 4,
    "n_folds": 0,
    "leakage": {},
    "leakage_summary": "0 of 40 test items (0.0%) share a photograph with training items.",
    "notes": ["2 items could not be read."],
}


@dataclass(frozen=True)
class ReportWorld:
    """A world and all files that a page is made from, as arguments of `report.run`."""

    world: World
    results: list[Path]
    parts: dict[str, Any]

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Everything but parameters and the folder to write to."""
        given = {
            "results": self.results,
            "items": self.world.items,
            "views": [self.world.features],
            "timings": {"extract@tiny": 75.2, "heads": 1.25},
            "profile": "made-up",
            "remake": lambda stage: f"make {stage}",
            **self.parts,
        }
        return {**given, **changes}


def make_report_world(root: Path) -> ReportWorld:
    """Two methods' results, tables, curves, map and mistakes of one view."""
    world = make_world(root)
    data = {"features": world.features, "items": world.items, "split": world.split, "labels": "label"}
    at = Layout(root)
    results = [at.result(method, "tiny") / "split-label" for method in ("zero-shot", "logistic")]
    learned(world, "zero-shot", results[0], texts=world.texts)
    learned(world, "logistic", results[1])
    (root / "split.json").write_bytes(sealed(SPLIT_REPORT))
    (root / "cells.json").write_bytes(CELLS.dump(made_cells(results[1])))
    points = curves.run(CurveParams(per_class=(1, 3), tries=2), **data)
    (root / "curves.json").write_bytes(CURVES.dump(points))
    (root / "mistakes.json").write_bytes(MISTAKES.dump([made_mistakes(world)]))
    (root / "advice.json").write_bytes(ADVICE.dump([made_advice(world)]))
    asked = RetrievalParams(n_examples=2, n_hits=3)
    found = [images.run(asked, **data), *texts.run(asked, texts=world.texts, **data)]
    (root / "retrieval.json").write_bytes(RETRIEVAL.dump(found))
    mapping.run(MapParams(perplexity=10, iterations=250), features=world.features, out=root / "map.parquet")
    alike = likeness.run(LikenessParams(), features=world.features, items=world.items)
    (root / "likeness.json").write_bytes(LIKENESS.dump([alike]))
    classes = sorted(set(View(world.texts).columns["group"].tolist()))[:2]
    asked_for = answer(world.features, world.texts, world.items, classes)
    write_table(root / "answers.parquet", asked_for.to_table())
    parts = {
        "split_reports": [root / "split.json"],
        "cells": root / "cells.json",
        "retrieval": [root / "retrieval.json"],
        "curves": [root / "curves.json"],
        "maps": [root / "map.parquet"],
        "mistakes": [root / "mistakes.json"],
        "likeness": [root / "likeness.json"],
        "answers": [root / "answers.parquet"],
        "advice": root / "advice.json",
    }
    return ReportWorld(world, results, parts)


def made_cells(folder: Path) -> list[Cell]:
    """Baselines and one head over three runs, with a published figure."""
    judged = read_judged(folder)
    found = judged.predictions
    test, train = found.of("test"), found.of("train")
    rng = np.random.default_rng(0)
    runs = [np.where(rng.random(test.top_labels.shape) < 0.1, "Lid", test.top_labels) for _ in range(3)]
    cell = measured_cell(
        Place("single", ("tiny",), "linear", "label", "split"),
        test.truth,
        runs,
        test.groups,
        unit="photographs",
        n_classes=4,
        seed_values=range(3),
        lr=1e-3,
        fingerprints=(judged.evaluation.fingerprint,),
        protocol="20 epochs",
    )
    known = Reference(top1=0.705, top2=0.8117, top3=0.8766, source="a made-up paper", note="another split")
    return [
        chance_cell("label", "split", test.groups, 4, "photographs"),
        majority_cell("label", "split", train.truth, test.truth, test.groups, 4, "photographs"),
        cell.model_copy(update={"reference": known}),
    ]


def made_mistakes(world: World) -> Any:
    """What the stage finds, and by hand what it does not find here: suspects, twins and a confused pair."""
    found = mistakes.run(MistakesParams(), features=world.features, items=world.items, labels="label")
    ids = world.ids
    return found.model_copy(
        update={
            "suspects": (
                Suspect(
                    item_id=ids[0],
                    label="Bottle",
                    suggested="Cup",
                    quality=0.02,
                    prob_label=0.02,
                    prob_suggested=0.93,
                ),
            ),
            "n_suspects": 7,
            "twins": (
                Twin(
                    a=ids[1],
                    b=ids[2],
                    label_a="Can",
                    label_b="Cup",
                    similarity=0.98,
                    how="embedding",
                    same_photo=True,
                ),
            ),
            "n_twins": 1,
            "confused": (ConfusedPair(truth="Lid", answer="Can", n=3, n_truth=9, item_ids=(ids[3], ids[7])),),
        }
    )


def made_advice(world: World) -> Advice:
    """A finding with a picture beside another, and one without pictures."""
    twins = Subject(
        item_id=world.ids[1],
        do="leave-out",
        label="",
        was="Can",
        note="in train, the same in test",
        beside=world.ids[2],
    )
    alike = Finding(
        kind="duplicates",
        title="1 group of near-duplicates is across parts",
        why="What is learned by heart scores.",
        n=1,
        column="label",
        facts=(),
        subjects=(twins,),
        acts=("deponij advice runs/made-up --take duplicates --into corrections.csv",),
        look="deponij duplicates",
        sheet="advice/duplicates.png",
    )
    small = alike.model_copy(
        update={
            "kind": "small-classes",
            "title": "All 4 classes are too small",
            "subjects": (),
            "facts": ("Lid: 3",),
        }
    )
    return Advice(
        root="runs/made-up",
        n_items=len(world.ids),
        backbone="tiny",
        findings=(alike, small),
        again=("deponij run --corrections corrections.csv", "deponij compare a b"),
        notes=("A note.",),
    )


def more_results(folder: Path, out: Path, n: int) -> list[Path]:
    """So many further results of joined backbones, each a little worse than the one before."""
    judged, made = read_judged(folder), []
    rng = np.random.default_rng(1)
    noise = rng.normal(size=judged.logits.shape) * judged.logits.std()
    examples = examples_of(judged.evaluation, judged.predictions)
    for i in range(n):
        one = judge(
            judged.logits + np.float32(0.2 * i) * noise.astype(np.float32),
            judged.evaluation.classes,
            examples,
            method="ensemble",
            title=f"ensemble {i}",
            protocol="made up",
            backbone="tiny+other",
            fingerprint=f"{judged.evaluation.fingerprint}+{'e' * 20}",
            labels="label",
            split="split",
        )
        made.append(out / f"ensemble-{i}" / "tiny+other" / "split-label")
        write_results(made[-1], one.evaluation, one.predictions, one.logits)
    return made
