"""An epoch of learning a decoder from stored maps against the same epoch with the frozen encoder run on the fly.

    python benchmarks/segmentation.py [--pictures 24] [--rounds 3] [--threads 1] [--shared ../shared | --drawn]

The encoder has ConvNeXt-Base's size (88 million weights, an open_clip folder with a projection to 640) and random weights:
its arithmetic is that of the real one. Both sides are the project's own training of one epoch, on the same pictures in the
same batches, none mirrored, from the same drawn weights: `StoredScenes` reads float16 maps out of a depot, whose pages were
given back to the system before; `PictureScenes` sees the pictures, which stay decoded, and the encoder runs without a graph
before the decoder's step (`learns="none"`). That both learn from the same is seen by their losses, which are printed.

An epoch's time is in proportion to its pictures, so that a few say it: seconds a picture. The sides are measured in turns,
so that what else the machine does weighs on both; figures are medians of the rounds, a ratio is one of its own round.

`linear` and `lseg` are light beside the encoder. SwiftNet's decoder of 15 million weights costs more than the encoder, and
no store can bring an epoch to more than an epoch on the fly over its own steps alone, as if reading took no time: the
bound beside each ratio.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.project.frame.allocator import keep_pages

keep_pages()

import numpy as np  # noqa: E402
from extract import make_clip  # noqa: E402
from figures import Line, drawn, parser, reaching, report  # noqa: E402
from PIL import Image  # noqa: E402
from reading import evict  # noqa: E402

from deponij.pipeline.decoders.decoder import numbers_of  # noqa: E402
from deponij.pipeline.decoders.whole import WholeNetwork  # noqa: E402
from deponij.pipeline.training.loop import Training, train  # noqa: E402
from deponij.pipeline.training.params import TrainingParams  # noqa: E402
from deponij.project.frame.device import pick_device  # noqa: E402
from deponij.project.frame.settings import RunOptions  # noqa: E402
from deponij.project.segmentation.learn import Asked, levels_of, task_of  # noqa: E402
from deponij.project.segmentation.params import DecodersParams  # noqa: E402
from deponij.project.segmentation.pictures import PictureScenes  # noqa: E402
from deponij.project.segmentation.sources import SceneSource, StoredScenes  # noqa: E402
from deponij.project.segmentation.whole import Encoder, encoder_of  # noqa: E402
from deponij.stages import extract_dense, scenes  # noqa: E402

INPUT_PX = (360, 480)
WIDTH = 640
CONVNEXT: dict[str, Any] = {
    "embed_dim": WIDTH,
    "vision_cfg": {
        "timm_model_name": "convnext_base",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "timm_drop": 0.0,
        "timm_drop_path": 0.0,
        "image_size": 256,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
# The ratio that the store must reach; None where the decoder's own step bounds it.
DECODERS: dict[str, float | None] = {"linear": 3.0, "lseg": 3.0, "swiftnet": None}
_N_WARMING = 2


@dataclass(frozen=True)
class Epoch:
    """Seconds a picture of one epoch: whole, waiting for what is learned from, on steps, and of these in the encoder."""

    whole_s: float
    waited_s: float
    computed_s: float
    encoded_s: float
    loss: float


class Clock:
    """Seconds that an encoder takes, by hooks around its forward pass."""

    def __init__(self, encoder: Encoder) -> None:
        self.seconds = self._begin = 0.0
        encoder.module.register_forward_pre_hook(self._started)
        encoder.module.register_forward_hook(self._ended)

    def _started(self, *_: object) -> None:
        self._begin = _now()

    def _ended(self, *_: object) -> None:
        self.seconds += _now() - self._begin


def _now() -> float:
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Sides:
    """What both sides learn from.

    Attributes:
        files: of the depot, whose pages are given back before each epoch.
    """

    stored: StoredScenes
    pictures: PictureScenes
    encoder: Encoder
    clock: Clock
    files: list[Path]


def camvid(shared: Path, folder: Path, n: int) -> None:
    """Some of CamVid's pictures to learn from, evenly spread."""
    found = sorted((shared / "data" / "camvid" / "train").iterdir())
    for place in range(n):
        picture = found[place * len(found) // n]
        labels = (picture.parents[1] / "trainannot" / picture.name).with_suffix(".png")
        for source in (picture, labels):
            target = folder / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def made_up(folder: Path, n: int) -> None:
    """Drawn pictures in CamVid's layout, with label maps of patches."""
    height, width = INPUT_PX
    for name in ("train", "trainannot"):
        (folder / name).mkdir(parents=True)
    for number in range(n):
        drawn(number, (width, height)).save(folder / "train" / f"{number:04}.png")
        patches = np.random.default_rng(number).integers(0, 12, (9, 12), np.uint8)
        labels = Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
        labels.save(folder / "trainannot" / f"{number:04}.png")


def both_sides(args: argparse.Namespace, folder: Path) -> Sides:
    """Scenes, the encoder, and its maps in a depot."""
    data, told = folder / "data", {"folder": folder / "data", "classes": "camvid", "layout": "segnet"}
    made_up(data, args.pictures) if args.drawn else camvid(args.shared, data, args.pictures)
    options = RunOptions(depot=str(folder / "depot"), device=args.device, threads=args.threads, batch_size=4)
    scenes.run("label-maps", told, out=folder / "scenes", run_options=options)
    spec = str(make_clip(folder / "convnext-base", CONVNEXT))
    params = extract_dense.DenseParams(spec=spec, kind="pyramid@4", input_px=INPUT_PX, words=False)
    views = {name: folder / f"{name}.h5" for name in ("out", "flip_out", "words_out")}
    extract_dense.run(params, "convnext-base", scenes=folder / "scenes", **views, options=options)
    stored = StoredScenes.open(folder / "scenes", views["out"], None, options.depot)
    encoder = encoder_of(spec, INPUT_PX, "none")
    pictures = PictureScenes(stored.scenes, encoder.transform, encoder.levels[-1].stride_px)
    # The same pictures on both sides: mirrored maps are not stored here, and would be read like the others.
    pictures.mirrors = False
    files = sorted((folder / "depot").glob("**/*.h5"))
    return Sides(stored, pictures, encoder, Clock(encoder), files)


def epoch(name: str, sides: Sides, source: SceneSource, n: int, args: argparse.Namespace) -> Epoch:
    """One epoch from one of the sides, by a decoder that begins anew."""
    import torch

    asked = Asked(
        name, name, "names", {}, TrainingParams(epochs=1, batch_size=args.batch_size, keep="last", lr=1e-4)
    )
    torch.manual_seed(0)
    n_classes = len(source.scenes.classes)
    vectors = torch.nn.functional.normalize(torch.randn(n_classes, WIDTH), dim=1)
    model = asked.decoder.build(
        levels_of(sides.stored), n_classes, vectors if asked.decoder.uses_words else None
    )
    if source is sides.pictures:
        model = WholeNetwork(sides.encoder.module, model)
    task = task_of(asked, DecodersParams(window_px=args.window), source, model, name)
    task.ids = task.ids[:n]
    evict(sides.files)
    sides.clock.seconds = 0.0
    trained: Training = train(task, asked.training, device=pick_device(args.device), n_threads=args.threads)
    return Epoch(
        trained.seconds / n,
        trained.waited_s / n,
        trained.computed_s / n,
        sides.clock.seconds / n,
        trained.history[0].loss,
    )


def measured(name: str, sides: Sides, args: argparse.Namespace) -> Iterator[Line | str]:
    """Figures of one decoder, and its row of the table last."""
    n = args.heavy_pictures if DECODERS[name] is None else args.pictures
    for source in (sides.stored, sides.pictures):
        epoch(name, sides, source, _N_WARMING, args)
    rounds = [
        tuple(epoch(name, sides, source, n, args) for source in (sides.stored, sides.pictures))
        for _ in range(args.rounds)
    ]

    def usual(side: int, what: str) -> float:
        return statistics.median(float(getattr(one[side], what)) for one in rounds)

    ratios = [fly.whole_s / stored.whole_s for stored, fly in rounds]
    # Were stored maps there without any reading.
    bound = statistics.median(fly.whole_s / stored.computed_s for stored, fly in rounds)
    ratio = statistics.median(ratios)
    of_reading = usual(0, "waited_s") / usual(0, "whole_s")
    of_encoder = usual(1, "encoded_s") / usual(1, "whole_s")
    yield Line(f"{name}: pictures an epoch", n)
    yield Line(f"{name}: stored", usual(0, "whole_s"), "s/picture")
    yield Line(f"{name}: stored, waiting for maps", 100 * of_reading, "%")
    yield Line(f"{name}: stored, computing", 100 * usual(0, "computed_s") / usual(0, "whole_s"), "%")
    yield Line(f"{name}: on the fly", usual(1, "whole_s"), "s/picture")
    yield Line(f"{name}: on the fly, in the encoder", 100 * of_encoder, "%")
    yield Line(f"{name}: loss, stored", rounds[0][0].loss)
    yield Line(f"{name}: loss, on the fly", rounds[0][1].loss)
    yield reaching(f"{name}: on the fly over stored", ratio, "", DECODERS[name])
    yield Line(f"{name}: its bound", bound)
    yield (
        f"| `{name}` | {_weights(name, sides):,} | {usual(0, 'whole_s'):.3g} s | {100 * of_reading:.0f} % | "
        f"{usual(1, 'whole_s'):.3g} s | {100 * of_encoder:.0f} % | {ratio:.1f} ({min(ratios):.1f}–{max(ratios):.1f}) | "
        f"{bound:.1f} |"
    )


def _weights(name: str, sides: Sides) -> int:
    import torch

    from deponij.project.segmentation.learn import make_decoder

    decoder, n_classes = make_decoder(name, {}), len(sides.stored.scenes.classes)
    vectors = torch.eye(WIDTH)[:n_classes] if decoder.uses_words else None
    return numbers_of(decoder.build(levels_of(sides.stored), n_classes, vectors))


def all_decoders(args: argparse.Namespace, rows: list[str]) -> Iterator[Line]:
    """Figures of each decoder."""
    with tempfile.TemporaryDirectory(prefix="deponij-bench-", dir=args.folder) as folder:
        sides = both_sides(args, Path(folder))
        yield Line(
            "encoder's weights", sum(one.numel() for one in sides.encoder.module.parameters()) / 1e6, "M"
        )
        yield Line("maps of a picture", sum(v.nbytes for v in _maps(sides).values()) / 1e6, "MB")
        for name in args.only.split(","):
            for found in measured(name, sides, args):
                if isinstance(found, Line):
                    yield found
                else:
                    rows.append(found)


def _maps(sides: Sides) -> dict[str, Any]:
    return dict(sides.stored.plain.read([str(sides.stored.view.ids[0])]))


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--shared", type=Path, default=Path("../shared"))
    flags.add_argument("--drawn", action="store_true", help="drawn pictures instead of CamVid's")
    flags.add_argument(
        "--folder", type=Path, help="where the depot is made; by default the system's for such"
    )
    flags.add_argument("--only", default=",".join(DECODERS))
    flags.add_argument("--pictures", type=int, default=24)
    flags.add_argument("--heavy-pictures", type=int, default=8, help="for swiftnet")
    flags.add_argument(
        "--window", type=int, nargs=2, help="height and width of windows; whole pictures by default"
    )
    flags.add_argument("--batch-size", type=int, default=4)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--threads", type=int, default=1)
    args = flags.parse_args()
    rows: list[str] = []
    facts = {name: getattr(args, name) for name in ("pictures", "batch_size", "window", "rounds", "threads")}
    missed = report(all_decoders(args, rows), args.json, **facts)
    print(
        "\n| decoder | weights | stored, a picture | of it waiting | on the fly | of it the encoder | ratio | bound |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    print("\n".join(rows))
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
