"""The API of `deponij serve` over a small run: answers equal those of `services.search`, NumPy and Pillow."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import serve_world
from PIL import Image
from serve_world import SIZE_PX, ServeWorld

from deponij.pipeline.likeness.pairs import Thresholds
from deponij.pipeline.retrieval.filters import Condition
from deponij.pipeline.unit_vectors import unit
from deponij.project.frame.settings import RunOptions
from deponij.project.indexes import Index
from deponij.services.search.query import Question, ask
from deponij.services.search.vectors import QueryEncoder, Term
from deponij.services.serve import setup
from deponij.store.items import Items
from deponij.store.view import View

KEY_TEXT = "can"
NEW_TEXT = "an aerial view"
MANY = '{"column": "item_id", "op": "in", "value": [' + ",".join(['"x"'] * 2501) + "]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeWorld]:
    with serve_world.made(tmp_path_factory.mktemp("serve")) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: ServeWorld) -> Iterator[Any]:
    with serve_world.client(world.wanted()) as found:
        yield found


@pytest.fixture(scope="module")
def ids(world: ServeWorld) -> list[str]:
    return Items(world.at.items).ids


def text(value: str, weight: float = 1.0) -> dict[str, Any]:
    return {"kind": "text", "value": value, "weight": weight}


def item(value: str, weight: float = 1.0) -> dict[str, Any]:
    return {"kind": "item", "value": value, "weight": weight}


def picture(content: bytes, weight: float = 1.0, name: str = "x.png") -> dict[str, Any]:
    return {"kind": "picture", "value": base64.b64encode(content).decode(), "name": name, "weight": weight}


def search(client: Any, *terms: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/search", json={"terms": list(terms), **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: Any, status: int, code: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]["code"] == code
    for word in words:
        assert word in answer.json()["error"]["message"]


def asked(world: ServeWorld, question: Question) -> list[tuple[str, float]]:
    """What the command line would answer."""
    index = Index.open(world.at.index("words"))
    encoder = QueryEncoder(index, RunOptions(device="cpu", threads=1, depot=str(world.root / "none")))
    return [(hit.item_id, hit.score) for hit in ask(index, question, encoder)]


def same(hits: list[dict[str, Any]], expected: list[tuple[str, float]]) -> None:
    assert [hit["item_id"] for hit in hits] == [item_id for item_id, _ in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.mark.parametrize("words", [KEY_TEXT, NEW_TEXT])
def test_words_find_what_the_command_finds(client: Any, world: ServeWorld, words: str) -> None:
    found = search(client, text(words), top=7)
    same(found["hits"], asked(world, Question((Term("text", words),), top=7)))
    assert found["query"]["stored_text"] == (words == KEY_TEXT)
    assert found["backbone"] == "words"
    assert found["n_searched"] == 24
    # Asked again, the vector is remembered.
    assert search(client, text(words), top=7)["hits"] == found["hits"]


def test_a_picture_finds_what_the_command_finds(client: Any, world: ServeWorld, ids: list[str]) -> None:
    content = Items(world.at.items).content(ids[5])
    path = world.root / "asked.png"
    path.write_bytes(content)
    expected = asked(world, Question((Term("image", str(path)),), top=5))
    same(search(client, picture(content), top=5)["hits"], expected)
    data_url = "data:image/png;base64," + base64.b64encode(content).decode()
    term = {"kind": "picture", "value": data_url}
    same(search(client, term, top=5)["hits"], expected)
    sent = client.post("/api/picture", files={"picture": ("a.png", content)}, data={"top": "5"})
    same(sent.json()["hits"], expected)


def test_items_by_numpy(client: Any, world: ServeWorld, ids: list[str]) -> None:
    """Scores are cosines with everything in the view; the items that are named are left out."""
    rows = unit(View(world.at.view("words")).embedding).astype(np.float64)
    scores = rows @ unit((2 * rows[0] + 0.5 * rows[1] - 0.25 * rows[2])[None])[0]
    order = [i for i in np.lexsort((np.arange(len(ids)), -scores)) if i > 2][:6]
    terms = (item(ids[0], 2), item(ids[1], 0.5), item(ids[2], -0.25))
    same(search(client, *terms, top=6)["hits"], [(ids[i], scores[i]) for i in order])
    with_named = search(client, item(ids[0]), top=1, leave_out_named=False)["hits"]
    same(with_named, [(ids[0], 1.0)])


def test_everything_at_once_as_the_command_would(client: Any, world: ServeWorld, ids: list[str]) -> None:
    conditions = [("category", "in", ["can", "lid"]), ("bbox_x", "between", [0, 80])]
    question = Question(
        (Term("text", KEY_TEXT, 1.0), Term("item", ids[3], -0.5)),
        top=4,
        conditions=tuple(Condition(*one) for one in conditions),
        unique=Thresholds(),
        others_only=True,
    )
    filters = [{"column": column, "op": op, "value": value} for column, op, value in conditions]
    found = search(client, text(KEY_TEXT), item(ids[3], -0.5), filters=filters, unique=True, top=4)
    same(found["hits"], asked(world, question))
    assert {hit["label"] for hit in found["hits"]} <= {"can", "lid"}


@pytest.mark.parametrize(
    ("column", "op", "value", "holds"),
    [
        ("category", "=", "can", lambda row: row["category"] == "can"),
        ("category", "!=", "can", lambda row: row["category"] != "can"),
        ("category", "contains", "I", lambda row: "i" in row["category"]),
        ("category", "starts with", "c", lambda row: row["category"].startswith("c")),
        ("category", "in", [], lambda row: False),
        ("bbox_x", ">=", 62, lambda row: row["bbox_x"] >= 62),
        ("annotation_id", "between", [3, 9], lambda row: 3 <= row["annotation_id"] <= 9),
        ("iscrowd", "=", False, lambda row: row["iscrowd"] is False),
        ("caption", "is null", None, lambda row: row["caption"] is None),
        ("caption", "is not null", None, lambda row: row["caption"] is not None),
    ],
)
def test_filters_without_terms_list_what_passes(
    client: Any, world: ServeWorld, column: str, op: str, value: Any, holds: Any
) -> None:
    """Expected: the same comparison in Python over the items' table."""
    rows = Items(world.at.items).table().to_pylist()
    expected = [row["item_id"] for row in rows if holds(row)]
    found = search(client, filters=[{"column": column, "op": op, "value": value}], top=100)
    assert [hit["item_id"] for hit in found["hits"]] == expected
    assert found["n_searched"] == len(expected)
    assert all(hit["score"] is None for hit in found["hits"])
    assert found["labels"] == []


