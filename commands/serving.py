"""The server: an HTTP API and a page to search by pictures, words and metadata."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import lead, print_json, say
from deponij.commands.options import Device, Json, RunOpt, Threads, run_options

app = typer.Typer()


@app.command()
def serve(
    index: Annotated[
        list[Path] | None,
        typer.Option("--index", help="Index to serve; repeatable; by default those of the run."),
    ] = None,
    of_run: RunOpt = None,
    items: Annotated[
        Path | None, typer.Option("--items", help="Items with the pictures; by default the run's.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the photographs; by default the run's.")
    ] = None,
    backbone: Annotated[
        list[str] | None, typer.Option("--backbone", help="Only this one of the run; repeatable.")
    ] = None,
    backbone_spec: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone-spec",
            help="Where an index's backbone is: [NAME=]name, folder or family:…; repeatable.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8765,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Further name that browsers reach it by; repeatable."),
    ] = None,
    max_upload_mb: Annotated[
        float, typer.Option("--max-upload-mb", min=0.001, max=1024, help="Of a picture.")
    ] = 16.0,
    title: Annotated[str, typer.Option("--title", help="Of the page.")] = "Deponij",
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Serve a page and an HTTP API to search indexes; see /openapi.json."""
    from deponij.project.frame.console import warn
    from deponij.services.serve import server as serving
    from deponij.services.serve.guards import is_loopback
    from deponij.services.serve.limits import Limits
    from deponij.services.serve.service import ServiceOptions
    from deponij.services.serve.setup import ServeRequest, meant_run
    from deponij.store.errors import UsageError
    from deponij.store.texts import is_storable

    if not is_storable(title) or not title.strip():
        raise UsageError("--title must be a text of valid Unicode")
    options = run_options("depot", device, "auto", 0, threads)
    request = ServeRequest(
        indexes=tuple(index or ()),
        backbones=tuple(backbone or ()),
        items=items,
        images=images,
        of_run=of_run,
        specs=tuple(backbone_spec or ()),
        run=options,
        service=ServiceOptions(
            title, options.n_threads, limits=Limits(upload_bytes=int(max_upload_mb * (1 << 20)))
        ),
    )

    def ready(address: serving.Address) -> None:
        if (meant := meant_run(request)) is not None:
            names = ", ".join(path.name for path in meant.indexes(request.backbones))
            lead(meant.said(f"indexes of {names}"), as_json)
        if as_json:
            print_json({"url": address.url, "host": address.host, "port": address.port, "pid": os.getpid()})
        else:
            say(f"{address.url}  (Ctrl-C stops)")
        sys.stdout.flush()
        if not is_loopback(host):
            warn(f"everyone who can reach {host} can search and see the pictures; there is no password")

    is_loading = serving.run(request, host=host, port=port, allow_hosts=tuple(allow_host or ()), ready=ready)
    if is_loading:
        # The thread is within an import of seconds; waiting for it, or ending Python under it, serves nobody.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
