"""``python -m benchmarks.smollm DATA --packages FOLDER --work FOLDER [--rows 4000]``: senses for a real language model.

SmolLM2-135M-Instruct in bfloat16 learns to answer questions about pictures (``easy_vqa``) and spoken digits
(``av_digits``), with questions of words alone between them. Pictures are encoded by a convolutional network trained here
as a classifier of answers, sounds by Whisper tiny.en over a window of 1.5 seconds; both stay frozen. Projectors learn
(``align``), and from there also a low-rank update of the language model (``instruct``), both on ``--rows``; the encoder of
pictures learns from all training rows of pictures. Real weights come from packages (``benchmarks.package_weights``).

A step that has ended is not repeated: the same command goes on after an interruption, with the CPU seconds spent before.
Prints one JSON line: exact matches on held-out rows of each sense beside those of the controls of ``evaluate`` and the
question-only table; the untouched and the trained model's answer to "What is the capital of France?"; the perplexity of
the questions as texts before and after; CPU seconds of each step, and the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import sensorium as sm
from benchmarks.package_weights import smollm, whisper
from benchmarks.senses_lm import Row, read, scored, seconds
from sensorium.streaming.chat_session import Chat, Wish

FRANCE = "What is the capital of France?"
WINDOW = 1.5
"""Seconds of sound that Whisper reads; the longest recording here has 1."""
MEDIA = {"photo": "image", "sound": "audio"}
VALID = 16
"""Rows whose loss is printed after each stage."""
COMMON = ["training.refit=none", "model.dim=256", "objectives=[{kind: supervised, subsets: 0}]"]


def untouched(lm: Path) -> str:
    """The answer of the language model itself to the question about France."""
    words = AutoTokenizer.from_pretrained(lm)
    network = AutoModelForCausalLM.from_pretrained(lm).eval()
    text = words.apply_chat_template([{"role": "user", "content": FRANCE}], tokenize=False, add_generation_prompt=True)
    ids = words(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        out = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    return str(words.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def once(work: Path, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``run`` returns, with its CPU seconds and minutes of the clock, kept in ``work`` for the next call."""
    kept = work / f"{name}.json"
    if kept.exists():
        earlier: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return earlier
    before, began = seconds(), time.monotonic()
    result = {**run(), "cpu_seconds": round(seconds() - before), "minutes": round((time.monotonic() - began) / 60, 1)}
    result["peak_gigabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    kept.write_text(json.dumps(result), encoding="utf-8")
    print(json.dumps({name: result}), file=sys.stderr, flush=True)
    return result


def stages(
    seen: list[Row], train: list[Row], valid: list[Row], lm: Path, ears: Path, work: Path, options: Any
) -> dict[str, Any]:
    """Train the encoder of pictures on the rows ``seen``, and both stages on ``train``; return what each cost."""

    def encoders() -> dict[str, Any]:
        rows = [{k: v for k, v in row.items() if k != "sound"} for row in seen]
        settings = [*COMMON, f"training.epochs={options.epochs[0]}", "model.experts=[]"]
        columns = {"photo": "image", "question": "text", "answer": "category"}
        sm.fit(rows, target="answer", columns=columns, overrides=settings, out=work / "encoders", quiet=True,
               seed=options.seed, resume=(work / "encoders").exists())  # fmt: skip
        return {}

    def stage(name: str, base: str, epochs: int, rate: float) -> dict[str, Any]:
        settings = [
            *COMMON, f"training.epochs={epochs}", f"training.lr={rate}", "training.batch_size=8", "model.fusion=concat",
            "training.precision=bf16-mixed", "model.surgery=[{kind: freeze, streams: [photo, sound]}]",
        ]  # fmt: skip
        if name == "align":
            settings.append(f"model.encoders.sound={{kind: huggingface, checkpoint: '{ears}'}}")
        own = {"prompt": "question", "lm": str(lm), "stage": name, "projector": "shuffle"}
        model = sm.fit(train, target="answer", valid=valid, task="conversation", options=own, columns=MEDIA,
                       overrides=settings, init=work / base, init_how="frozen", out=work / name, quiet=True,
                       seed=options.seed, resume=(work / name).exists())  # fmt: skip
        return {"history": model.history}

    costs = {"encoders": once(work, "encoders", encoders)}
    costs["align"] = once(work, "align", lambda: stage("align", "encoders", options.epochs[1], options.lr[0]))
    costs["instruct"] = once(work, "instruct", lambda: stage("instruct", "align", options.epochs[2], options.lr[1]))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with easy_vqa and av_digits")
    parser.add_argument("--packages", type=Path, help="folder of the downloaded packages")
    parser.add_argument("--work", type=Path, required=True, help="folder for converted weights and for the runs")
    parser.add_argument("--lm", type=Path, help="another language model than that of the packages")
    parser.add_argument("--ears", type=Path, help="another encoder of sounds than that of the packages")
    parser.add_argument("--rows", type=int, default=4000, help="training rows of pictures, sounds and words together")
    parser.add_argument("--held", type=int, nargs=3, default=[150, 80, 15], help="rows scored: pictures, sounds, words")
    parser.add_argument(
        "--epochs", type=int, nargs=3, default=[6, 1, 1], help="of the encoder of pictures, align, instruct"
    )
    parser.add_argument("--lr", type=float, nargs=2, default=[2e-3, 1e-3], help="of align, instruct")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lm = options.lm or smollm(options.packages, options.work)
    ears = options.ears or whisper(options.packages, options.work, WINDOW)
    train, held = read(options.data, "train"), read(options.data, "valid")
    random.Random(options.seed).shuffle(train)
    random.Random(options.seed).shuffle(held)
    valid, train = train[:VALID], train[VALID:]
    seen, train = [row for row in train if row["photo"]], train[: options.rows]
    work = options.work / f"rows-{len(train)}-seed-{options.seed}"
    work.mkdir(parents=True, exist_ok=True)
    before = once(work, "france", lambda: {"answer": untouched(lm)})["answer"]
    costs = stages(seen, train, valid, lm, ears, work, options)
    model = sm.load(work / "instruct", lm=lm)
    kinds = {
        "pictures": [row for row in held if row["photo"]],
        "sounds": [row for row in held if row["sound"]],
        "words": [row for row in held if not row["photo"] and not row["sound"]],
    }
    parts = {name: rows[:most] for (name, rows), most in zip(kinds.items(), options.held, strict=True)}
    scores = {name: once(work, f"scores-{name}", lambda: scored(model, rows)) for name, rows in parts.items()}  # noqa: B023
    after = "".join(Chat(model.predictor).ask(FRANCE, Wish(most=24, temperature=0.0)))
    total = sum(scores[name]["exact_match"] * len(rows) for name, rows in parts.items())
    table = sum(scores[name]["most frequent answer to the question"] * len(rows) for name, rows in parts.items())
    of = sum(map(len, parts.values()))
    result = {
        "rows": len(train), "seed": options.seed, "costs": costs, **scores, "all": round(total / of, 3),
        "question_only_table": round(table / of, 3), "france_before": before, "france_after": after,
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }  # fmt: skip
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