def test_a_selection_is_a_filter_of_ids(client: Any, ids: list[str]) -> None:
    chosen = [ids[7], ids[2]] + [f"nobody/{i}" for i in range(4000)]
    found = search(client, text(NEW_TEXT), filters=[{"column": "item_id", "op": "in", "value": chosen}])
    assert {hit["item_id"] for hit in found["hits"]} == {ids[7], ids[2]}
    assert found["n_searched"] == 2


def test_nearest_labels_are_a_vote(client: Any, world: ServeWorld, ids: list[str]) -> None:
    """Softmax of cosine / 0.07 over the 20 nearest others, by hand."""
    rows = unit(View(world.at.view("words")).embedding).astype(np.float64)
    scores = rows @ rows[0]
    scores[0] = -2
    nearest = np.argsort(-scores)[:20]
    weights = np.exp(scores[nearest] / 0.07)
    labels = np.array(Items(world.at.items).column("category"))[nearest]
    expected = {name: weights[labels == name].sum() / weights.sum() for name in set(labels.tolist())}
    for fields in ({"top": 3}, {"top": 24}, {"top": 24, "unique": True}):
        found = search(client, item(ids[0]), **fields)["labels"]
        assert {one["label"]: one["share"] for one in found} == pytest.approx(expected, abs=1e-4)
        assert sum(one["n"] for one in found) == 20
        assert [one["share"] for one in found] == sorted((one["share"] for one in found), reverse=True)
    flat = search(client, item(ids[0]), labels="supercategory")
    assert {one["label"] for one in flat["labels"]} == {"round", "flat"}
    assert flat["hits"][0]["label"] in ("round", "flat")


