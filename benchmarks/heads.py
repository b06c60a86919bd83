"""Training many heads as one computation, against one after another.

    python benchmarks/heads.py [--threads 2] [--quick] [--json FILE]

The data are Gaussian clusters with the counts of TACO's classes, 3,823 x 768 to learn from and 478 to
validate on, with 10 and with 56 classes. Every side learns by the same recipe: AdamW, batch 32, cosine by
epoch to 1e-6, validation after each epoch, no early stop. Sides take turns; of several rounds the fastest
counts. Seconds are per head.

(a) the plain loop: for each head a DataLoader over a TensorDataset, nn.Module, autograd, torch.optim.AdamW,
    CosineAnnealingLR; (b) scikit-learn's LogisticRegression, one fit; (c) for the MLP grid the rate of
    torch.bmm of the same shapes: forward and backward products of both layers, on as many threads.

What limits, by processor time on one AMD core with AVX-512 (about 95 GFLOP/s of such products): a step of 16
linear heads of 10 classes takes 0.36 ms, of which 53 % are the two matrix products, 25 % AdamW, 6 % the
softmax; of 8 heads of 56 classes 0.74 ms: 66 % products, 20 % AdamW. Of an MLP head's 1.06 ms 67 % are
products, 16 % AdamW, 6 % GELU and softmax. AdamW moves 28 bytes for each weight, so that it is as fast as
the cache; more heads a chunk leave it. Of the products nothing is left to gain but their number: the step
has one forward and one backward, as many as there must be.

Both cores must be idle: the batched side uses both, and so loses twice what another process takes.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from clusters import TACO56, Clusters
from figures import Line, parser, reaching, report, timed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deponij.pipeline.heads.gradient.grid import GridPoint, Recipe, fit_grid
from deponij.pipeline.heads.gradient.head import GradientHead as Head

N_TRAIN, N_VAL, N_TEST, DIM = 3823, 478, 4000, 768
LRS = tuple(float(lr) for lr in np.geomspace(1e-4, 1e-2, 8))
DECAYS = (0.0, 1e-3, 1e-2, 1e-1)
HIDDEN = 512


@dataclass(frozen=True)
class Data:
    """Features and class numbers of all parts; the first rows are for training, the next for validation."""

    x: NDArray[np.float32]
    codes: NDArray[np.int64]
    names: NDArray[np.str_]
    best: float

    @property
    def train(self) -> slice:
        return slice(0, N_TRAIN)

    @property
    def val(self) -> slice:
        return slice(N_TRAIN, N_TRAIN + N_VAL)

    @property
    def test(self) -> slice:
        return slice(N_TRAIN + N_VAL, None)


def make_data(n_classes: int) -> Data:
    """Clusters of the most frequent classes, the rest as one where there are fewer than 56."""
    counts = np.sort(np.array(list(TACO56.values())))[::-1]
    if n_classes < len(counts):
        counts = np.append(counts[: n_classes - 1], counts[n_classes - 1 :].sum())
    clusters = Clusters.made(counts, DIM, 6.0, seed=0)
    rng = np.random.default_rng(1)
    codes = rng.choice(len(counts), size=N_TRAIN + N_VAL + N_TEST, p=clusters.priors)
    codes[: len(counts)] = np.arange(len(counts))
    names = np.array([f"{code:02}" for code in codes])
    return Data(clusters.features(codes, 2), codes, names, clusters.bayes_accuracy())


def points(kind: str, seeds: int = 1) -> list[GridPoint]:
    """8 learning rates x 4 weight decays; the first heads are those that the plain loop trains too."""
    return [
        GridPoint("x", "y", kind, lr, decay, seed) for seed in range(seeds) for lr in LRS for decay in DECAYS
    ]


# ------------------------------------------------------------------ the sides


def batched(data: Data, grid: list[GridPoint], recipe: Recipe, threads: int) -> list[Head]:
    """The grid as one computation."""
    rows = np.arange(N_TRAIN + N_VAL)
    x, names = data.x[: N_TRAIN + N_VAL], data.names[: N_TRAIN + N_VAL]
    train, val = rows[data.train], rows[data.val]
    return list(fit_grid(grid, {"x": x}, {"y": names}, train, val, recipe, threads=threads))


def top1(data: Data, head: Head) -> float:
    """Accuracy on test items."""
    return float((head.predict(data.x[data.test]) == data.names[data.test]).mean())


def plain(data: Data, point: GridPoint, recipe: Recipe) -> nn.Module:
    """One head as docs/taco.md describes it; the weights of the lowest validation loss are kept."""
    torch.manual_seed(point.seed)
    n_classes = int(data.codes.max()) + 1
    model: nn.Module = nn.Linear(DIM, n_classes)
    if point.kind == "mlp":
        model = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, n_classes))
    x, codes = torch.from_numpy(data.x), torch.from_numpy(data.codes)
    loader = DataLoader(TensorDataset(x[data.train], codes[data.train]), recipe.batch, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[data.val], codes[data.val]), recipe.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=point.lr, weight_decay=point.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs, recipe.final_lr)
    criterion = nn.CrossEntropyLoss()
    best, state = float("inf"), model.state_dict()
    for _ in range(recipe.epochs):
        for inputs, truth in loader:
            optimiser.zero_grad()
            criterion(model(inputs), truth).backward()
            optimiser.step()
        scheduler.step()
        with torch.no_grad():
            losses = [criterion(model(inputs), truth) * len(truth) for inputs, truth in val_loader]
        loss = float(torch.stack(losses).sum()) / N_VAL
        if loss < best:
            best, state = loss, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def plain_top1(data: Data, model: nn.Module) -> float:
    """Accuracy on test items."""
    with torch.no_grad():
        answers = model(torch.from_numpy(data.x[data.test])).argmax(1).numpy()
    return float((answers == data.codes[data.test]).mean())


def sklearn_fit(data: Data) -> LogisticRegression:
    """One logistic regression."""
    return LogisticRegression(C=0.01, max_iter=1000).fit(data.x[data.train], data.names[data.train])


def bmm_rate(n_heads: int, n_classes: int, threads: int, seconds: float) -> float:
    """Multiplications and additions a second of an MLP's products with torch.bmm, all threads together."""
    n_steps = [0] * threads
    stop = time.perf_counter() + seconds

    def work(worker: int) -> None:
        torch.set_num_threads(1)
        x, back = torch.randn(n_heads, 32, DIM), torch.randn(n_heads, 32, HIDDEN)
        first, second = torch.randn(n_heads, HIDDEN, DIM), torch.randn(n_heads, n_classes, HIDDEN)
        hidden, errors = torch.randn(n_heads, 32, HIDDEN), torch.randn(n_heads, 32, n_classes)
        while time.perf_counter() < stop:
            torch.bmm(x, first.mT)
            torch.bmm(hidden, second.mT)
            torch.bmm(errors, second)
            torch.bmm(errors.mT, hidden)
            torch.bmm(back.mT, x)
            n_steps[worker] += 1

    before = torch.get_num_threads()
    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.set_num_threads(before)
    return sum(n_steps) * n_heads * mlp_operations(n_classes, 32) / seconds


