"""Saved models from untrusted sources, as ``load`` reads them."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import sensorium as sm
from benchmarks.hostile.confinement import alone, check_message
from benchmarks.hostile.forging import (
    Change,
    Forge,
    filled_with,
    first_tensor,
    growing_tokeniser,
    header,
    link,
    manifest,
    pipe,
    raw,
    recipe,
    resign,
    schema,
    sparse,
    weights,
)
from benchmarks.measure import REPOSITORY
from sensorium.core.errors import SensoriumError

MODEL = REPOSITORY / "tests" / "fixtures" / "model_0_1" / "run"
"""A model with four targets of a table with a picture, a text, a category and a number."""


def copied(folder: Path) -> Path:
    """Copy the model into ``folder``."""
    shutil.copytree(MODEL, folder / "run")
    return folder / "run"


def refused(forge: Forge, folder: Path) -> None:
    """Check that a forged model is refused."""
    run = copied(folder)
    forge(run)
    with alone(folder):
        try:
            sm.load(run)
        except SensoriumError as error:
            check_message(error)
            return
    raise AssertionError("it was loaded")


def nothing_else(forge: Forge, folder: Path) -> None:
    """Check that a forged model is either refused or can predict."""
    run = copied(folder)
    forge(run)
    with alone(folder):
        try:
            model = sm.load(run)
            model.predict([{}, {"note": "the kettle sings", "room": "bath"}])
        except SensoriumError as error:
            check_message(error)


VALUES: list[Any] = [
    None, True, 0, -1, 10**9, 2**70, 1.5, -3.5, "", "x", "é", [], ["x"], [1], {}, {"kind": "x"}, [[[]]], "nan", [None],
    {"x": [1]}, 10**250, "x" * 10_000, {"checkpoint": "owner/name"},
]  # fmt: skip


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values of a document; of each list, those of the first six items."""
    results = [at] if at else []
    if isinstance(document, dict):
        for key, value in document.items():
            results += places(value, (*at, key))
    elif isinstance(document, list):
        for i, value in enumerate(document[:6]):
            results += places(value, (*at, i))
    return results


def mutated(document: Any, rng: random.Random) -> tuple[Any, str]:
    """Return a copy of a document with one random value replaced or removed, and a description of the change."""
    document = deepcopy(document)
    at = rng.choice(places(document))
    inside = document
    for key in at[:-1]:
        inside = inside[key]
    if rng.random() < 0.15:
        del inside[at[-1]]
        return document, f"{at} gone"
    inside[at[-1]] = rng.choice(VALUES)
    return document, f"{at} is {str(inside[at[-1]])[:40]}"


def fuzzed(name: str, seed: int, times: int, folder: Path) -> None:
    """Check that a file with one random value changed is refused with a message, or gives a model that can predict."""
    rng = random.Random(seed)
    text = (MODEL / name).read_text(encoding="utf-8")
    document = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    for i in range(times):
        changed, which = mutated(document, rng)
        if name.endswith("json"):
            data = json.dumps(changed).encode()
        else:
            data = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode()
        where = folder / str(i)
        where.mkdir()
        try:
            nothing_else(partial(_put, name, data), where)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{which}: {type(error).__name__}: {error}") from error
        shutil.rmtree(where)


def _put(name: str, data: bytes, run: Path) -> None:
    if name == "manifest.json":
        (run / name).write_bytes(data)
    else:
        resign(run, name, data)


def _fusion(spec: Any) -> Change:
    return lambda r: r["model"].update(fusion=spec)


def _lxmert(name: str) -> dict[str, Any]:
    return {"kind": "lxmert", "checkpoint": name}


def _nested(inner: Any, deep: int) -> dict[str, Any]:
    spec = inner
    for i in range(deep):
        spec = {"kind": "compose", "groups": {f"g{i}": {"streams": ["photo", "note"], "fusion": spec}}, "fusion": "gated"}
    return spec  # type: ignore[no-any-return]


def _elsewhere(change: Callable[[str], Change]) -> Forge:
    """Return a forgery whose recipe names a checkpoint in another folder."""

    def forge(run: Path) -> None:
        available = run.parent / "elsewhere" / "checkpoint"
        available.mkdir(parents=True)
        (available / "config.json").write_text('{"model_type": "lxmert"}', encoding="utf-8")
        recipe(change(str(available)))(run)

    return forge


def _part(section: str, stream: str, spec: Any) -> Change:
    return lambda r: r["model"][section].update({stream: spec})


