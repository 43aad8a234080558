"""``sensorium serve``"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sensorium.core.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from sensorium.predictor import Predictor

LOCAL = ("127.0.0.1", "localhost", "::1")


def run(
    runs: Annotated[list[str], typer.Argument(help="Folders that fit wrote, or name=folder.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which the server may be asked too: a.example, *.a.example, or * for any. Repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Another site whose pages may ask: https://app.example. Repeatable.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the key that clients must show [else SENSORIUM_API_KEY].")
    ] = None,
    merge: Annotated[
        str, typer.Option(help="Waiting requests share a pass: auto (where no bit of an answer changes), always, never.")
    ] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Rows answered together, at most.")] = 32,
    wait: Annotated[float, typer.Option(min=0, help="Milliseconds a request may wait for company.")] = 10.0,
    queue: Annotated[int, typer.Option(min=1, help="Rows inside at once; more are told to come again.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 30.0,
    max_mb: Annotated[int, typer.Option(min=1, help="MiB of one request; one file may have half of it.")] = 64,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of one request.")] = 64,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Pixels of a picture or a frame [64 million].")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Length of a sound or a video [30 minutes, 12 hours].")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a text [any; what is too long is cut].")] = None,
    max_request_pixels: Annotated[int, typer.Option(min=1, help="Pixels of all pictures of a request.")] = 2**28,
    max_request_samples: Annotated[int, typer.Option(min=1, help="Samples of all sounds of a request.")] = 2**28,
    max_request_tokens: Annotated[int, typer.Option(min=1, help="Tokens of all texts of a request.")] = 1_000_000,
    max_unfinished: Annotated[int, typer.Option(min=1, help="Half-sent requests of one client address.")] = 128,
    max_streams: Annotated[int, typer.Option(min=1, help="Live streams of one client address; twice as many in all.")] = 8,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second of one client address [any].")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores that a pass may use [OMP_NUM_THREADS, else as in training].")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; auto takes a GPU where there is one.")] = "auto",
) -> None:
    """Serve models over HTTP: predictions, explanations, a page to try them, and a live stream.

    Example: sensorium serve run --port 8000
    """
    try:
        from sensorium.predictor import settle_threads
        from sensorium.serve.app import create
        from sensorium.serve.host_guard import Names
        from sensorium.serve.limits import MIB, Limits
        from sensorium.serve.server import bind, listen, server
    except ImportError as error:
        raise MissingExtraError(f"serving ({error.name})", "serve") from None
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    key = (
        key_file.read_text(encoding="utf-8").strip()
        if key_file is not None
        else os.environ.get("SENSORIUM_API_KEY") or None
    )
    limits = Limits(
        body=max_mb * MIB,
        file=max_mb * MIB // 2,
        memory=8 * max_mb * MIB,
        rows=max_rows,
        queue=queue,
        seconds=timeout,
        pixels=max_pixels,
        duration=max_seconds,
        tokens=max_tokens,
        rate=rate,
        request_pixels=max_request_pixels,
        request_samples=max_request_samples,
        request_tokens=max_request_tokens,
        unfinished=max_unfinished,
        streams=2 * max_streams,
        streams_each=max_streams,
    )
    names = Names.of(host, allow_host or ())
    with contextlib.ExitStack() as stack:
        # Before models are loaded, which takes its time: a port that is taken is told at once.
        sockets = [stack.enter_context(one) for one in bind(host, port)]
        models = _loaded(runs, device)
        if threads is None:
            settle_threads(*(model.artifact.recipe for model in models.values()))
        app = create(
            models,
            limits=limits,
            key=key,
            merge=cast(Any, merge),
            batch=batch,
            wait=wait / 1000,
            names=names,
            origins=allow_origin or (),
        )
        port = listen(sockets, host)
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        if key is None and host not in LOCAL:
            typer.secho("warning: anybody who reaches this machine may ask: set SENSORIUM_API_KEY", err=True, fg="yellow")
        typer.echo(f"serving {', '.join(app.state.served)} on {where}  (Ctrl-C stops)")
        if host not in LOCAL or allow_host or allow_origin:
            pages = f"; pages of {', '.join(allow_origin)} may ask" if allow_origin else ""
            typer.echo(f"asked by {names.told()}{pages}; --allow-host NAME for another name")
        if merge == "auto" and (apart := [name for name, one in app.state.served.items() if not one.merge]):
            hint = ", or with --threads 1 perhaps none" if torch.get_num_threads() > 1 else ""
            typer.echo(f"{', '.join(apart)}: a shared pass would change last bits here{hint}; each request has its own")
        server(app).run(sockets)


def _loaded(runs: list[str], device: str) -> dict[str, Predictor]:
    """The models by name: what stands before ``=``, else the folder's name."""
    from sensorium.artifact import Artifact
    from sensorium.data.files.media_access import NONE
    from sensorium.predictor import Predictor

    models: dict[str, Predictor] = {}
    for told in runs:
        name, mark, folder = told.partition("=") if not Path(told).exists() else ("", "", told)
        path = Path(folder if mark or folder else name)
        name = name if mark else path.resolve().name
        if name in models:
            raise ConfigError(f"two models are named {name!r}", fix="name one: other=folder")
        models[name] = Predictor(Artifact.load(path), device=device, media=NONE)
    return models
