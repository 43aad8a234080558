"""What strangers may have written into a saved model or into the folder of a checkpoint, met by ``load`` and by ``fit``."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import sensorium as sm
from benchmarks.hostile.case import Case
from benchmarks.measure import REPOSITORY
from sensorium.core.errors import SensoriumError

MODEL = REPOSITORY / "tests" / "fixtures" / "model_0_1" / "run"
"""A model of a table with a picture, a text, a category and a number, with four targets."""
Change = Callable[[Any], Any]
Forge = Callable[[Path], Any]

# ── nothing is reached that lies outside ───────────────────────────────────────────────────────────────────────────────

_WATCHED: list[tuple[Path, list[str]]] = []
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _WATCHED:
        return
    folder, seen = _WATCHED[-1]
    if event in _NETWORK:
        seen.append(event)
        raise AssertionError(f"{event} was called")
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(args[0]))
        writes = isinstance(args[2], int) and args[2] & _WRITES
        if writes and not path.startswith((str(folder), "/dev/", "/proc/")) and not path.endswith((".pyc", ".lock")):
            seen.append(f"{path} was written")
        if f"{os.sep}elsewhere{os.sep}" in path and path.startswith(str(folder)):
            seen.append(f"{path} was opened")


_hooked: list[bool] = []


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it nothing is asked of the network, written outside ``folder``, or read in ``folder/elsewhere``."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    seen: list[str] = []
    _WATCHED.append((folder, seen))
    try:
        yield
    finally:
        _WATCHED.pop()
    assert not seen, "; ".join(seen[:3])


# ── forging ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def resign(run: Path, name: str, data: bytes) -> None:
    """Replace a file and vouch for it in the manifest."""
    (run / name).write_bytes(data)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def recipe(change: Change) -> Forge:
    """A recipe changed, and vouched for."""

    def forge(run: Path) -> None:
        document = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
        change(document)
        resign(run, "recipe.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())

    return forge


def schema(change: Change) -> Forge:
    """The columns and what was learnt of them changed, and vouched for."""

    def forge(run: Path) -> None:
        document = json.loads((run / "schema.json").read_text(encoding="utf-8"))
        change({column["name"]: column for column in document["columns"]} | {"": document})
        resign(run, "schema.json", json.dumps(document).encode())

    return forge


def raw(name: str, data: bytes | Change) -> Forge:
    """A file in other bytes, and vouched for."""
    return lambda run: resign(run, name, data if isinstance(data, bytes) else data((run / name).read_bytes()))


def manifest(change: Change) -> Forge:
    """The manifest changed."""

    def forge(run: Path) -> None:
        document = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        change(document)
        (run / "manifest.json").write_text(json.dumps(document), encoding="utf-8")

    return forge


def weights(change: Callable[[dict[str, Any]], Any]) -> Forge:
    """Tensors changed, and vouched for."""

    def forge(run: Path) -> None:
        from safetensors.numpy import load, save

        tensors = load((run / "model.safetensors").read_bytes())
        change(tensors)
        resign(run, "model.safetensors", save({k: np.asarray(v, order="C") for k, v in tensors.items()}))

    return forge


def header(change: Change) -> Forge:
    """What a file of weights says it holds changed, and vouched for; its numbers stay."""

    def forge(run: Path) -> None:
        data = (run / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        document = json.loads(data[8 : 8 + length])
        change(document)
        text = json.dumps(document).encode()
        resign(run, "model.safetensors", struct.pack("<Q", len(text)) + text + data[8 + length :])

    return forge


def pipe(name: str) -> Forge:
    """A pipe in the place of a file: whoever opens it waits for ever."""

    def forge(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return forge


def link(name: str) -> Forge:
    """A symbolic link to the very file."""

    def forge(run: Path) -> None:
        (run / name).rename(run.parent / name)
        (run / name).symlink_to(run.parent / name)

    return forge


def sparse(run: Path) -> None:
    """A file of weights that says it has two terabytes, and takes no room on the disk."""
    text = json.dumps({"w": {"dtype": "F32", "shape": [1 << 39], "data_offsets": [0, 1 << 41]}}).encode()
    with (run / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + (1 << 41))
    manifest(lambda m: m["files"]["model.safetensors"].update(bytes=8 + len(text) + (1 << 41)))(run)


# ── meeting ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_said(error: SensoriumError) -> None:
    """An error that a person can read: a sentence, not pages of it."""
    message = str(error)
    assert 15 <= len(message) <= 2500, f"the refusal has {len(message)} characters"
    assert " " in error.problem, f"the refusal is no sentence: {error.problem}"
    assert "Traceback" not in message


def copied(folder: Path) -> Path:
    """The model, to be changed."""
    shutil.copytree(MODEL, folder / "run")
    return folder / "run"


def refused(forge: Forge, folder: Path) -> None:
    """A forged model is refused."""
    run = copied(folder)
    forge(run)
    with alone(folder):
        try:
            sm.load(run)
        except SensoriumError as error:
            check_said(error)
            return
    raise AssertionError("it was loaded")


def nothing_else(forge: Forge, folder: Path) -> None:
    """A forged model is refused, or is one that answers."""
    run = copied(folder)
    forge(run)
    with alone(folder):
        try:
            model = sm.load(run)
            model.predict([{}, {"note": "the kettle sings", "room": "bath"}])
        except SensoriumError as error:
            check_said(error)


VALUES: list[Any] = [
    None, True, 0, -1, 10**9, 2**70, 1.5, -3.5, "", "x", "é", [], ["x"], [1], {}, {"kind": "x"}, [[[]]], "nan", [None],
    {"x": [1]}, 10**250, "x" * 10_000, {"checkpoint": "owner/name"},
]  # fmt: skip


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of a document; of a long list the first six."""
    results = [at] if at else []
    if isinstance(document, dict):
        for key, value in document.items():
            results += places(value, (*at, key))
    elif isinstance(document, list):
        for i, value in enumerate(document[:6]):
            results += places(value, (*at, i))
    return results


