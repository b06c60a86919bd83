"""What models cost on this machine, measured."""

from typing import Annotated

import typer

from deponij.commands.answers import print_json
from deponij.commands.options import Device, Json, Precision, Threads, listed_names, run_options

bench_app = typer.Typer(help="Measure models on this machine.", no_args_is_help=True)


@bench_app.command("backbones")
def bench_backbones(
    names: Annotated[
        list[str],
        typer.Argument(help="Backbones by name (see `deponij backbones`), folder or family:… form."),
    ],
    batch_sizes: Annotated[
        str, typer.Option(metavar="N,N", help="Pictures at a time, each size measured.")
    ] = "1,8,32",
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Parameters, operations, pictures a second, memory and size on the disk, each model in a process of its own."""
    from deponij.commands.show.throughput import print_throughput
    from deponij.project.frame.console import bar
    from deponij.services.throughput import measure_backbones
    from deponij.store.errors import UsageError

    sizes = listed_names(batch_sizes)
    if not all(one.isascii() and one.isdigit() for one in sizes):
        raise UsageError(
            f"--batch-sizes is numbers with commas between them, such as 1,8,32; got {batch_sizes!r}"
        )
    options = run_options("depot", device, "auto", 0, threads)
    with bar("measuring", len(names), "models") as advance:
        throughput = measure_backbones(
            names,
            [int(one) for one in sizes],
            precision,
            options,
            lambda name: advance(0, name),
            lambda: advance(1),
        )
    print_json(throughput) if as_json else print_throughput(throughput)