def test_a_toy_is_told_and_never_asked_by_default_beside_a_real_one(
    world: ServeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without toys the first that knows words is asked: `words`; a toy that knows words comes after one that does not."""
    monkeypatch.setattr(setup, "toys_beside", lambda path: frozenset({"words"}))
    with serve_world.client(world.wanted(), loaded=False) as client:
        about = client.get("/api/about").json()
    assert {one["name"]: one["is_toy"] for one in about["backbones"]} == {"words": True, "mute": False}
    assert about["default_backbone"] == "mute"
    monkeypatch.setattr(setup, "toys_beside", lambda path: frozenset({"words", "mute"}))
    with serve_world.client(world.wanted(), loaded=False) as client:
        assert client.get("/api/about").json()["default_backbone"] == "words"


def test_about_tells_columns_and_limits(client: Any, world: ServeWorld) -> None:
    about = client.get("/api/about").json()
    assert (about["title"], about["items"], about["default_backbone"]) == ("Tiny", 24, "words")
    facts = {one["name"]: one for one in about["backbones"]}
    assert facts["words"]["family_has_text"] and not facts["mute"]["family_has_text"]
    assert facts["words"]["has_map"] and not facts["mute"]["has_map"]
    assert facts["words"]["dim"] == 6 and facts["words"]["kind"] == "flat"
    columns = {one["name"]: one for one in about["columns"]}
    assert columns["category"]["values"] == [["can", 8], ["cup", 8], ["lid", 8]]
    assert (columns["bbox_x"]["type"], columns["bbox_x"]["min"], columns["bbox_x"]["max"]) == (
        "number",
        8,
        89,
    )
    assert columns["iscrowd"]["type"] == "bool" and columns["caption"]["n_null"] == 24
    assert about["label_columns"] == ["category", "supercategory"]
    assert about["examples"] == ["can", "cup", "lid"]
    assert about["limits"]["upload_bytes"] == 200_000
    assert about["has_photographs"] is True
    for column in about["columns"]:
        for op in column["operators"]:
            value = {"number": 1, "date": "2020-01-01", "bool": True}.get(column["type"], "x")
            listed = [value, value] if op in ("in", "not in", "between") else value
            search(client, filters=[{"column": column["name"], "op": op, "value": listed}])


def test_an_item_and_its_photograph(client: Any, world: ServeWorld, ids: list[str]) -> None:
    found = client.get("/api/item", params={"id": ids[1]}).json()
    assert found["item_id"] == ids[1] and found["label"] == "cup"
    assert found["picture"] == {"width_px": 24, "height_px": 24}
    photograph = found["photograph"]
    assert photograph["box"] == [35, 10, 24, 24]
    assert (photograph["width_px"], photograph["height_px"]) == SIZE_PX
    assert [one["item_id"] for one in photograph["items"]] == [ids[0], ids[2], ids[3]]
    assert photograph["items"][0]["box"] == [8, 10, 24, 24]
    refused(client.get("/api/item", params={"id": "../../etc/passwd"}), 404, "unknown_item", "passwd")


def test_pictures_are_those_of_the_items(client: Any, world: ServeWorld, ids: list[str]) -> None:
    sent = client.get("/api/thumbnail", params={"id": ids[1]})
    assert sent.content == Items(world.at.items).content(ids[1])
    assert sent.headers["content-type"] == "image/png"
    again = client.get(
        "/api/thumbnail", params={"id": ids[1]}, headers={"if-none-match": sent.headers["etag"]}
    )
    assert again.status_code == 304 and again.content == b""
    whole = client.get("/api/photograph", params={"id": ids[1]})
    with Image.open(io.BytesIO(whole.content)) as image:
        assert image.size == SIZE_PX
    small = client.get("/api/photograph", params={"id": ids[1], "side": 64})
    with Image.open(io.BytesIO(small.content)) as image:
        assert image.size == (64, round(64 * SIZE_PX[1] / SIZE_PX[0]))
    for side in (31, 513, "x"):
        refused(client.get("/api/thumbnail", params={"id": ids[1], "side": side}), 422, "invalid", "side")
    for path in ("thumbnail", "photograph"):
        refused(client.get(f"/api/{path}", params={"id": "nobody"}), 404, "unknown_item")


def test_photographs_that_are_not_here(world: ServeWorld, ids: list[str]) -> None:
    empty = world.root / "no images"
    empty.mkdir(exist_ok=True)
    with serve_world.client(world.wanted(images=empty), loaded=False) as client:
        sent = client.get("/api/photograph", params={"id": ids[0]})
        refused(sent, 404, "no_photograph", "is missing")
    wanted = world.wanted(images=None)
    with serve_world.client(wanted, loaded=False) as client:
        refused(client.get("/api/photograph", params={"id": ids[0]}), 404, "no_photograph", "--images DIR")
        assert client.get("/api/about").json()["has_photographs"] is False
        assert client.get("/api/item", params={"id": ids[0]}).json()["photograph"] is None


def test_a_map_lies_in_the_unit_square(client: Any, world: ServeWorld, ids: list[str]) -> None:
    """Distances keep their ratios: against those of the table."""
    import pyarrow.parquet as pq

    table = pq.read_table(world.at.map("words"))
    for layout in ("tsne", "pca"):
        found = client.get("/api/map", params={"layout": layout}).json()
        assert found["layouts"] == ["tsne", "pca"] and found["ids"] == ids
        assert [found["classes"][label] for label in found["labels"]] == Items(world.at.items).column(
            "category"
        )
        places = np.column_stack([found["x"], found["y"]])
        assert places.min() >= 0 and places.max() <= 1 and np.ptp(places, axis=0).max() == pytest.approx(1)
        raw = np.column_stack([table[f"{layout}_{axis}"].to_numpy() for axis in "xy"])
        scale = np.ptp(raw, axis=0).max()
        expected = np.linalg.norm(raw[:1] - raw, axis=1) / scale
        assert np.linalg.norm(places[:1] - places, axis=1) == pytest.approx(expected, abs=2e-4)
    by_super = client.get("/api/map", params={"labels": "supercategory"}).json()
    assert by_super["classes"] == ["flat", "round"]
    refused(client.get("/api/map", params={"backbone": "mute"}), 404, "no_map")
    refused(client.get("/api/map", params={"layout": "umap"}), 404, "no_map", "tsne, pca")
    refused(client.get("/api/map", params={"backbone": "x"}), 404, "unknown_backbone", "words, mute")
    refused(client.get("/api/map", params={"labels": "phash"}), 400, "bad_request", "category")


def test_report_and_server_show_one_map(client: Any, world: ServeWorld) -> None:
    """Places and marks of every item, read from the report's drawing."""
    import re
    from xml.etree import ElementTree

    from deponij.pipeline.reports.embedding_map import embedding_map
    from deponij.pipeline.reports.palette import colour_of, marker_of
    from deponij.project.report.inputs import labels_of, read_embedding

    embedding, _ = read_embedding(world.at.map("words"))
    drawn = embedding_map(
        [embedding], embedding.ids.tolist(), labels_of(Items(world.at.items), "category"), "c"
    )
    for number, layout in enumerate(drawn.layouts):
        found = client.get("/api/map", params={"layout": layout.lower().replace("-", "")}).json()
        group = ElementTree.fromstring(drawn.svg).findall("g")[number]
        at = dict(zip(found["ids"], zip(found["x"], found["y"], found["labels"], strict=True), strict=True))
        n_seen = 0
        for path, rows in zip(group, drawn.rows, strict=True):
            places = re.findall(r"M(-?\d+) ?(-?\d+)", path.get("d"))
            for (x, y), row in zip(places, rows, strict=True):
                there_x, there_y, code = at[embedding.ids[row]]
                # 24 of 1000 are margin; the page has the same.
                assert [int(x), int(y)] == pytest.approx([24 + 952 * there_x, 24 + 952 * there_y], abs=1)
                assert colour_of(code) in path.get("class").split()
                assert marker_of(code)(10.0) in path.get("d")
                assert path.findtext("title") == found["classes"][code]
                n_seen += 1
        assert n_seen == len(found["ids"])


def test_the_page_gets_the_palette(client: Any) -> None:
    from deponij.pipeline.reports.palette import palette_css, palette_json

    assert client.get("/static/palette.css").text == palette_css()
    assert client.get("/static/palette.json").json() == palette_json()


def test_another_backbones_words(client: Any, ids: list[str]) -> None:
    assert search(client, item(ids[0]), backbone="mute")["backbone"] == "mute"
    answer = client.post("/api/search", json={"terms": [text("can")], "backbone": "mute"})
    refused(answer, 409, "no_text_tower", "choose words")


def test_while_a_model_is_loaded_items_and_stored_words_can_be_asked(
    world: ServeWorld, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, load = threading.Event(), QueryEncoder.load

    def slowly(encoder: QueryEncoder) -> None:
        go.wait(30)
        load(encoder)

    monkeypatch.setattr(QueryEncoder, "load", slowly)
    with serve_world.client(world.wanted(), loaded=False) as client:
        health = client.get("/api/health")
        assert health.status_code == 200 and health.json()["status"] == "loading"
        assert len(search(client, item(ids[0]), text(KEY_TEXT))["hits"]) == 23
        answer = client.post("/api/search", json={"terms": [text(NEW_TEXT)]})
        refused(answer, 409, "model_loading", "ask again")
        assert answer.headers["retry-after"] == "3"
        content = Items(world.at.items).content(ids[0])
        refused(client.post("/api/search", json={"terms": [picture(content)]}), 409, "model_loading")
        go.set()
        serve_world.wait_for(client.service)
        assert search(client, text(NEW_TEXT))["hits"]
        assert client.get("/api/health").json()["status"] == "ok"


def test_a_model_that_is_not_here_costs_only_what_needs_it(world: ServeWorld, ids: list[str]) -> None:
    wanted = world.wanted(
        specs=(f"words={world.root / 'nowhere'}", f"mute={world.root / 'models' / 'words'}")
    )
    with serve_world.client(wanted) as client:
        health = client.get("/api/health").json()
        assert health["status"] == "ok"
        assert [one["status"] for one in health["indexes"]] == ["failed", "failed"]
        assert "nowhere" in health["indexes"][0]["message"]
        # The other one is here, but is not the index's.
        assert "was not encoded as the index" in health["indexes"][1]["message"]
        assert search(client, item(ids[0]), text(KEY_TEXT))["hits"]
        refused(client.post("/api/search", json={"terms": [text(NEW_TEXT)]}), 409, "model_failed", "nowhere")
        assert client.get("/api/about").json()["backbones"][0]["status"] == "failed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"top": 0}', 422),
        ('{"top": 501}', 422),
        ('{"top": "3"}', 422),
        ('{"top": true}', 422),
        ('{"top": 1e400}', 422),
        ('{"top": ' + "9" * 4000 + "}", 422),
        ('{"top": ' + "9" * 5000 + "}", 400),
        ('{"nope": 1}', 422),
        ('{"terms": [{"kind": "text", "value": "  "}]}', 422),
        ('{"terms": [{"kind": "text", "value": "a", "weight": NaN}]}', 422),
        ('{"terms": [{"kind": "text", "value": "a", "weight": Infinity}]}', 422),
        ('{"terms": [{"kind": "text", "value": "a", "weight": 0}]}', 422),
        ('{"terms": [{"kind": "text", "value": "\\ud800"}]}', 422),
        ('{"terms": [{"kind": "item", "value": "a\\u0000b"}]}', 422),
        ('{"terms": [{"kind": "vector", "value": "/etc/passwd"}]}', 422),
        ('{"terms": [{"kind": "image", "value": "/etc/passwd"}]}', 422),
        ('{"terms": [' + ",".join(['{"kind": "item", "value": "x"}'] * 9) + "]}", 422),
        ('{"filters": [{"column": "\\ud800", "op": "=", "value": 1}]}', 422),
        ('{"filters": [{"column": "category", "op": "LIKE", "value": "x"}]}', 422),
        ('{"filters": [{"column": "category", "op": "=", "value": NaN}]}', 422),
        ('{"filters": [{"column": "category", "op": "=", "value": ' + "9" * 30 + "}]}", 400),
        ('{"filters": [{"column": "category", "op": "=", "value": 5}]}', 400),
        ('{"filters": [{"column": "category", "op": "in", "value": "x"}]}', 400),
        ('{"filters": [{"column": "bbox_x", "op": "between", "value": [1]}]}', 400),
        ('{"filters": [{"column": "bbox_x", "op": "=", "value": "1); DROP TABLE items"}]}', 400),
        ('{"filters": [{"column": "x\\" OR 1=1", "op": "=", "value": 1}]}', 400),
        ('{"filters": [' + ",".join([MANY] * 2) + "]}", 422),
        ('{"labels": "nope"}', 400),
        ('{"backbone": "nope"}', 404),
        ('{"terms": [{"kind": "item", "value": "../../x"}]}', 404),
        ("[" * 100_000, 400),
        ("{", 422),
        ("", 422),
        ("null", 422),
        ("\xff", 400),
    ],
)
def test_bad_requests_are_told(client: Any, body: str, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/api/search", content=body.encode("latin-1"), headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message"}
    assert len(answer.json()["error"]["message"]) < 1500


