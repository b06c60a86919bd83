"""How many near-duplicates that Deponij shows are none, and how many of planted ones it finds, on real photographs.

    .venv/bin/python benchmarks/near_duplicates.py DATA WORK            # figures; extracts once, half an hour on a CPU
    .venv/bin/python benchmarks/near_duplicates.py DATA WORK --sheets   # and the judged pairs as pictures, to judge anew

DATA has `cifar10/plain_text` (Hugging Face parquet) and `camvid` (folders of frames, `SEQUENCE_NUMBER.jpg`). Features are
EfficientNet-Lite0's. Shown pairs are those of `deponij duplicates`: a group's first item with each other member, in the
order of the answer. Whether a pair shows one photograph (cropped, recoloured, compressed, or another frame of the same
seconds) was judged by eye, and is kept in `near_duplicates_judged.csv`; frames of different sequences are none. In that
file are also pairs that are not shown: what the hash alone proposes at 8 bits, and the nearest across sequences.
"""

import argparse
import csv
import io
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from deponij.pipeline.likeness.pairs import Evidence, Likeness, Thresholds
from deponij.pipeline.metrics.intervals import wilson
from deponij.pipeline.reports.sheets import INK, Block, Tile, draw_sheet
from deponij.project.thumbnails import images_of
from deponij.services.curate.collection import Gathered, Where
from deponij.services.curate.duplicates import DuplicatesParams, DuplicatesReport, run
from deponij.store.items import Items

JUDGED = Path(__file__).with_name("near_duplicates_judged.csv")
N_TRAIN, N_SHOWN = 15_000, 100
SETS = ("cifar10", "camvid")
Picture = Image.Image


def _jpeg(image: Picture) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def _cropped(image: Picture, share: float) -> Picture:
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def _marked(image: Picture) -> Picture:
    marked, side = image.copy(), max(6, image.height // 8)
    at = (image.width * 0.05, image.height - 1.5 * side)
    ImageDraw.Draw(marked).text(at, "(c) 2026", font=ImageFont.load_default(side), fill=(255, 255, 255))
    return marked


EDITS: dict[str, Callable[[Picture], Picture]] = {
    "original": lambda image: image,
    "jpeg60": _jpeg,
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "crop5": lambda image: _cropped(image, 0.05),
    "crop10": lambda image: _cropped(image, 0.10),
    "bright130": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "dark70": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mark": _marked,
    "rotate3": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
    "mirror": ImageOps.mirror,
}


def deponij(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "deponij.cli", *map(str, arguments)], check=True)


def made(work: Path, name: str, *source: object) -> tuple[Path, Path]:
    """View and items of one set; nothing is made twice."""
    items, view = work / f"{name}_items", work / f"{name}.h5"
    if not view.is_file():
        deponij("items", *source, "--out", items)
        deponij(
            *("extract", "--items", items, "--backbone", "efficientnet-lite0"),
            *("--out", view, "--depot", work / "depot"),
        )
    return view, items


def cifar10(data: Path, work: Path) -> tuple[Path, Path]:
    """The test part and the first of the training part."""
    folder, some = data / "cifar10/plain_text", work / "train15.parquet"
    if not some.is_file():
        pq.write_table(pq.read_table(folder / "train-00000-of-00001.parquet").slice(0, N_TRAIN), some)
    return made(work, "cifar10", "--parquet", some, "--parquet", folder / "test-00000-of-00001.parquet")


def frames(data: Path) -> list[Path]:
    return [path for part in ("test", "train", "val") for path in sorted((data / "camvid" / part).iterdir())]


def camvid(data: Path, work: Path) -> tuple[Path, Path]:
    """All frames; the label is the sequence."""
    table = work / "camvid.csv"
    rows = [(path, path.name.split("_")[0]) for path in frames(data)]
    _write(table, ("path", "label"), rows)
    return made(work, "camvid", "--table", table, "--images", data / "camvid")


def originals(data: Path, name: str) -> Iterator[tuple[str, Picture]]:
    rng = np.random.default_rng(0)
    table = pq.read_table(data / "cifar10/plain_text/test-00000-of-00001.parquet")
    rows = sorted(rng.choice(len(table), 300, replace=False).tolist())
    if name == "cifar10":
        for row in rows:
            yield f"c{row}", Image.open(io.BytesIO(table["img"][row].as_py()["bytes"])).convert("RGB")
        return
    paths = sorted(frames(data))
    for row in sorted(rng.choice(len(paths), 100, replace=False).tolist()):
        yield paths[row].stem, Image.open(paths[row]).convert("RGB")


def planted(data: Path, work: Path, name: str) -> tuple[Path, Path]:
    """Originals and a copy by each edit, as PNG."""
    folder, rows = work / f"{name}_planted", []
    if not folder.is_dir():
        for stem, image in originals(data, name):
            for edit, change in EDITS.items():
                path = folder / edit / f"{stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                change(image).save(path)
                rows.append((path, stem))
        _write(work / f"{name}_planted.csv", ("path", "label"), rows)
    return made(work, f"{name}_planted", "--table", work / f"{name}_planted.csv", "--images", folder)


def _write(path: Path, names: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *rows])