def mlp_operations(n_classes: int, batch: int) -> float:
    """Multiplications and additions of one step of one MLP head's products."""
    return 2.0 * batch * (2 * DIM * HIDDEN + 3 * HIDDEN * n_classes)


# ------------------------------------------------------------------ measuring


def linear_lines(n_classes: int, target: float, args: argparse.Namespace) -> Iterator[Line]:
    """The linear grid against the plain loop and scikit-learn; how many times faster it is, and what all reach."""
    data = make_data(n_classes)
    recipe = Recipe(epochs=args.epochs, patience=None)
    grid = points("linear")
    # Of the middle decay two rates; what they are makes no difference to the time.
    shared = [point for point in grid if point.weight_decay == DECAYS[2]][3::3][: args.plain_heads]
    ours, theirs, sklearn = [], [], []
    for _ in range(args.rounds):
        seconds, heads = timed(batched, data, grid, recipe, args.threads)
        ours.append(seconds / len(grid))
        models = []
        for point in shared:
            # A head is so small that one thread may be faster than two; the better one counts.
            for threads in {1, args.threads}:
                torch.set_num_threads(threads)
                seconds, model = timed(plain, data, point, recipe)
                theirs.append(seconds)
            models.append(model)
        seconds, regression = timed(sklearn_fit, data)
        sklearn.append(seconds)
    of_point = dict(zip(grid, heads, strict=True))
    what, best = f"linear, {n_classes} classes", min(ours)
    yield Line(f"{what}, {len(grid)} heads", 1e3 * best, "ms/head")
    yield reaching(f"{what}: against (a) plain loop", min(theirs) / best, "x", target)
    yield Line(f"{what}: against (b) scikit-learn", min(sklearn) / best, "x")
    many = points("linear", seeds=args.seeds)
    seconds, _ = timed(batched, data, many, recipe, args.threads)
    yield Line(f"{what}, {len(many)} heads of {args.seeds} seeds", 1e3 * seconds / len(many), "ms/head")
    # What tables train: of each seed one head.
    alone = [one for one in many if (one.lr, one.weight_decay) == (LRS[0], DECAYS[0])]
    seconds, _ = timed(batched, data, alone, recipe, args.threads)
    yield Line(f"{what}, {len(alone)} heads, one of a seed", 1e3 * seconds / len(alone), "ms/head")
    reached = {
        "the heads of (a)": np.mean([top1(data, of_point[point]) for point in shared]),
        "(a) plain loop": np.mean([plain_top1(data, model) for model in models]),
        "the best of the grid": top1(data, min(heads, key=lambda head: head.val_loss_)),
        "(b) scikit-learn": regression.score(data.x[data.test], data.names[data.test]),
        "the optimum": data.best,
    }
    for name, share in reached.items():
        yield Line(f"{what}: top-1 of {name}", 100 * float(share), "%")