BERT = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 300, "intermediate_size": 32}
RECIPES: dict[str, Change] = {
    "a fusion names a checkpoint of the hub": _fusion(_lxmert("unc-nlp/lxmert-base-uncased")),
    "a fusion in a group names a checkpoint of the hub": _fusion(_nested(_lxmert("unc-nlp/lxmert-base-uncased"), 1)),
    "a fusion four groups deep names a checkpoint of the hub": _fusion(_nested(_lxmert("unc-nlp/lxmert-base-uncased"), 4)),
    "the outer fusion of groups names a checkpoint": _fusion({"kind": "compose", "fusion": _lxmert("owner/name")}),
    "an encoder names a checkpoint of the hub": _part(
        "encoders", "note", {"kind": "huggingface", "checkpoint": "google-bert/bert-base-uncased"}
    ),
    "an encoder of words named by an address": _part(
        "encoders", "note", {"kind": "huggingface", "checkpoint": "https://example.org/model"}
    ),
    "an objective names a checkpoint": lambda r: r.update(objectives=[{"kind": "supervised", "checkpoint": "owner/name"}]),
    "a milliard layers of fusion": _fusion({"kind": "deep", "depth": 10**9}),
    "a milliard layers in an encoder": _part("encoders", "note", {"kind": "transformer", "depth": 10**9}),
    "a milliard layers of a recurrent encoder": _part("encoders", "note", {"kind": "recurrent", "depth": 10**9}),
    "a width of a milliard": lambda r: r["model"].update(dim=10**9),
    "a width of a hundred thousand": lambda r: r["model"].update(dim=100_000),
    "a milliard layers in the configuration of a network": _part(
        "encoders", "note", {"kind": "huggingface", "config": {**BERT, "num_hidden_layers": 10**9}}
    ),
    "a thousand layers in the configuration of a network": _part(
        "encoders", "note", {"kind": "huggingface", "config": {**BERT, "num_hidden_layers": 4000}}
    ),
    "a vocabulary of a milliard in the configuration of a network": _part(
        "encoders", "note", {"kind": "huggingface", "config": {**BERT, "vocab_size": 10**9}}
    ),
    "words in the configuration of a network": _part(
        "encoders", "note", {"kind": "huggingface", "config": {**BERT, "hidden_size": "wide"}}
    ),
    "a hundred million low ranks": lambda r: r["model"].update(surgery=[{"kind": "lora", "rank": 10**8}]),
    "an unknown part": _fusion({"kind": "os.system"}),
    "a part that is a path": _fusion({"kind": "../../evil"}),
    "no encoders": lambda r: r["model"].update(encoders={}),
    "no tasks": lambda r: r["model"].update(tasks={"event": {"kind": "classification", "target": "nothing"}}),
    "a list for a mapping": lambda r: r.update(model=[1, 2]),
    "a seed of a thousand digits": lambda r: r.update(seed="9" * 1000),
    "not a number in an option": _fusion({"kind": "gated", "temperature": float("nan")}),
    "an infinite option in a group": _fusion(_nested({"kind": "gated", "temperature": float("inf")}, 1)),
    "groups of groups, forty deep": _fusion(_nested("gated", 40)),
}
YAML: dict[str, bytes] = {
    "laughs, nine levels of aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(8)),
    "an anchor that holds itself": b"model: &m {dim: 8, tasks: *m}\n",
    "a merge": b"base: {a: 1}\nmodel:\n  <<: {dim: 8}\n",
    "a Python object": b"!!python/object/apply:os.system ['false']",
    "binary": b"model: !!binary aGVsbG8=\n",
    "a key twice": b"version: 1\nseed: 1\nseed: 2\n",
    "a hundred thousand brackets": b"[" * 100_000,
    "nine megabytes": b"# " + b"x" * (9 << 20),
    "a million columns": b"columns:\n" + b"".join(b"  c%d: number\n" % i for i in range(1_000_000)),
    "not UTF-8": b"version: 1\nmodel: {\xff\xfe}\n",
    "half a character": b'version: 1\nmodel: "\\ud800"\n',
    "two documents": b"version: 1\n---\nversion: 1\n",
    "a list as a key": b"? [a, b]\n: 1\n",
    "a date of the thirteenth month": b"seed: 2020-13-45\n",
    "nothing": b"",
    "zeros": bytes(1000),
}
JSON: dict[str, bytes] = {
    "a hundred thousand brackets": b"[" * 100_000,
    "columns a thousand deep": b'{"columns": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a key twice": b'{"columns": [], "columns": []}',
    "NaN": b'{"columns": [NaN]}',
    "an infinite number": b'{"columns": [1e999]}',
    "a number of ten thousand digits": b'{"columns": [' + b"9" * 10_000 + b"]}",
    "half a character": b'{"columns": [{"name": "\\ud800", "role": "ignore", "spec": {}}]}',
    "not UTF-8": b'{"columns": ["\xff"]}',
    "UTF-16": '{"columns": []}'.encode("utf-16"),
    "a list": b"[]",
    "nothing": b"",
}


def _twice(columns: dict[str, Any]) -> None:
    columns[""]["columns"].append(columns["photo"])


