"""The command ``sensorium serve``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from sensorium.predictor import Predictor
    from sensorium.retrieval.index import Index

LOCAL = ("127.0.0.1", "localhost", "::1")


def run(
    runs: Annotated[list[str], typer.Argument(help="Folders of trained models or of indexes, or name=folder.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for any free port.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further host name the server accepts: a.example, *.a.example, or * for any; may be repeated."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web site whose pages may send requests: https://app.example; may be repeated."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the API key that clients must send [default: SENSORIUM_API_KEY].")
    ] = None,
    merge: Annotated[
        str,
        typer.Option(
            help="Batch concurrent requests: always, never, or auto (only if that changes no bit of a prediction)."
        ),
    ] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Maximum number of rows per batch.")] = 32,
    wait: Annotated[
        float, typer.Option(min=0, help="Maximum milliseconds that a request waits for others to share its batch.")
    ] = 10.0,
    queue: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows in progress; further requests get status 503.")
    ] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum seconds for an answer.")] = 30.0,
    max_mb: Annotated[int, typer.Option(min=1, help="Maximum MiB of a request; a single file may have half of it.")] = 64,
    max_rows: Annotated[int, typer.Option(min=1, help="Maximum rows of a request.")] = 64,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Maximum pixels of an image or a video frame [64 million, 36 million].")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Maximum length of a sound or a video [30 minutes, 12 hours].")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens of a text [unlimited; long texts are truncated].")
    ] = None,
    max_request_pixels: Annotated[int, typer.Option(min=1, help="Maximum pixels of all images of a request.")] = 2**28,
    max_request_samples: Annotated[int, typer.Option(min=1, help="Maximum samples of all sounds of a request.")] = 2**28,
    max_request_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens of all texts of a request.")] = 1_000_000,
    max_unfinished: Annotated[int, typer.Option(min=1, help="Maximum unfinished requests of one client address.")] = 128,
    max_streams: Annotated[
        int, typer.Option(min=1, help="Maximum live streams of one client address; twice as many in total.")
    ] = 8,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Maximum requests per second of one client address [unlimited].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per batch [OMP_NUM_THREADS, else as in training].")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; auto uses a GPU if there is one.")] = "auto",
    lm: _options.Lm = None,
) -> None:
    """Serve models over HTTP: predictions, explanations, embeddings, a web page to try them, and live streams.

    Example: sensorium serve run --port 8000

    An index is served with its model and searched at /search: sensorium serve idx
    """
    try:
        from sensorium.predictor import settle_threads
        from sensorium.serve.app import create
        from sensorium.serve.host_guard import AllowedHosts
        from sensorium.serve.limits import MIB, Limits
        from sensorium.serve.server import bind, create_server, listen
    except ImportError as error:
        raise MissingExtraError(f"serving ({error.name})", "serve") from None
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    key = _api_key(key_file)
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
    names = AllowedHosts.of(host, allow_host or ())
    with contextlib.ExitStack() as stack:
        # Before the models are loaded, which takes time: a port in use is reported at once.
        sockets = [stack.enter_context(opened) for opened in bind(host, port)]
        models, indexes = _load(runs, device, lm)
        if threads is None:
            settle_threads(*(model.artifact.recipe for model in models.values()))
        app = create(
            models,
            indexes=indexes,
            limits=limits,
            key=key,
            merge=cast(Any, merge),
            batch=batch,
            wait=wait / 1000,
            names=names,
            origins=allow_origin or (),
        )
        port = listen(sockets, host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        if key is None and host not in LOCAL:
            typer.secho(
                "warning: without an API key anyone who reaches this machine can use it: set SENSORIUM_API_KEY",
                err=True,
                fg="yellow",
            )
        typer.echo(f"serving {', '.join(app.state.services)} on {address}  (Ctrl-C stops)")
        if host not in LOCAL or allow_host or allow_origin:
            pages = f"; accepts pages of {', '.join(allow_origin)}" if allow_origin else ""
            typer.echo(f"accepts the host names {names.describe()}{pages}; --allow-host NAME adds another")
        if merge == "auto":
            _note_unbatched(app.state.services)
        create_server(app).run(sockets)


def _api_key(file: Path | None) -> str | None:
    """Return the key in ``file``, or that of the environment, if any."""
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return os.environ.get("SENSORIUM_API_KEY") or None


def _note_unbatched(services: Mapping[str, Any]) -> None:
    """Name the models whose requests are not batched, since that would change bits of their predictions."""
    import torch

    if unbatched := [name for name, service in services.items() if not service.merge]:
        hint = "; with --threads 1 perhaps not" if torch.get_num_threads() > 1 else ""
        typer.echo(f"{', '.join(unbatched)}: batching would change last bits here{hint}; each request runs alone")


def _load(runs: list[str], device: str, lm: Path | None) -> tuple[dict[str, Predictor], dict[str, Index]]:
    """Load the models, and the indexes with their models, by name: the text before ``=``, else the name of the folder.

    ``lm`` is the folder of their language model, if any.
    """
    from sensorium.artifact import Artifact
    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.retrieval.index import Index
    from sensorium.retrieval.index_files import holds_index

    models: dict[str, Predictor] = {}
    indexes: dict[str, Index] = {}
    for argument in runs:
        name, mark, folder = argument.partition("=") if not Path(argument).exists() else ("", "", argument)
        path = Path(folder if mark or folder else name)
        name = name if mark else path.resolve().name
        if name in models:
            raise ConfigError(f"two models are named {name!r}", fix="give one of them another name: name=folder")
        if holds_index(path):
            indexes[name] = Index.open(path, device=device, media=UPLOADS_ONLY)
            models[name] = indexes[name].predictor
            continue
        models[name] = Predictor(Artifact.load(path, lm=lm), device=device, media=UPLOADS_ONLY)
    return models, indexes
