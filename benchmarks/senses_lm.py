"""``python -m benchmarks.senses_lm DATA [--seeds 1]``: a small language model learns to use pictures and sounds.

Questions about pictures (``easy_vqa``), spoken digits (``av_digits``) and words alone, in one table. The language model
(Llama, 4 layers of width 128) is first trained on texts in which words stand where media will lie, made of the training
questions: "red circle what color is the shape? red". Its time is not counted. Then encoders are trained as those of a
classifier of answers and frozen; projectors learn (``align``), and from there also a low-rank update (``instruct``). Prints
one JSON line a seed: exact matches on 300 held-out questions of each sense, of pictures also on questions balanced by
answer; each beside the controls of ``evaluate``; and CPU seconds up to the end of each step.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import sensorium as sm
from sensorium.core.messages import Message
from sensorium.pretrained.architectures import quiet
from sensorium.pretrained.chat_tokeniser import ChatTokeniser
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.testing.checkpoints import CHATML, write_word_tokeniser

COLOURS = ["red", "green", "blue", "yellow", "teal", "black", "gray", "brown"]
SHAPES = ["circle", "triangle", "rectangle"]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HEARD = ("which digit is said?", "what number do you hear?")
PLAIN = {f"what comes after {a}?": b for a, b in pairwise(DIGITS)} | {"who says moo?": "cow"}
VALID = 200
"""Training rows by which the best epoch is chosen."""
RATE = 1e-3
"""Learning rate of the language model. At 2e-3, with initial weights of 0.02, it did not learn in 1,600 steps to find in
its texts the word that a question names."""
Row = dict[str, str]


def read(root: Path, part: str) -> list[Row]:
    """The rows of one part: pictures, sounds, and words alone."""
    rows = []
    with (root / "easy_vqa" / f"{part}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            photo = str(root / "easy_vqa" / row["image"])
            rows.append({"photo": photo, "sound": "", "question": row["question"], "answer": row["label"]})
    with (root / "av_digits" / f"{part}.csv").open(encoding="utf-8") as file:
        for i, row in enumerate(csv.DictReader(file)):
            sound = str(root / "av_digits" / row["audio"])
            rows.append({"photo": "", "sound": sound, "question": HEARD[i % 2], "answer": DIGITS[int(row["label"])]})
    plain = sorted(PLAIN.items())
    words = [plain[i % len(plain)] for i in range(len(rows) // 10)]
    return rows + [{"photo": "", "sound": "", "question": q, "answer": a} for q, a in words]


def shown(row: Row, draw: random.Random) -> list[str]:
    """Return words for a medium that makes the answer of a row correct."""
    if row["sound"]:
        return [row["answer"]] * draw.randint(1, 6)
    if not row["photo"]:
        return []
    question_words = row["question"].replace("?", "").split()
    colour, shape = draw.choice(COLOURS), draw.choice(SHAPES)
    named = [word for word in question_words if word in COLOURS + SHAPES]
    if row["answer"] in ("yes", "no"):
        word = named[0]
        matches = (row["answer"] == "yes") != bool({"not", "no"} & set(question_words))
        if word in COLOURS:
            colour = word if matches else draw.choice([c for c in COLOURS if c != word])
        else:
            shape = word if matches else draw.choice([s for s in SHAPES if s != word])
    else:
        for word in (*named, row["answer"]):
            colour, shape = (word, shape) if word in COLOURS else (colour, word)
    words = [colour, shape] * draw.randint(2, 6)
    draw.shuffle(words)
    return words


def language_model(folder: Path, rows: list[Row], seed: int, steps: int, *, even: bool) -> None:
    """Train a small language model on texts of ``rows`` and write it to ``folder``; ``even``: as many yes as no."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {w for row in rows for w in (row["question"] + " " + row["answer"]).replace("?", " ? ").split()}
    every = sorted(words | {*COLOURS, *SHAPES, *DIGITS, "user", "assistant", "system"})
    write_word_tokeniser(folder, every, CHATML)
    config = LlamaConfig(
        vocab_size=len(every) + 4, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        tie_word_embeddings=True, initializer_range=0.08,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    chat = ChatTokeniser.of(Checkpoint(str(folder)))
    torch.manual_seed(seed)
    draw = random.Random(seed)
    network = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    # With as many yes as no, neither what is seen nor a negation says anything alone: negations come in the second half.
    plain = [row for row in rows if not {"no", "not"} & set(row["question"].split())]
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        batch = []
        for chosen in draw.choices(plain if even and step < steps // 2 else rows, k=32):
            row = chosen
            if even and row["answer"] in ("yes", "no"):
                row = {**row, "answer": draw.choice(["yes", "no"])}
            seen = shown(row, draw)
            text = " ".join(seen) + "\n" + row["question"] if seen else row["question"]
            prompt = [i for piece in chat.pieces([Message("user", text)], ()) for i in piece.ids]
            batch.append((prompt, [*chat.answer(row["answer"]), chat.end]))
        longest = max(len(a) + len(b) for a, b in batch)
        ids = torch.full((len(batch), longest), 1)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, (prompt, answer) in enumerate(batch):
            end = len(prompt) + len(answer)
            ids[i, :end], mask[i, :end] = torch.tensor(prompt + answer), 1
            labels[i, len(prompt) : end] = torch.tensor(answer)
        network(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    with quiet():
        network.save_pretrained(folder)


def balanced(rows: list[Row], each: int) -> list[Row]:
    """``each`` rows of every answer, and of yes and no to the same questions as often."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        kind = row["question"] if row["answer"] in ("yes", "no") else ""
        groups[kind, row["answer"]].append(row)
    kept = [row for (kind, _), group in groups.items() if not kind for row in group[:each]]
    for kind in sorted({k for k, _ in groups if k}):
        both = groups[kind, "yes"], groups[kind, "no"]
        count = min(len(both[0]), len(both[1]), max(1, each // 4))
        kept += [*both[0][:count], *both[1][:count]]
    return kept


@torch.no_grad()
def ceiling(lm: Path, rows: list[Row], seed: int) -> float:
    """The share of ``rows`` that the language model itself answers when words stand in the place of media."""
    chat, draw = ChatTokeniser.of(Checkpoint(str(lm))), random.Random(seed)
    network = LlamaForCausalLM.from_pretrained(lm).eval()
    right = 0
    for row in rows:
        seen = shown(row, draw)
        text = " ".join(seen) + "\n" + row["question"] if seen else row["question"]
        prompt = [i for piece in chat.pieces([Message("user", text)], ()) for i in piece.ids]
        answer = [*chat.answer(row["answer"]), chat.end]
        logits = network(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        right += logits.argmax(dim=-1).tolist() == answer
    return round(right / len(rows), 3)


def scored(model: Any, rows: list[Row]) -> dict[str, Any]:
    """Exact matches of ``rows``, and those of the controls."""
    target = model.evaluate(rows).targets["answer"]
    return {
        "rows": len(rows),
        "exact_match": round(target.metrics["exact_match"], 3),
        **{name: round(control.metrics["exact_match"], 3) for name, control in target.controls.items()},
        "gain over blind": [round(x, 3) for x in target.controls["without media"].gain["exact_match"]],
        **{name: round(value, 2) for name, value in target.metrics.items() if name.startswith("text_perplexity")},
    }


def seconds() -> float:
    """CPU seconds of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def trained(
    train: list[Row], lm: Path, seed: int, epochs: Sequence[int], folder: Path, rates: Sequence[float], more: dict[str, str]
) -> tuple[Any, list[float]]:
    """Train encoders, then each of the two stages from where the one before ended; return the model and CPU seconds."""
    train, valid = train[VALID:], train[:VALID]
    common = ["training.refit=none", "model.dim=128", "objectives=[{kind: supervised, subsets: 0}]"]
    media, began = {"photo": "image", "sound": "audio"}, seconds()
    encoders = [*common, f"training.epochs={epochs[0]}", "model.experts=[]"]
    sm.fit(train, target="answer", valid=valid, columns={**media, "question": "text", "answer": "category"},
           overrides=encoders, out=folder / "encoders", quiet=True, seed=seed)  # fmt: skip
    base, spent = folder / "encoders", [seconds() - began]
    for stage, count, rate in zip(("align", "instruct"), epochs[1:], rates, strict=True):
        if not count:
            continue
        settings = [*common, f"training.epochs={count}", f"training.lr={rate}", "model.fusion=concat"]
        options = {"prompt": "question", "lm": str(lm), "stage": stage, **more}
        model = sm.fit(train, target="answer", valid=valid, task="conversation", options=options, columns=media,
                       overrides=settings, init=base, init_how="frozen", out=folder / stage, quiet=True,
                       seed=seed)  # fmt: skip
        print(json.dumps({"stage": stage, "history": model.history}), file=sys.stderr, flush=True)
        base = folder / stage
        spent.append(seconds() - began)
    return model, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with easy_vqa and av_digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1200, help="steps of the language model's own training")
    parser.add_argument("--epochs", type=int, nargs=3, default=[8, 4, 3], help="of the encoders, align, instruct")
    texts = "yes and no in the texts of the language model: as often as in the questions, or equally often"
    parser.add_argument("--texts", choices=("asked", "even"), default="even", help=texts)
    parser.add_argument("--keep", type=Path, help="folder that keeps language models; those in it are not trained again")
    within = "score rows of the training part, which are not trained on, to choose settings by"
    parser.add_argument("--held-out", action="store_true", help=within)
    parser.add_argument("--lm-seed", type=int, default=0, help="seed of the language model's own training, one for all")
    parser.add_argument("--lr", type=float, nargs=2, default=[2e-3, 2e-3], help="of align, instruct")
    parser.add_argument("--tune", nargs="*", default=[], help="more settings of both stages: projector=shuffle")
    options = parser.parse_args()
    for seed in options.seeds:
        train, held = read(options.data, "train"), read(options.data, "valid")
        if options.held_out:
            random.Random(20).shuffle(train)
            train, held = train[: len(train) * 4 // 5], train[len(train) * 4 // 5 :]
        random.Random(seed).shuffle(held)
        pictures = [row for row in held if row["photo"]]
        parts = {
            "pictures": pictures[:300],
            "pictures_balanced": balanced(pictures, 16),
            "sounds": [row for row in held if row["sound"]][:300],
            "words": [row for row in held if not row["photo"] and not row["sound"]][:100],
        }
        with TemporaryDirectory() as folder:
            lm = (options.keep or Path(folder)) / f"lm-{options.lm_seed}-{options.steps}-{options.texts}"
            before = seconds()
            if not (lm / "model.safetensors").exists():
                language_model(lm, train, options.lm_seed, options.steps, even=options.texts == "even")
            result: dict[str, Any] = {"seed": seed, "language_model_seconds": round(seconds() - before)}
            random.Random(seed).shuffle(train)
            result["ceilings"] = {name: ceiling(lm, rows, seed) for name, rows in parts.items()}
            more = dict(setting.split("=", 1) for setting in options.tune)
            model, spent = trained(train, lm, seed, options.epochs, Path(folder), options.lr, more)
            result["cpu_seconds"] = dict(zip(("encoders", "aligned", "instructed"), map(round, spent), strict=False))
            print(json.dumps({**result, **{name: scored(model, rows) for name, rows in parts.items()}}), flush=True)


if __name__ == "__main__":
    main()