def mutated(document: Any, rng: random.Random) -> tuple[Any, str]:
    """A document with one value exchanged or gone, and which."""
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
    """Documents with one value changed at random: each is refused in words, or makes a model that answers."""
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


# ── saved models ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    """A recipe that names a checkpoint lying ready in another folder."""

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
        tokeniser={"kind": "pretrained", "file": _bomb(), "pad": 0}
    ),
    "a modality that is a path": lambda c: c["photo"]["spec"].update(kind="../os"),
    "a role that is none": lambda c: c["photo"].update(role={"input": 1}),
    "a target that lies on a column which is not there": lambda c: c["event"].update(on="nothing"),
}


def _bomb() -> dict[str, Any]:
    """A tokenizer.json that writes ten letters for each, eight times over."""
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [grow] * 8},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
    }


def _first(tensors: dict[str, Any]) -> str:
    return min(name for name, value in tensors.items() if value.dtype == np.float32 and value.size)


def _fill(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        name = _first(tensors)
        tensors[name] = np.full_like(tensors[name], value)

    return change


def _cast(dtype: Any) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        name = _first(tensors)
        tensors[name] = tensors[name].astype(dtype)

    return change


def _entry(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda h: change(h[min(name for name in h if name != "__metadata__")])


FILES: dict[str, Forge] = {
    "weights that are NaN": weights(_fill(np.nan)),
    "weights that are infinite": weights(_fill(np.inf)),
    "weights of double precision": weights(_cast(np.float64)),
    "weights that are whole numbers": weights(_cast(np.int32)),
    "a tensor that has no place": weights(lambda t: t.update(extra=np.zeros(3, np.float32))),
    "a tensor that is absent": weights(lambda t: t.pop(_first(t))),
    "a tensor turned round": weights(lambda t: t.update({_first(t): t[_first(t)][..., None]})),
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
    """Saved models that are to be refused, by what is wrong with them."""
    forged: dict[str, Forge] = {
        **{f"recipe: {name}": recipe(change) for name, change in RECIPES.items()},
        **{f"recipe in YAML: {name}": raw("recipe.yaml", data) for name, data in YAML.items()},
        **{f"schema in JSON: {name}": raw("schema.json", data) for name, data in JSON.items()},
        **{f"schema: {name}": schema(change) for name, change in SCHEMAS.items()},
        **FILES,
    }
    return {name: partial(refused, forge) for name, forge in forged.items()}


# ── folders of checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────


def _json(name: str, change: Change) -> Forge:
    def forge(folder: Path) -> None:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        result = change(document)
        (folder / name).write_text(json.dumps(document if result is None else result), encoding="utf-8")

    return forge


def _cut(name: str) -> Forge:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def _tensors(change: Callable[[dict[str, Any]], Any]) -> Forge:
    def forge(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        kept = {k: np.asarray(v, order="C") for k, v in tensors.items()}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return forge


def _setting(name: str, value: Any) -> Forge:
    return _json("config.json", lambda c: c.update({name: value}))


def _instead(name: str) -> Forge:
    def forge(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge


CHECKPOINTS: dict[str, tuple[str, Forge]] = {
    "config.json cut short": ("bert", _cut("config.json")),
    "config.json a list": ("bert", lambda f: (f / "config.json").write_text("[]")),
    "config.json of brackets": ("bert", lambda f: (f / "config.json").write_text("[" * 100_000)),
    "config.json not UTF-8": ("bert", lambda f: (f / "config.json").write_bytes(b'{"model_type": "\xff"}')),
    "config.json a pipe": ("bert", _instead("config.json")),
    "config.json absent": ("bert", lambda f: (f / "config.json").unlink()),
    "a model_type that is a list": ("bert", _setting("model_type", ["bert"])),
    "a width in words": ("bert", _setting("hidden_size", "wide")),
    "a width of zero": ("bert", _setting("hidden_size", 0)),
    "a negative width": ("bert", _setting("hidden_size", -16)),
    "a width of a milliard": ("bert", _setting("hidden_size", 10**9)),
    "a milliard layers": ("bert", _setting("num_hidden_layers", 10**9)),
    "four thousand layers": ("bert", _setting("num_hidden_layers", 4000)),
    "a vocabulary of a milliard": ("bert", _setting("vocab_size", 10**9)),
    "a width that its weights are not": ("bert", _setting("hidden_size", 32)),
    "more positions than it has": ("bert", _setting("max_position_embeddings", 48)),
    "positions in words": ("bert", _setting("max_position_embeddings", "many")),
    "an activation that is none": ("bert", _setting("hidden_act", "os.system")),
    "padding of an id that is a list": ("bert", _setting("pad_token_id", [1])),
    "pictures of no size": ("vit", _setting("image_size", 0)),
    "pictures of a size in words": ("vit", _setting("image_size", "large")),
    "a patch of zero": ("vit", _setting("patch_size", 0)),
    "a processor that is a list": ("vit", lambda f: (f / "preprocessor_config.json").write_text("[1]")),
    "a processor with sizes in words": (
        "vit",
        lambda f: (f / "preprocessor_config.json").write_text('{"size": {"height": "tall"}}'),
    ),
    "weights cut short": ("bert", _cut("model.safetensors")),
    "weights of nothing": ("bert", lambda f: (f / "model.safetensors").write_bytes(b"")),
    "weights a pipe": ("bert", _instead("model.safetensors")),
    "weights that are NaN": ("bert", _tensors(_fill(np.nan))),
    "weights that are infinite": ("vit", _tensors(_fill(-np.inf))),
    "weights of another shape": ("bert", _tensors(lambda t: t.update({k: v[:-1] for k, v in t.items()}))),
    "weights of another model": ("vit", _tensors(lambda t: (t.clear(), t.update(x=np.zeros(4, np.float32))))),
    "weights pickled": ("bert", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")),
    "an index of weights that leads out": (
        "bert",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}'),
        ),
    ),
    "an index of weights that is a list": (
        "bert",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        ),
    ),
    "tokenizer.json absent": ("bert", lambda f: (f / "tokenizer.json").unlink()),
    "tokenizer.json cut short": ("bert", _cut("tokenizer.json")),
    "tokenizer.json without a model": ("bert", _json("tokenizer.json", lambda t: {"version": "1.0"})),
    "tokenizer.json that makes a text long": ("bert", lambda f: (f / "tokenizer.json").write_text(json.dumps(_bomb()))),
    "tokenizer.json that puts a page between any two letters": (
        "bert",
        _json(
            "tokenizer.json",
            lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 3000}),
        ),
    ),
    "tokenizer.json with tokens that are numbers": ("bert", _json("tokenizer.json", lambda t: t.update(added_tokens=[1]))),
    "tokenizer.json of more words than the network": (
        "bert",
        _json("tokenizer.json", lambda t: t["model"]["vocab"].update({f"w{i}": 100 + i for i in range(500)})),
    ),
    "lxmert: layers in words": ("lxmert", _setting("x_layers", "two")),
    "lxmert: a milliard layers": ("lxmert", _setting("x_layers", 10**9)),
    "lxmert: weights of another shape": ("lxmert", _tensors(lambda t: t.update({k: v[:-1] for k, v in t.items()}))),
    "lxmert: weights that are NaN": ("lxmert", _tensors(_fill(np.nan))),
}


def _rows(kind: str, folder: Path) -> list[dict[str, Any]]:
    from PIL import Image

    words = ("red dress", "blue shoes", "the cat sat on the mat", "a warm and soft dog")
    rows = []
    for i in range(16):
        if kind == "vit":
            Image.new("RGB", (16, 16), (i * 10, 0, 0)).save(folder / f"{i}.png")
        cell = {"x": f"{i}.png"} if kind == "vit" else {"x": f"{words[i % 4]} {i % 3} good"}
        rows.append({**cell, "z": str(i / 2), "y": "ab"[i % 2]})
    return rows


def fitted(kind: str, forge: Forge, folder: Path) -> None:
    """A training that is given the folder of a checkpoint is refused."""
    from sensorium.testing.checkpoints import tiny

    inputs = folder / "checkpoint"
    shutil.copytree(tiny(kind), inputs)
    forge(inputs)
    rows = _rows(kind, folder)
    part = "model.fusion" if kind == "lxmert" else "model.encoders.x"
    named = {"kind": "lxmert" if kind == "lxmert" else "huggingface", "checkpoint": str(inputs)}
    overrides = [f"{part}={json.dumps(named)}", "model.size=tiny", "training.epochs=1", "model.experts=[]"]
    os.environ["SENSORIUM_CACHE"] = str(folder / "cache")
    with alone(folder):
        try:
            columns = {"x": "image" if kind == "vit" else "text", "z": "number"}
            sm.fit(rows, target="y", columns=columns, media=folder, overrides=overrides, quiet=True)
        except SensoriumError as error:
            check_said(error)
            return
    raise AssertionError("it was trained with")


def cases() -> Iterator[Case]:
    """Everything, saved models first."""
    import torch

    torch.set_num_threads(1)
    for name, run in saved().items():
        yield Case(name, run, seconds=60.0, megabytes=1024)
    many = recipe(lambda r: r["model"].update(experts=["linear"] * 500_000))
    yield Case("recipe: half a million experts", partial(nothing_else, many), seconds=60.0, megabytes=1024)
    for name, times in (("schema.json", 25), ("recipe.yaml", 25), ("report.json", 10), ("manifest.json", 25)):
        for seed in range(3):
            title = f"{name} with single values changed, {times} times, seed {seed}"
            yield Case(title, partial(fuzzed, name, seed, times), seconds=240.0, megabytes=1024)
    from sensorium.testing.checkpoints import tiny
    from sensorium.training import fit  # noqa: F401  (imported once, for all cases)

    for kind in ("bert", "vit", "lxmert"):
        tiny(kind)  # written once, for all cases
    for name, (kind, forge) in CHECKPOINTS.items():
        yield Case(f"checkpoint: {name}", partial(fitted, kind, forge), seconds=90.0, megabytes=1024)
