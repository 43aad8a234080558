"""``sensorium listen``"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from sensorium.core.schema import Schema


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote; with --url only its columns are read.")],
    file: Annotated[Path | None, typer.Option(help="A recording: sound, or a series.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="16-bit samples, or lines of numbers, from a pipe.")] = False,
    microphone: Annotated[bool, typer.Option("--microphone", help="Listen until Ctrl-C.")] = False,
    url: Annotated[str | None, typer.Option(help="Ask this server (http://host:port); else the model is run here.")] = None,
    column: Annotated[str | None, typer.Option(help="Which column is heard [default: the first sound or series].")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Steps a second, where the file does not say.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Length of a window [default: what the model reads].")
    ] = None,
    hop: Annotated[float | None, typer.Option(min=0, help="Seconds between windows [default: half a window].")] = None,
    chunk: Annotated[float, typer.Option(min=0.001, help="Seconds of a chunk.")] = 0.1,
    row: Annotated[str, typer.Option(help="The other cells, as JSON: media are files here, base64 for a server.")] = "{}",
    fast: Annotated[
        bool, typer.Option("--fast", help="A file as fast as it is answered, not as it would be heard.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="A JSON document a line.")] = False,
) -> None:
    """Answer a live stream window by window: a recording, a pipe or the microphone.

    Example: sensorium listen run --file door.wav --column sound
    """
    from sensorium.artifact import Artifact
    from sensorium.predictor import Predictor
    from sensorium.streaming import live_client
    from sensorium.streaming.stream_session import Setup

    if (file is not None) + stdin + microphone != 1:
        raise ConfigError("one of --file, --stdin and --microphone says what is heard")
    artifact = Artifact.load(run)
    name, kind, channels = _heard(artifact.schema, None if column is None else quoting.name(column))
    if file is not None:
        steps, rate = live_client.of_file(file, kind, rate)
        chunks: Any = live_client.cut(steps, max(1, round(chunk * rate)), None if fast else rate)
    else:
        rate = rate or (16_000.0 if kind == "audio" else 1.0)
        size = max(1, round(chunk * rate))
        if microphone and kind != "audio":
            raise ConfigError(f"{name} is a series: a microphone gives none", fix="--column names a sound")
        chunks = live_client.of_microphone(rate, size) if microphone else None
        chunks = chunks or live_client.of_stream(sys.stdin.buffer, kind, channels, size)
    setup = Setup.from_json({"column": name, "rate": rate, "seconds": seconds, "hop": hop, "keep": fast, "row": _row(row)})
    if url is not None:
        answers = live_client.there(url, setup, chunks, key=os.environ.get("SENSORIUM_API_KEY"))
    else:
        answers = live_client.here(Predictor(artifact), setup, chunks)
    with contextlib.suppress(KeyboardInterrupt):
        for said in answers:
            typer.echo(json.dumps(said, ensure_ascii=False) if json_ else _line(said))


def _row(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--row is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError("--row is an object: column to cell")
    return found


def _heard(schema: Schema, column: str | None) -> tuple[str, str, int]:
    """The column that is heard, its kind and its channels."""
    live = {c.name: c for c in schema.inputs if c.of is None and c.spec["kind"] in ("audio", "series")}
    if column is None and live:
        column = next((name for name, c in live.items() if c.spec["kind"] == "audio"), next(iter(live)))
    if column not in live:
        raise ConfigError(f"no column {column!r} of sound or readings{nearest(str(column), live)}")
    found = live[column]
    return column, found.spec["kind"], int(found.reader.state.get("channels", 1))


def _line(said: dict[str, Any]) -> str:
    if "summary" in said:
        s = said["summary"]
        lag = s["latency_ms"]
        counts = ", ".join(f"{s[what]} {what}" for what in ("answered", "dropped", "skipped", "lost", "late", "reordered"))
        return (
            f"windows and chunks: {counts}\n"
            f"latency p50 {lag['p50']} ms, p99 {lag['p99']} ms; real-time factor {s['real_time_factor']}"
        )
    told = []
    for name, answer in said["prediction"]["targets"].items():
        value = answer["value"]
        sure = answer.get("probabilities", {}).get(value) if isinstance(value, str) else None
        told.append(f"{name} {value}" + (f" {sure:.2f}" if sure is not None else ""))
    return f"{said['start']:8.2f} s  {'; '.join(told)}   {said['latency_ms']:.0f} ms"