def mlp_lines(n_classes: int, args: argparse.Namespace) -> Iterator[Line]:
    """The MLP grid's rate of multiplications and additions against that of the bare products.

    Operations are those of training and validation products only; the optimiser's time counts, its operations do not.
    """
    data = make_data(n_classes)
    grid = points("mlp")[: args.mlp_heads]
    recipe = Recipe(epochs=args.mlp_epochs, patience=None)
    forward = mlp_operations(n_classes, 1) * (DIM + n_classes) / (2 * DIM + 3 * n_classes)
    operations = len(grid) * recipe.epochs * (N_TRAIN * mlp_operations(n_classes, 1) + N_VAL * forward)
    rates, bare = [], []
    for _ in range(args.rounds):
        bare.append(bmm_rate(1, n_classes, args.threads, args.bmm_seconds))
        seconds, _ = timed(batched, data, grid, recipe, args.threads)
        rates.append(operations / seconds)
    what = f"MLP, {n_classes} classes, {len(grid)} heads"
    yield Line(what, max(rates) / 1e9, "GFLOP/s")
    yield Line(f"{what}: (c) torch.bmm", max(bare) / 1e9, "GFLOP/s")
    yield reaching(f"{what}: share of (c)", max(rates) / max(bare), "", 0.4)


def measured(args: argparse.Namespace) -> Iterator[Line]:
    """All figures."""
    with threadpool_limits(limits=args.threads):
        for n_classes, target in ((10, 20.0), (56, 8.0)):
            yield from linear_lines(n_classes, target, args)
        for n_classes in (10, 56):
            yield from mlp_lines(n_classes, args)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--epochs", type=int, default=20)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--plain-heads", type=int, default=2, help="how many the plain loop trains")
    flags.add_argument("--seeds", type=int, default=5, help="of the larger linear grid")
    flags.add_argument("--mlp-heads", type=int, default=32)
    flags.add_argument("--mlp-epochs", type=int, default=3)
    flags.add_argument("--bmm-seconds", type=float, default=3.0)
    flags.add_argument("--quick", action="store_true", help="few epochs and heads, one round")
    args = flags.parse_args()
    if args.quick:
        args.epochs, args.rounds, args.seeds, args.mlp_heads, args.mlp_epochs = 3, 1, 2, 4, 1
    torch.set_num_threads(args.threads)
    missed = report(measured(args), args.json, threads=args.threads, quick=args.quick)
    return 0 if args.quick else missed


if __name__ == "__main__":
    raise SystemExit(main())