SCHEMAS: dict[str, Change] = {
    "a column twice": _twice,
    "a picture a milliard wide": lambda c: c["photo"]["state"].update(height=10**9, width=10**9),
    "a picture of negative size": lambda c: c["photo"]["state"].update(height=-48),
    "a size in words": lambda c: c["photo"]["state"].update(height="tall"),
    "no means": lambda c: c["photo"]["state"].pop("mean"),
    "a mean too few": lambda c: c["photo"]["state"]["mean"].pop(),
    "a list among the values of a category": lambda c: c["room"]["state"].update(values=[[1], [2], [3], [4]]),
    "a class too many": lambda c: c["event"]["state"]["values"].append("one more"),
    "no state": lambda c: c["note"].pop("state"),
    "a text whose tokeniser is a checkpoint's, and absent": lambda c: (
        c["note"]["spec"].update(checkpoint="owner/name"),
        c["note"].update(state={"length": 8}),
    ),
    "a tokeniser of numbers": lambda c: c["note"]["state"]["tokeniser"].update(tokens=[1, 2, 3]),
    "a tokeniser that makes a text a hundred million times as long": lambda c: c["note"]["state"].update(
        tokeniser={"kind": "pretrained", "file": growing_tokeniser(), "pad": 0}
    ),
    "a modality that is a path": lambda c: c["photo"]["spec"].update(kind="../os"),
    "a role that is none": lambda c: c["photo"].update(role={"input": 1}),
    "a target that lies on a column which is not there": lambda c: c["event"].update(on="nothing"),
}


def _cast(dtype: Any) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        name = first_tensor(tensors)
        tensors[name] = tensors[name].astype(dtype)

    return change


def _entry(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda h: change(h[min(name for name in h if name != "__metadata__")])


FILES: dict[str, Forge] = {
    "weights that are NaN": weights(filled_with(np.nan)),
    "weights that are infinite": weights(filled_with(np.inf)),
    "weights of double precision": weights(_cast(np.float64)),
    "weights that are whole numbers": weights(_cast(np.int32)),
    "a tensor that has no place": weights(lambda t: t.update(extra=np.zeros(3, np.float32))),
    "a tensor that is absent": weights(lambda t: t.pop(first_tensor(t))),
    "a tensor turned round": weights(lambda t: t.update({first_tensor(t): t[first_tensor(t)][..., None]})),
    "a header of eight exabytes": raw("model.safetensors", lambda d: struct.pack("<Q", 1 << 63) + d[8:]),
    "a header of brackets": raw("model.safetensors", struct.pack("<Q", 100_000) + b"[" * 100_000),
    "a shape of a milliard": header(_entry(lambda e: e.update(shape=[10**9, 10**9]))),
    "a negative shape": header(_entry(lambda e: e.update(shape=[-1]))),
    "tensors over each other": header(_entry(lambda e: e.update(data_offsets=[0, 8]))),
    "a type that is none": header(_entry(lambda e: e.update(dtype="F128"))),
    "an empty file of weights": raw("model.safetensors", b""),
    "two terabytes of nothing": sparse,
    **{f"a pipe for {name}": pipe(name) for name in ("manifest.json", "recipe.yaml", "schema.json", "model.safetensors")},
    **{f"a link for {name}": link(name) for name in ("manifest.json", "recipe.yaml", "model.safetensors")},
    "a manifest that names a path": manifest(lambda m: m["files"].update({"/etc/passwd": {"sha256": "", "bytes": 0}})),
    "a manifest of negative sizes": manifest(lambda m: m["files"]["schema.json"].update(bytes=-1)),
    "a manifest of sizes in words": manifest(lambda m: m["files"]["schema.json"].update(bytes="many")),
    "a manifest of format true": manifest(lambda m: m.update(format=True)),
    "a manifest of two megabytes": manifest(lambda m: m.update(note="x" * (2 << 20))),
    "a report of brackets": raw("report.json", b"[" * 100_000),
    "a report that is a list": raw("report.json", b"[]"),
    "a checkpoint that lies in another folder": _elsewhere(lambda name: _fusion(_lxmert(name))),
    "a checkpoint in another folder, in a group": _elsewhere(lambda name: _fusion(_nested(_lxmert(name), 2))),
    "word vectors that lie in another folder": lambda run: (
        (run.parent / "elsewhere").mkdir(),
        (run.parent / "elsewhere" / "glove.txt").write_text("a 1 2\n", encoding="utf-8"),
        recipe(_part("encoders", "note", {"kind": "word_vectors", "vectors": str(run.parent / "elsewhere" / "glove.txt")}))(
            run
        ),
    ),
}


def saved() -> dict[str, Callable[[Path], None]]:
    """Return the checks of saved models, by a description of what is wrong with each."""
    forged: dict[str, Forge] = {
        **{f"recipe: {name}": recipe(change) for name, change in RECIPES.items()},
        **{f"recipe in YAML: {name}": raw("recipe.yaml", data) for name, data in YAML.items()},
        **{f"schema in JSON: {name}": raw("schema.json", data) for name, data in JSON.items()},
        **{f"schema: {name}": schema(change) for name, change in SCHEMAS.items()},
        **FILES,
    }
    return {name: partial(refused, forge) for name, forge in forged.items()}
