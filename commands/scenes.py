"""Pictures with label maps, for segmentation."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deponij.commands.answers import exit_partly, print_json
from deponij.commands.options import (
    Cluster,
    CocosOpt,
    ImagesOpt,
    Json,
    LimitOpt,
    LinksOpt,
    Strategy,
    TreatOpt,
    Workers,
    treatments,
)

if TYPE_CHECKING:
    from deponij.pipeline.data.splitting.strategies import SplitParams

app = typer.Typer()
LayoutOpt = Literal["segnet", "voc", "cityscapes", "ade20k", "folders"]
OnTop = Literal["smaller", "later"]


@app.command("scenes")
def scenes_command(
    out: Annotated[Path, typer.Option(help="Folder of scenes to write.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder of pictures and of label maps.")
    ] = None,
    coco: CocosOpt = None,
    images: ImagesOpt = None,
    label_maps: Annotated[
        Path | None,
        typer.Option(
            "--label-maps", metavar="DIR", help="Folder of the label maps of --images, instead of --folder."
        ),
    ] = None,
    layout: Annotated[
        LayoutOpt | None, typer.Option(help="How the folder is laid out; by default it is recognised.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Of label maps: camvid, voc, cityscapes or a table such as name,id or name,r,g,b. Of a COCO file: "
            "category, supercategory, taco10, a CSV of category,label, or '*=litter'.",
        ),
    ] = None,
    void: Annotated[
        str | None, typer.Option(metavar="ID,ID", help="Ids of label maps of which nothing is learned.")
    ] = None,
    background: Annotated[
        str, typer.Option(help="Class of what no outline of a COCO file covers; '' makes it void.")
    ] = "background",
    on_top: Annotated[
        OnTop, typer.Option(help="Which of two outlines of a COCO file covers the other.")
    ] = "smaller",
    descriptions: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Descriptions of the classes: camvid, taco10, … or a JSON file."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="What in a picture's path names what it belongs together with, such as '([^/]+)_' before a frame's number.",
        ),
    ] = None,
    split: Annotated[
        Strategy | None, typer.Option(help="How; by default as the data set gives it, else by groups.")
    ] = None,
    fractions: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="TRAIN VAL TEST", help="Shares, of random and group."),
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option(help="Any whole number.")] = 0,
    treat: TreatOpt = None,
    links_into: LinksOpt = None,
    limit: LimitOpt = None,
    workers: Workers = 0,
    cluster: Cluster = "",
    as_json: Json = False,
) -> None:
    """Take pictures with label maps, for segmentation: any folder of both, or the outlines of a COCO file."""
    from deponij.project.frame.settings import RunOptions
    from deponij.stages import scenes as stage

    adapter, where = _adapter(folder, coco, images, label_maps)
    options: dict[str, Any] = {
        **where,
        "links_into": tuple(links_into or ()),
        "descriptions": descriptions,
        "group": group,
        "limit": limit,
    }
    if adapter == "label-maps":
        _refuse(
            adapter,
            {"--treat": treat, "--background": background != "background", "--on-top": on_top != "smaller"},
        )
        options |= {"layout": layout, "classes": classes, "void": _ids(void)}
    else:
        _refuse(adapter, {"--layout": layout, "--void": void})
        options |= {
            "classes": _coco_classes(classes),
            "background": background or None,
            "on_top": on_top,
            "treat": treatments(treat),
        }
    result = stage.run(
        adapter,
        options,
        out=out,
        run_options=RunOptions(workers=workers, cluster=cluster),
        split=_split(split, fractions, seed),
    )
    if as_json:
        print_json({"scenes": str(out), **result.model_dump(mode="json")})
    else:
        from deponij.commands.show.scenes import show_scenes

        show_scenes(result, out)
    exit_partly(result.n_failed, f"the column `failure` of the items ({out / 'items'})")


def _adapter(
    folder: Path | None, coco: list[Path] | None, images: Path | None, label_maps: Path | None
) -> tuple[str, dict[str, Any]]:
    """Which source is meant, and where its data lie."""
    from deponij.store.errors import UsageError

    given = {"--folder": folder, "--coco": coco, "--label-maps": label_maps}
    named = [flag for flag, value in given.items() if value]
    if len(named) != 1:
        raise UsageError(
            "name one data set: --folder DIR, --images DIR --label-maps DIR, or --coco FILE --images DIR; got "
            f"{' and '.join(named) or 'none'}"
        )
    if (images is None) != (named == ["--folder"]):
        raise UsageError(f"--images goes with --coco or --label-maps, and these with it; got {named[0]}")
    if coco:
        return "coco-masks", {"annotations": tuple(coco), "images": images}
    if folder is not None:
        return "label-maps", {"folder": folder}
    both = [Path(str(one)).absolute() for one in (images, label_maps)]
    above = os.path.commonpath(both)
    inner = [os.path.relpath(one, above) for one in both]
    return "label-maps", {"folder": Path(above), "images": inner[0], "labels": inner[1]}


def _refuse(adapter: str, flags: dict[str, Any]) -> None:
    """Flags of the other kind of data set."""
    from deponij.store.errors import UsageError

    for flag, value in flags.items():
        if value:
            other = "a COCO file (--coco)" if adapter == "label-maps" else "a folder of label maps (--folder)"
            raise UsageError(f"{flag} is for {other}")


def _ids(void: str | None) -> tuple[int, ...]:
    from deponij.store.errors import UsageError

    try:
        return tuple(int(one) for one in (void or "").split(",") if one.strip())
    except ValueError:
        raise UsageError(f"--void is numbers such as 0,255, got {void!r}") from None


def _coco_classes(classes: str | None) -> str | dict[str, str]:
    """`NAME=LABEL` pairs are a table; anything else is the name of one."""
    if classes is None or "=" not in classes or classes.startswith("min-count"):
        return classes or "category"
    pairs = (one.partition("=") for one in classes.split(","))
    return {name.strip(): label.strip() for name, _, label in pairs}


def _split(strategy: str | None, fractions: tuple[float, float, float], seed: int) -> "SplitParams | None":
    from deponij.pipeline.data.splitting.strategies import SplitParams
    from deponij.project.frame.settings import check
    from deponij.stages.scenes import GROUP

    if strategy is None:
        return None
    given = {"strategy": strategy, "group_by": GROUP, "fractions": fractions, "seed": seed}
    return check(SplitParams, given, "the split")
