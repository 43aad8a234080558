"""Chat completions through the server beside ``generate`` of transformers alone, on the same language model.

``python -m benchmarks.chat [--lm FOLDER]``: eight clients ask one question each at the same time and read their answers as
streams, several times. Beside it, transformers answers the same eight questions one after another, and as one batch, as if
all had arrived when the clients asked. All use one thread. Greedy answers of all three must be the same tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Measure, Results, Settings, compared
from benchmarks.service import Service, post, serving, worked

CLIENTS = 8
_WORDS = [f"w{i}" for i in range(2000)]
_TOKEN = re.compile(rb'"content": "[^"]')


class Round(NamedTuple):
    """Eight answers: texts, seconds from the common start to the first and to the last token of each, the number of tokens,
    and seconds of processor time of whoever generated them."""

    texts: list[str]
    first: list[float]
    last: list[float]
    tokens: int
    cpu: float = 0.0

    @property
    def speed(self) -> float:
        """Tokens a second, of all together."""
        return self.tokens / max(self.last)


class Alone:
    """The language model in transformers, without sensorium.

    Args:
        lm: Its folder.
        questions: What it is asked.
        most: Tokens of an answer.
    """

    def __init__(self, lm: Path, questions: list[str], most: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from sensorium.core.messages import Message
        from sensorium.pretrained.architectures import quiet
        from sensorium.pretrained.chat_tokeniser import ChatTokeniser
        from sensorium.pretrained.checkpoint import Checkpoint

        torch.set_num_threads(1)
        with quiet():
            self.network = AutoModelForCausalLM.from_pretrained(lm).eval()
        self.words, self.most = ChatTokeniser.of(Checkpoint(str(lm))), most
        self.prompts = [
            [i for piece in self.words.pieces([Message("user", text)], ()) for i in piece.ids] for text in questions
        ]

    def generate(self, prompts: list[list[int]], start: float) -> Round:
        """Answer ``prompts`` in one batch, greedily."""
        import torch
        from transformers.generation.streamers import BaseStreamer

        class Times(BaseStreamer):
            """Records when ``generate`` hands over each token."""

            def __init__(self) -> None:
                self.times: list[float] = []

            def put(self, value: Any) -> None:
                self.times.append(time.perf_counter() - start)

            def end(self) -> None:
                pass

        longest, streamer = max(map(len, prompts)), Times()
        ids = torch.tensor([[self.words.end] * (longest - len(row)) + row for row in prompts])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
        with torch.no_grad():
            made = self.network.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=self.most, streamer=streamer,
                eos_token_id=list(self.words.ends), pad_token_id=self.words.end,
            )  # fmt: skip
        answers = []
        for row in made[:, longest:].tolist():
            ends = [i for i, token in enumerate(row) if token in self.words.ends]
            answers.append(row[: min(ends)] if ends else row)
        # The first call of a streamer is the prompt.
        return Round(
            [self.words.decode(ids) for ids in answers],
            [streamer.times[1]] * len(prompts),
            [streamer.times[-1]] * len(prompts),
            sum(map(len, answers)),
        )

    def one_by_one(self) -> Round:
        """Answer all questions one after another."""
        start, cpu = time.perf_counter(), time.process_time()
        rounds = [self.generate([prompt], start) for prompt in self.prompts]
        return Round(
            [r.texts[0] for r in rounds],
            [r.first[0] for r in rounds],
            [r.last[0] for r in rounds],
            sum(r.tokens for r in rounds),
            time.process_time() - cpu,
        )

    def batch(self) -> Round:
        """Answer all questions in one batch."""
        cpu = time.process_time()
        made = self.generate(self.prompts, time.perf_counter())
        return made._replace(cpu=time.process_time() - cpu)


def small_language_model(folder: Path, settings: Settings) -> None:
    """Write a Llama of 7 million random weights, with a word for each token, whose answers do not end by themselves."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sensorium.pretrained.architectures import quiet
    from sensorium.testing.checkpoints import write_word_tokeniser

    folder.mkdir(parents=True)
    write_word_tokeniser(folder, _WORDS)
    config = LlamaConfig(
        vocab_size=len(_WORDS) + 4, hidden_size=settings.few(256, 32), intermediate_size=settings.few(688, 64),
        num_hidden_layers=settings.few(8, 2), num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight[:4] = 0  # among 2,000 others, a logit of 0 is not the largest
    with quiet():
        network.save_pretrained(folder)


def fitted(folder: Path, lm: Path) -> Path:
    """A run of the language model, trained in one step on questions of words alone."""
    import sensorium

    table = folder / "table.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "question", "answer"])
        writer.writerows(["", f"{_WORDS[i]} {_WORDS[i + 1]}", _WORDS[i + 2]] if i % 2 else [i, _WORDS[i], _WORDS[i]]
                         for i in range(24))  # fmt: skip
    model = sensorium.fit(
        table,
        target="answer",
        task="conversation",
        options={"prompt": "question", "lm": str(lm)},
        overrides=["model.size=tiny", "training.epochs=1"],
        quiet=True,
    )
    model.save(folder / "run")
    return folder / "run"


def questions(count: int) -> list[str]:
    """Questions of 8 to 64 words."""
    return [" ".join(_WORDS[(31 * i + 7 * k) % len(_WORDS)] for k in range(8 * (i % 8 + 1))) for i in range(count)]


async def ask(port: int, question: str, most: int, start: float) -> tuple[str, float, float]:
    """Read a streamed answer: its text, and the seconds since ``start`` of its first and its last token."""
    body = json.dumps({"messages": [{"role": "user", "content": question}], "stream": True, "max_tokens": most,
                       "temperature": 0}).encode()  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/v1/chat/completions", body))
    data, first, last = b"", 0.0, 0.0
    while part := await reader.read(65536):
        data += part
        if _TOKEN.search(part):
            last = time.perf_counter() - start
            first = first or last
    writer.close()
    if b"data: [DONE]" not in data:
        raise RuntimeError(f"no answer: {data[-300:]!r}")
    lines = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
    return "".join(line["choices"][0]["delta"].get("content", "") for line in lines), first, last


async def asked(service: Service, alone: Alone, texts: list[str]) -> Round:
    """All clients ask at once."""
    start, cpu = time.perf_counter(), worked(service.process.pid)
    answers = await asyncio.gather(*(ask(service.port, text, alone.most, start) for text in texts))
    cpu = worked(service.process.pid) - cpu
    tokens = sum(len(alone.words.typed(text)) for text, _, _ in answers)
    return Round([a for a, _, _ in answers], [b for _, b, _ in answers], [c for _, _, c in answers], tokens, cpu)


def run(settings: Settings, lm: Path | None = None) -> Results:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        if lm is None:
            lm = Path(folder) / "lm"
            small_language_model(lm, settings)
        return _measured(fitted(Path(folder), lm), lm, settings)


def _measured(model: Path, lm: Path, settings: Settings) -> Results:
    texts, repeats = questions(CLIENTS), settings.few(9, 1)
    alone = Alone(lm, texts, settings.few(64, 6))
    rounds: dict[str, list[Round]] = {"served": [], "one by one": [], "batch": []}
    with serving(model, "--lm", str(lm)) as service:
        ways = {
            "served": lambda: asyncio.run(asked(service, alone, texts)),
            "one by one": alone.one_by_one,
            "batch": alone.batch,
        }
        for way in ways.values():
            way()  # warm
        for i in range(repeats):
            names = list(ways)
            for name in names[i % 3 :] + names[: i % 3]:
                rounds[name].append(ways[name]())
    expected = rounds["one by one"][0].texts
    same = sum(r.texts == expected for r in rounds["served"])
    served, results = rounds["served"], []
    for name, title in (("one by one", "generate one after another"), ("batch", "generate as a batch of 8")):
        other = rounds[name]
        results += [
            compared(
                f"tokens a second, beside {title}", "/s", [r.speed for r in served], [r.speed for r in other], at_least=0.9
            ),
            compared(
                f"first token (median of 8 clients), beside {title}", "s", [statistics.median(r.first) for r in served],
                [statistics.median(r.first) for r in other], inverse=True, at_least=0.9,
            ),
            compared(
                f"processor time, beside {title}", "s", [r.cpu for r in served], [r.cpu for r in other], inverse=True,
                at_least=0.9,
            ),
            _percentile("answer, p50", title, served, other, 50),
            _percentile("answer, p99", title, served, other, 99),
        ]  # fmt: skip
    return [
        *results,
        Measure("rounds whose answers are those of generate, of all", "", same / len(served), at_least=1.0),
    ]


def _percentile(name: str, title: str, served: list[Round], other: list[Round], percent: int) -> Measure:
    def of(rounds: list[Round]) -> list[float]:
        return [statistics.quantiles(r.last, n=100, method="inclusive")[percent - 1] for r in rounds]

    return compared(f"{name}, beside {title}", "s", of(served), of(other), inverse=True, at_least=0.9)


def main() -> None:
    from benchmarks.__main__ import machine, table

    parser = argparse.ArgumentParser(description="Chat completions through the server beside transformers alone.")
    parser.add_argument("--lm", type=Path, help="folder of a language model; by default a small one of random weights")
    parser.add_argument("--smoke", action="store_true", help="small and once: does it run?")
    arguments = parser.parse_args()
    results = run(Settings(arguments.smoke), arguments.lm)
    print("  ".join(f"{key}: {value}" for key, value in machine().items()))
    print(table(results))


if __name__ == "__main__":
    main()
