"""Texts about coloured shapes and tones, and a tiny language model that is trained on them.

In its training texts *words stand in the place of media*: "red circle what colour is it ? red". The model can therefore use
media that are projected into that place, and correct answers about media prove that they were used.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.testing.checkpoints import CHATML, write_word_tokeniser

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 170, 60), "yellow": (230, 210, 40)}
SHAPES = ("square", "bar")
TONES = {"low": 300.0, "high": 900.0}
QUESTIONS = {
    "what colour is it?": lambda colour, shape, tone: colour,
    "which shape is it?": lambda colour, shape, tone: shape,
    "is the tone low or high?": lambda colour, shape, tone: tone,
}
PLAIN = {"what comes after one?": "two", "what comes after two?": "three", "who says moo?": "cow"}
"""Questions without media."""
_SPOKEN = "what colour is it which shape the tone or comes after one two three who says moo cow ? < > photo sound"
_ROLES = "user assistant system answer in a word please hello yes no"
WORDS = (*COLOURS, *SHAPES, *TONES, *_SPOKEN.split(), *_ROLES.split())


def write(
    folder: Path,
    *,
    steps: int = 400,
    seed: int = 0,
    texts: Callable[[random.Random], tuple[str, str]] | None = None,
    words: Iterable[str] = WORDS,
    **changes: Any,
) -> Path:
    """Train a tiny Llama on texts of this world and write it to ``folder``.

    Args:
        folder: Where it is written.
        steps: Steps of training; 0: random weights.
        seed: Seed of weights and texts.
        texts: Draws a training text, a prompt and its answer; None: texts about shapes and tones.
        words: The words of the tokeniser; all others are unknown.
        changes: Changes of its configuration.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sensorium.core.errors import ConfigError
    from sensorium.pretrained.architectures import quiet
    from sensorium.pretrained.chat_tokeniser import ChatTokeniser
    from sensorium.pretrained.checkpoint import Checkpoint

    folder.mkdir(parents=True, exist_ok=True)
    words = sorted(set(words))
    write_word_tokeniser(folder, words, CHATML)
    config = LlamaConfig(
        vocab_size=len(words) + 4,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
        **changes,
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    chat = ChatTokeniser.of(Checkpoint(str(folder)))
    draw = random.Random(seed)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
        optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.01)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 4e-3 * min(1.0, (steps - step) / (0.5 * steps), (step + 1) / 20)
            batch = [_ids(chat, *(_text if texts is None else texts)(draw)) for _ in range(32)]
            longest = max(len(ids) for ids, _ in batch)
            ids = torch.zeros((len(batch), longest), dtype=torch.long)
            labels = torch.full_like(ids, -100)
            mask = torch.zeros_like(ids)
            for i, (row, answer) in enumerate(batch):
                ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
                labels[i, len(row) - answer : len(row)] = torch.tensor(row[-answer:])
            loss = network(input_ids=ids, attention_mask=mask, labels=labels).loss
            if not bool(loss.isfinite()):
                raise ConfigError("the tiny language model diverged")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
        network.save_pretrained(folder)
    return folder


def _text(draw: random.Random) -> tuple[str, str]:
    """Return a prompt about shapes or tones, and its answer."""
    if draw.random() < 0.2:
        question, answer = draw.choice(sorted(PLAIN.items()))
        shown: list[str] = []
    else:
        colour, shape, tone = draw.choice(sorted(COLOURS)), draw.choice(SHAPES), draw.choice(sorted(TONES))
        question = draw.choice(sorted(QUESTIONS))
        answer = QUESTIONS[question](colour, shape, tone)
        # A picture has many vectors, each informative: words stand for them repeatedly, in any order.
        shown = [draw.choice((colour, shape)) for _ in range(draw.randint(4, 16))] + [colour, shape]
        draw.shuffle(shown)
        shown += [tone] * draw.randint(1, 8)
    return (" ".join(shown) + "\n" + question if shown else question), answer


def _ids(chat: Any, prompt: str, answer: str) -> tuple[list[int], int]:
    """Return the token ids of a prompt and its answer, and how many of them are the answer and its end."""
    from sensorium.core.messages import Message

    ids = [i for piece in chat.pieces([Message("user", prompt)], ()) for i in piece.ids]
    ending = [*chat.answer(answer), chat.end]
    return [*ids, *ending], len(ending)


def table(folder: Path, rows: int, seed: int = 0, *, holes: float = 0.0, sound: bool = True) -> Path:
    """Write a table of questions about pictures and sounds into ``folder``: photo, sound, question, answer.

    Args:
        folder: Where table, pictures and sounds are written.
        rows: Number of rows, one in five of which has no media.
        seed: Random seed.
        holes: Share of the other rows in which the medium that is not asked about is missing.
        sound: Whether there are sounds, and questions about them.
    """
    import soundfile
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    noise = np.random.default_rng(seed)
    lines: list[dict[str, str]] = []
    for i in range(rows):
        if draw.random() < 0.2:
            question, answer = draw.choice(sorted(PLAIN.items()))
            lines.append({"photo": "", "sound": "", "question": question, "answer": answer})
            continue
        colour, shape, tone = draw.choice(sorted(COLOURS)), draw.choice(SHAPES), draw.choice(sorted(TONES))
        question = draw.choice(sorted(q for q in QUESTIONS if sound or "tone" not in q))
        picture = noise.normal(128, 12, (24, 24, 3))
        high, wide = (12, 12) if shape == "square" else (5, 20)
        y, x = draw.randint(0, 24 - high), draw.randint(0, 24 - wide)
        picture[y : y + high, x : x + wide] = COLOURS[colour]
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        time = np.arange(1600) / 8000
        wave = 0.4 * np.sin(2 * np.pi * TONES[tone] * time * draw.uniform(0.9, 1.1)) + noise.normal(0, 0.02, len(time))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 8000)
        cells = {"photo": f"{i}.png", "sound": f"{i}.wav" if sound else ""}
        if draw.random() < holes:
            cells["photo" if "tone" in question else "sound"] = ""
        lines.append({**cells, "question": question, "answer": QUESTIONS[question](colour, shape, tone)})
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["photo", "sound", "question", "answer"])
        writer.writeheader()
        writer.writerows(lines)
    return path
