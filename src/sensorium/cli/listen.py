"""The command ``sensorium listen``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from sensorium.core.schema import Schema


def run(
    run: Annotated[
        Path, typer.Argument(help="The folder of a trained model, written by fit; with --url only its columns are used.")
    ],
    file: Annotated[Path | None, typer.Option(help="A recording to stream: a sound or a time series.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=FILE[@HZ]",
            help="A further recording, streamed beside --file: both begin together (repeat).",
        ),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read 16-bit samples, or lines of numbers, from standard input.")
    ] = False,
    microphone: Annotated[bool, typer.Option("--microphone", help="Listen to the microphone until Ctrl-C.")] = False,
    url: Annotated[
        str | None, typer.Option(help="Send the stream to this server (http://host:port) [default: run the model locally].")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column that is streamed [default: the first sound, else the first series].")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Sampling rate in Hz, if the file does not state it.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Length of a window in seconds [default: the input length of the model].")
    ] = None,
    hop: Annotated[float | None, typer.Option(min=0, help="Seconds between windows [default: half a window].")] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a delayed column, of several [default: the hop]."),
    ] = None,
    delay: Annotated[
        float,
        typer.Option(min=0, help="Seconds by which labels along the stream are delayed, to use what comes after them."),
    ] = 0.0,
    chunk: Annotated[float, typer.Option(min=0.001, help="Length of a chunk in seconds.")] = 0.1,
    row: Annotated[
        str, typer.Option(help="The other cells of the row as JSON: media as file paths, or as base64 with --url.")
    ] = "{}",
    fast: Annotated[
        bool, typer.Option("--fast", help="Stream a file as fast as possible instead of in real time.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")] = False,
) -> None:
    """Predict a live stream window by window: a recording, standard input or the microphone.

    Example: sensorium listen run --file door.wav --column sound
    """
    from sensorium.artifact import Artifact
    from sensorium.predictor import Predictor
    from sensorium.streaming import live_client
    from sensorium.streaming.stream_session import Setup

    if (file is not None) + stdin + microphone != 1:
        raise ConfigError("the stream needs exactly one source", fix="give one of --file, --stdin and --microphone")
    if beside and file is None:
        raise ConfigError("--beside needs a recording to stream beside", fix="--file FILE")
    artifact = Artifact.load(run)
    name, kind, channels = _stream_column(artifact.schema, None if column is None else quoting.name(column))
    streamed: dict[str, Any] = {"column": name, "rate": rate}
    if file is not None:
        recordings = {name: live_client.read_recording(file, kind, rate)}
        for text in beside or []:
            other, path, hz = _beside(text)
            other, other_kind, _ = _stream_column(artifact.schema, other)
            recordings[other] = live_client.read_recording(path, other_kind, hz)
        chunks = _recorded(recordings, chunk, fast)
        streamed["rate"] = recordings[name][1]
        if beside:
            streamed = {"columns": {column: hz for column, (_, hz) in recordings.items()}, "wait": wait}
    else:
        streamed["rate"] = rate = rate or (16_000.0 if kind == "audio" else 1.0)
        size = max(1, round(chunk * rate))
        if microphone and kind != "audio":
            raise ConfigError(
                f"column {name!r} is a series, which a microphone cannot record", fix="name a sound column: --column NAME"
            )
        chunks = live_client.record_microphone(rate, size) if microphone else None
        chunks = chunks or live_client.read_pipe(sys.stdin.buffer, kind, channels, size)
    settings = {"seconds": seconds, "hop": hop, "delay": delay, "keep": fast}
    setup = Setup.from_json({**streamed, **settings, "row": _row(row)})
    if url is not None:
        answers = live_client.predict_remotely(url, setup, chunks, key=os.environ.get("SENSORIUM_API_KEY"))
    else:
        answers = live_client.predict_locally(Predictor(artifact), setup, chunks)
    with contextlib.suppress(KeyboardInterrupt):
        for answer in answers:
            typer.echo(json.dumps(answer, ensure_ascii=False) if json_ else _line(answer))


def _recorded(recordings: Mapping[str, tuple[Any, float]], chunk: float, fast: bool) -> Any:
    """Return the chunks, of ``chunk`` seconds, of one or several recordings; in real time unless ``fast``."""
    from sensorium.streaming import live_client

    if len(recordings) > 1:
        return live_client.interleaved(recordings, chunk, paced=not fast)
    ((steps, rate),) = recordings.values()
    return live_client.split(steps, max(1, round(chunk * rate)), None if fast else rate)


def _beside(text: str) -> tuple[str, Path, float | None]:
    """Parse ``COLUMN=FILE@HZ`` into column, file and rate; the rate is optional."""
    column, equals, rest = text.partition("=")
    path, at, hz = rest.rpartition("@")
    if not at or not hz.replace(".", "", 1).isdigit():
        path, hz = rest, ""
    if not equals or not path:
        raise ConfigError(f"--beside {text!r} names no column and file", fix="--beside motion=walk.csv@50")
    return quoting.name(column), Path(path), float(hz) if hz else None


def _row(text: str) -> dict[str, Any]:
    try:
        cells = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--row is not JSON: {error}") from None
    if not isinstance(cells, dict):
        raise ConfigError("--row is not a JSON object", fix="write --row '{\"column\": cell}'")
    return cells


def _stream_column(schema: Schema, column: str | None) -> tuple[str, str, int]:
    """Return the column that is streamed, its kind and its number of channels."""
    live = {c.name: c for c in schema.inputs if c.of is None and c.spec["kind"] in ("audio", "series")}
    if column is None and live:
        column = next((name for name, c in live.items() if c.spec["kind"] == "audio"), next(iter(live)))
    if column not in live:
        raise ConfigError(f"no sound or series column {column!r}{nearest(str(column), live)}")
    chosen = live[column]
    return column, chosen.spec["kind"], int(chosen.reader.state.get("channels", 1))


def _line(answer: dict[str, Any]) -> str:
    if "summary" in answer:
        s = answer["summary"]
        lag = s["latency_ms"]
        counts = ", ".join(f"{s[what]} {what}" for what in ("answered", "dropped", "skipped", "lost", "late", "reordered"))
        rest = "".join(f"the end  {name} {spans}\n" for name, spans in s.get("labels", {}).items() if spans)
        return (
            f"{rest}windows and chunks: {counts}\n"
            f"latency p50 {lag['p50']} ms, p99 {lag['p99']} ms; real-time factor {s['real_time_factor']}"
        )
    parts = []
    for name, target in answer["prediction"]["targets"].items():
        value = answer.get("labels", {}).get(name, target["value"])
        probability = target.get("probabilities", {}).get(value) if isinstance(value, str) else None
        parts.append(f"{name} {value}" + (f" {probability:.2f}" if probability is not None else ""))
    return f"{answer['start']:8.2f} s  {'; '.join(parts)}   {answer['latency_ms']:.0f} ms"