def shown_pairs(report: DuplicatesReport) -> list[tuple[str, str]]:
    """As the answer shows them."""
    return [(group.members[0].item_id, one.item_id) for group in report.groups for one in group.members[1:]]


def read_judged() -> dict[tuple[str, frozenset[str]], bool]:
    with JUDGED.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {(row["set"], frozenset((row["a"], row["b"]))): row["same"] == "yes" for row in rows}


def tell_precision(name: str, what: str, pairs: list[tuple[str, str]]) -> None:
    judged = read_judged()
    known = [judged[key] for pair in pairs if (key := (name, frozenset(pair))) in judged]
    if not known:
        print(f"{name}: {what}: {len(pairs)} pairs, none of them judged")
        return
    none = known.count(False)
    bounds = wilson(none / len(known), len(known))
    print(
        f"{name}: {what}: {len(pairs)} pairs, {len(known)} judged, {none} are none: {none / len(known):.1%} "
        f"[{bounds[0]:.1%}, {bounds[1]:.1%}]"
    )


def tell_recall(name: str, view: Path, items: Path) -> None:
    found = Gathered(Where(view, items))
    row_of = {tuple(Path(item_id.split("#")[0]).parts[-2:]): row for row, item_id in enumerate(found.ids)}
    stems = sorted({stem for _, stem in row_of})
    phash_of = dict(zip(Items(items).ids, Items(items).column("phash"), strict=True))
    bare = Evidence(found.keys, [phash_of[item_id] for item_id in found.ids])
    rules = {
        "as shown": Likeness(found.evidence),
        "hash alone, 4 bits": Likeness(bare),
        "hash alone, 8 bits": Likeness(bare, how=Thresholds(8)),
    }
    print(f"{name}: planted copies found of {len(stems)} each, in percent: {', '.join(rules)}")
    for edit in list(EDITS)[1:]:
        rows = [(row_of["original", stem], np.array([row_of[edit, stem]])) for stem in stems]
        shares = [np.mean([bool(rule.links(a, b)[0].how) for a, b in rows]) for rule in rules.values()]
        print(f"  {edit:12}" + "".join(f"{share:8.0%}" for share in shares))


def across_sequences(found: Gathered, n: int) -> list[tuple[str, str]]:
    """The n pairs of different sequences with the highest cosine, and the n with the nearest hashes."""
    likeness, every = Likeness(found.evidence), slice(0, len(found))
    cosines, bits = likeness.cosines(every, every), likeness.bits(every, every)
    assert cosines is not None and bits is not None and found.labels is not None
    sequences = np.array(found.labels)
    wanted = np.triu(sequences[:, None] != sequences, 1)
    a, b = np.nonzero(wanted)
    orders = np.argsort(-cosines[wanted], kind="stable")[:n], np.argsort(bits[wanted], kind="stable")[:n]
    return [(found.ids[a[i]], found.ids[b[i]]) for order in orders for i in order]


def by_hash(items: Path, bits: int) -> list[tuple[str, str]]:
    report = run(DuplicatesParams(max_bits=bits), Gathered(Where(None, items)))
    return shown_pairs(report)


def draw(path: Path, items: Path, pairs: list[tuple[str, str]]) -> None:
    table = Items(items)
    images = images_of(table, {one for pair in pairs for one in pair})
    judged = read_judged() if JUDGED.is_file() else {}
    for start in range(0, len(pairs), 60):
        blocks = []
        for number, pair in enumerate(pairs[start : start + 60], start):
            verdict = next((same for (_, key), same in judged.items() if key == frozenset(pair)), None)
            told = {None: "?", True: "same", False: "none"}[verdict]
            tiles = tuple(Tile(images.get(one), ((one.split("/")[-1], INK),)) for one in pair)
            blocks.append(Block(tiles, f"{number}: {told}"))
        path.with_stem(f"{path.stem}-{start}").write_bytes(
            draw_sheet(blocks, path.stem, str(items), "No pairs.")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sheets", action="store_true", help="write the pairs as pictures into WORK")
    options = parser.parse_args()
    data, work = options.data, options.work
    work.mkdir(parents=True, exist_ok=True)
    for name, maker in zip(SETS, (cifar10, camvid), strict=True):
        view, items = maker(data, work)
        report = run(DuplicatesParams(), Gathered(Where(view, items)))
        pairs = {
            "shown": shown_pairs(report)[:N_SHOWN],
            "all that can be shown": shown_pairs(report),
            "by hash alone, 4 bits": by_hash(items, 4),
            "by hash alone, 8 bits": by_hash(items, 8),
        }
        if name == "camvid":
            found = Gathered(Where(view, items, {}, "label"))
            sequence_of = dict(zip(found.ids, found.labels or [], strict=True))
            n_across = sum(sequence_of[a] != sequence_of[b] for a, b in shown_pairs(report))
            print(
                f"{name}: {n_across} of {len(pairs['all that can be shown'])} pairs are of different sequences"
            )
            pairs["nearest of different sequences"] = across_sequences(found, N_SHOWN // 2)
        for what, some in pairs.items():
            tell_precision(name, what, some)
            if options.sheets:
                draw(work / f"{name} {what}.png", items, some)
        tell_recall(name, *planted(data, work, name))


if __name__ == "__main__":
    main()