def test_terms_that_cancel(client: Any, ids: list[str]) -> None:
    answer = client.post("/api/search", json={"terms": [item(ids[0]), item(ids[0], -1)]})
    refused(answer, 400, "bad_request", "cancel")


def test_other_types_pages_and_methods(client: Any) -> None:
    for kind in ("text/plain", "application/xml", ""):
        answer = client.post("/api/search", content=b"{}", headers={"content-type": kind})
        refused(answer, 415, "unsupported_media_type", "application/json")
    refused(client.post("/api/picture", json={}), 415, "unsupported_media_type", "multipart")
    refused(client.get("/api/nothing"), 404, "not_found", "openapi.json")
    refused(client.get("/docs"), 404, "not_found")
    refused(client.get("/api/search"), 405, "method_not_allowed", "GET")
    refused(client.delete("/api/item"), 405, "method_not_allowed")


def test_metrics_count(client: Any, ids: list[str]) -> None:
    def value(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))

    name = 'deponij_requests_total{method="POST",route="/api/search",status="200"}'
    search(client, item(ids[0]))
    before = value(name)
    search(client, item(ids[0]))
    assert value(name) == before + 1
    assert value("process_resident_memory_bytes") > 1e6
    assert value("deponij_encoder_waiting") == 0
    # Addresses that somebody makes up do not become series.
    for i in range(3):
        client.get(f"/made/up/{i}")
    assert "made/up" not in client.get("/metrics").text


def test_the_api_describes_itself(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {"/api/search", "/api/picture", "/api/map", "/metrics", "/api/health"}
    assert "HTTPValidationError" not in json.dumps(document)
