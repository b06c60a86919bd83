"""The mini that sees whole scenes: what it learns from, its objective, its four stages, and the words of its positions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.tuning.losses import clip_loss
from deponij.sample.minis import models, train
from deponij.sample.minis.objectives import cell_loss, pooled, region_loss
from deponij.sample.minis.scenes import SCENE_PX, Seen, Windows, ground_words, training_scenes
from deponij.sample.minis.steps import Run
from deponij.sample.painter import CATEGORIES, render
from deponij.sample.painter.ground import GROUNDS

NAME, SIDE = "mini-convnext", 256


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    return training_scenes(77, 3, workers=1)


def unit(n: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_scenes_repeat_and_their_regions_are_their_objects(seen: list[Seen]) -> None:
    again = training_scenes(77, 3, workers=1)
    for one, other in zip(seen, again, strict=True):
        assert one.picture.shape == (SCENE_PX, SCENE_PX, 3) and one.regions.shape == (SCENE_PX, SCENE_PX)
        assert np.array_equal(one.picture, other.picture) and np.array_equal(one.regions, other.regions)
        assert one.ground in GROUNDS
        assert set(np.unique(one.regions)) <= set(range(len(one.crops) + 1))


def test_windows_show_pictures_and_regions_of_the_same_place() -> None:
    """A picture that is white where its region is 1: both ways it says the same, but for pixels on the border."""
    regions = torch.zeros(8, SCENE_PX, SCENE_PX, dtype=torch.uint8)
    regions[:, 40:180, 90:200] = 1
    pictures = (255 * regions)[..., None].expand(-1, -1, -1, 3).contiguous()
    shown, where = Windows().cut(pictures, regions, torch.Generator().manual_seed(0))
    assert shown.shape == (8, 3, 192, 192) and where.shape == (8, 192, 192)
    assert 0 < where.float().mean() < 1
    assert ((shown.mean(1) > 0.4) == (where == 1)).float().mean() > 0.98


def test_words_for_the_ground_are_of_its_kind_or_of_any() -> None:
    generator = torch.Generator().manual_seed(0)
    for text, anywhere in [ground_words("sand", generator) for _ in range(40)]:
        assert ("sand" in text) != anywhere
        assert anywhere == ("ground" in text.removeprefix("background of"))


def test_the_loss_of_regions_is_clips_where_none_are_alike() -> None:
    regions, texts, scale = unit(9, 0), unit(9, 1), torch.tensor(7.0)
    nothing = torch.zeros(9, 9, dtype=torch.bool)
    assert region_loss(regions, texts, nothing, scale).item() == pytest.approx(
        clip_loss(regions, texts, scale).item(), abs=1e-6
    )
    # Where all are alike only the own one is left to choose from: -log 1.
    assert region_loss(regions, texts, ~nothing, scale).item() == pytest.approx(0.0, abs=1e-6)


def test_the_loss_of_regions_leaves_out_pairs_that_are_alike() -> None:
    """By hand: two regions and texts, logits of the identity times 2; text 1 would do for region 0."""
    alike = torch.tensor([[False, True], [False, False]])
    row = math.log(1 + math.exp(-2))  # of two logits, 2 and 0, the 2
    expected = ((0 + row) / 2 + (row + 0) / 2) / 2
    found = region_loss(torch.eye(2), torch.eye(2), alike, torch.tensor(2.0)).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_loss_of_cells_is_their_surprise_by_share() -> None:
    """By hand: two cells, directions 0 and 1, in both regions' map; region 0 takes all of the first, region 1 a quarter of
    the second. Logits are 2 for the own text and 0 for the other, both right.
    """
    maps = torch.eye(2)[None, :, None, :].expand(2, -1, -1, -1)
    shares = torch.tensor([[[1.0, 0.0]], [[0.0, 0.25]]])
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    row = math.log(1 + math.exp(-2))
    loss = cell_loss(maps, shares, torch.eye(2), nothing, torch.tensor(2.0))
    assert loss.item() == pytest.approx(row, abs=1e-6)
    alike = torch.tensor([[False, True], [False, False]])  # then region 0 has nothing to be mistaken for
    loss = cell_loss(maps, shares, torch.eye(2), alike, torch.tensor(2.0))
    assert loss.item() == pytest.approx(0.25 * row / 1.25, abs=1e-6)


def test_pooling_weighs_cells_by_their_share() -> None:
    """Two cells, (3, 0) and (0, 5), directions (1, 0) and (0, 1); shares 3 and 4 make (3, 4) / 5."""
    maps = torch.tensor([[[[3.0, 0.0]], [[0.0, 5.0]]]])
    assert torch.allclose(pooled(maps, torch.tensor([[[3.0, 4.0]]])), torch.tensor([[0.6, 0.8]]))


def test_training_writes_a_mini_in_its_familys_format(seen: list[Seen], tmp_path: Path) -> None:
    """Two steps; what is written opens as OpenCLIP and is small. The same seed gives the same weights."""
    sums = []
    for name in ("first", "second"):
        run = Run(5, False, lambda _line: None)
        train.write_convnext_of(seen, tmp_path / name, run, speed_up=train.DENSE_RECIPE.steps / 2)
        sums.append((tmp_path / name / "open_clip_model.safetensors").read_bytes())
    assert sums[0] == sums[1]
    assert len(sums[0]) < 6_000_000
    assert load(str(tmp_path / "first")).description.dim == models.WIDTH


def test_the_catalog_has_it_as_a_toy_below_six_megabytes() -> None:
    entry = entries()[NAME]
    assert entry.toy
    folder = Path(models.__file__).parents[1] / str(entry.package_folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
    assert entry.n_params == sum(weight.numel() for weight in models.convnext_mini().parameters())


def test_its_pyramid_has_four_strides_and_ends_in_the_space_of_words() -> None:
    model = load(NAME, input_px=(SIDE, SIDE))
    levels = Kind.parse("pyramid@4").compute(model, torch.zeros(1, 3, SIDE, SIDE))
    shapes = {name: tuple(one.shape[1:]) for name, one in levels.items()}
    assert shapes == {
        "stride4": (32, 64, 64),
        "stride8": (64, 32, 32),
        "stride16": (96, 16, 16),
        "stride32": (128, 8, 8),
    }


def test_pooling_then_projecting_is_the_embedding_and_projecting_first_is_not() -> None:
    """The norm comes between: `encode_image` pools, normalises, projects."""
    model = load(NAME, input_px=(SIDE, SIDE))
    batch = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    last = model.dense(batch)[-1].values
    expected = model.embed_images(batch)
    whole = model.project(last.mean((2, 3), keepdim=True))[:, :, 0, 0]
    assert torch.allclose(whole, expected, atol=1e-5)
    each = model.project(last)
    assert torch.allclose(each[:, :, 3:4, 5:6], model.project(last[:, :, 3:4, 5:6]), atol=1e-5)
    assert not torch.allclose(each.mean((2, 3)), expected, atol=1e-3)


def test_its_positions_tell_litter_from_ground_and_litter_by_name() -> None:
    """Scenes of a seed that it never saw. Of cells that an object fills: named among 17 words, chance is 1 in 17."""
    model = load(NAME, input_px=(SIDE, SIDE))
    plain = [one.plain for one in CATEGORIES.values()]
    words = F.normalize(model.embed_texts([*plain, "background"]), dim=1)
    names = list(CATEGORIES)
    right_litter, right_ground = [], []
    for index in range(12):
        scene = render(53, index)
        picture = scene.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        batch = torch.from_numpy(model.description.transform.apply(picture))[None]
        maps = F.normalize(Kind.parse("pyramid@4").compute(model, batch)["stride32"], dim=1)
        answers = torch.einsum("dhw,cd->chw", maps[0], words).argmax(0).numpy()
        cells = _cells(scene)
        for row, column in np.ndindex(8, 8):
            shares = np.bincount(cells[row, column], minlength=len(names) + 1) / 1024
            if shares[:-1].max() > 0.5:
                right_litter.append(answers[row, column] == shares[:-1].argmax())
            elif shares[-1] > 0.97:
                right_ground.append(answers[row, column] == len(names))
    assert len(right_litter) > 20 and len(right_ground) > 200
    assert np.mean(right_litter) > 3 / 17
    assert np.mean(right_ground) > 0.5


def _cells(scene: object) -> np.ndarray:
    """Class numbers of the pixels of each cell of 32 px, [8, 8, 1024]; the ground is the last class."""
    from PIL import ImageDraw

    drawn = Image.new("L", (SIDE, SIDE), len(CATEGORIES))
    draw = ImageDraw.Draw(drawn)
    scale = SIDE / np.array(scene.image.size)  # type: ignore[attr-defined]
    for instance in scene.instances:  # type: ignore[attr-defined]
        for points in instance.polygons:
            corners = [(float(x), float(y)) for x, y in points * scale]
            draw.polygon(corners, fill=list(CATEGORIES).index(instance.category))
    return np.asarray(drawn).reshape(8, 32, 8, 32).swapaxes(1, 2).reshape(8, 8, 1024)
