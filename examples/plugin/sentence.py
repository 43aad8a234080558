"""A custom task that generates text, word by word. The whole plug-in is this file and its entry point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, Tensors
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.report_views import Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.metrics.weighting import mean

PAD = 0


@dataclass(frozen=True)
class Memory(Tensors):
    """The state of each row before the first word.

    Args:
        tokens: ``[B, N, D]``, attended to by the decoder; ``mask`` ``[B, N]`` marks valid ones, at least one per row.
        start: ``[B, D]``: the initial state of the decoder.
        constant: ``[B, L]``: a constant sentence; only for a baseline.
    """

    tokens: Tensor
    mask: Tensor
    start: Tensor
    constant: Tensor | None = None


@component
class Sentence(Task[Memory]):
    """A sentence about the row, generated word by word by a small recurrent decoder with attention over the fused tokens.

    Target: ids ``[B, L]``, padded. Loss: the mean negative log-likelihood of a word. Answers by beam search, with
    scores divided by length. Source: attention over the memory at each step, Luong et al. 2015,
    https://arxiv.org/abs/1508.04025, equation 5.

    Args:
        hidden: Width of the decoder.
        beam: Width of the beam search; 1: greedy decoding.
        longest: Maximum number of words of an answer.
    """

    predicts: ClassVar[tuple[str, ...]] = ("text",)
    headline: ClassVar[str] = "token_f1"
    baseline_name: ClassVar[str] = "always saying the commonest sentence of the training rows"
    mergeable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    def __init__(self, goal: Goal, dim: int, *, hidden: int = 64, beam: int = 3, longest: int = 16) -> None:
        super().__init__(goal, dim)
        words = goal.modality.layout.vocabulary  # type: ignore[union-attr]
        self.begin, self.end, self.beam, self.longest = words, words + 1, beam, longest
        self.words = nn.Embedding(words + 2, hidden, padding_idx=PAD)
        self.start = nn.Linear(dim, hidden)
        self.keys = nn.Linear(dim, hidden)
        self.cell = nn.GRUCell(2 * hidden, hidden)
        self.last = nn.Linear(2 * hidden, words + 2)
        self.frequency: Tensor
        self.register_buffer("frequency", torch.full((words + 2,), 1 / (words + 2)))

    def fit(self, targets: Iterable[Field]) -> None:
        """Store the word frequencies of the training rows and initialise the biases with them."""
        count = torch.ones_like(self.frequency)
        for part in targets:
            ids = self._ended(part)[part.present]
            count += torch.bincount(ids.flatten(), minlength=len(count))
        count[PAD] = 1
        self.frequency.copy_(count / count.sum())
        with torch.no_grad():
            self.last.bias.copy_(self.frequency.log())

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Memory:
        tokens = torch.cat([fused.pooled.unsqueeze(1), fused.tokens], dim=1)
        mask = torch.cat([torch.ones_like(fused.present)[:, None], fused.mask], dim=1)
        return Memory(self.keys(tokens), mask, self.start(fused.pooled).tanh())

    def _step(self, memory: Memory, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of the next word ``[B, V]`` and the next state."""
        score = torch.einsum("bh,bnh->bn", state, memory.tokens).masked_fill(~memory.mask, -torch.inf)
        seen = torch.einsum("bn,bnh->bh", score.softmax(dim=1), memory.tokens)
        state = self.cell(torch.cat([self.words(word), seen], dim=1), state)
        return self.last(torch.cat([state, seen], dim=1)).log_softmax(dim=1), state

    def _ended(self, target: Field) -> Tensor:
        """Return ids with the end token after the last word ``[B, L + 1]``."""
        ids = torch.where(target.mask, target.data.long(), PAD) if target.mask is not None else target.data.long()
        ids = F.pad(ids.clamp(0, self.begin - 1), (0, 1))
        length = (ids != PAD).sum(dim=1, keepdim=True)
        return ids.scatter(1, length, self.end)

    def _surprise(self, memory: Memory, ids: Tensor) -> Tensor:
        """Return the mean negative log-likelihood over a row's words ``[B]``."""
        real = ids != PAD
        if memory.constant is not None:
            result = -self.frequency.log()[ids]
        else:
            state, word, each = memory.start, torch.full_like(ids[:, 0], self.begin), []
            for following in ids.T:
                chances, state = self._step(memory, state, word)
                each.append(-chances.gather(1, following[:, None])[:, 0])
                word = following
            result = torch.stack(each, dim=1)
        return (result * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def loss(self, output: Memory, target: Field) -> Tensor:
        return self._surprise(output, self._ended(target))

    @torch.no_grad()
    def generated(self, memory: Memory) -> Tensor:
        """Return the most probable sentences found ``[B, L]``, padded, without the end token."""
        if memory.constant is not None:
            return memory.constant
        rows, beam = memory.start.shape[0], self.beam
        wide = memory.map(lambda t: t.repeat_interleave(beam, dim=0))
        state, ids = wide.start, torch.full((rows * beam, 1), self.begin, device=wide.start.device)
        score = torch.full((rows, beam), -torch.inf, device=ids.device)
        score[:, 0] = 0.0  # all beams start identically: only the first counts
        over = torch.zeros(rows * beam, dtype=torch.bool, device=ids.device)
        for _ in range(self.longest):
            chances, state = self._step(wide, state, ids[:, -1])
            chances[:, [PAD, self.begin]] = -torch.inf
            # Finished sentences stay unchanged.
            chances = torch.where(over[:, None], torch.full_like(chances, -torch.inf), chances)
            chances[over, PAD] = 0.0
            score, best = (score[..., None] + chances.reshape(rows, beam, -1)).flatten(1).topk(beam, dim=1)
            size = chances.shape[1]
            origin = (best // size + torch.arange(rows, device=ids.device)[:, None] * beam).flatten()
            word = (best % size).flatten()
            ids, state = torch.cat([ids[origin], word[:, None]], dim=1), state[origin]
            over = over[origin] | (word == self.end)
            if bool(over.all()):
                break
        length = (ids != PAD).sum(dim=1).reshape(rows, beam)
        chosen = (score / length).argmax(dim=1) + torch.arange(rows, device=ids.device) * beam
        result = ids[chosen, 1:]
        return result.masked_fill(result == self.end, PAD)

    def _text(self, ids: Tensor) -> list[str]:
        decode = self.goal.modality.decode
        return [decode(row[row != PAD].cpu().numpy()) for row in ids]

    def answers(self, output: Memory, batch: Batch) -> list[Answer]:
        return [{"value": text} for text in self._text(self.generated(output))]

    def scorer(self) -> Scorer[Memory]:
        return Words(self)

    def explained(self, output: Memory, of: Memory) -> Tensor:
        """Return the mean log-likelihood of the words of the answer in ``of``."""
        ids = self.generated(of)
        ids = self._ended(Field(ids, torch.ones(len(ids), dtype=torch.bool, device=ids.device)))
        return -self._surprise(output, ids.expand(output.start.shape[0], -1))

    def question(self, of: Memory) -> list[str]:
        return [f"log-likelihood of {text!r}" for text in self._text(self.generated(of))]

    def views(self, scorer: Scorer[Memory]) -> list[View]:
        common = Counter(scorer.kept.get("predicted", [])).most_common(10)
        return [
            Table(
                "answers", "The most frequent answers", rows=[{"sentence": text, "rows": count} for text, count in common]
            )
        ]

    def baseline(self, targets: Iterable[Field]) -> list[int] | None:
        seen: Counter[tuple[int, ...]] = Counter()
        for part in targets:
            for row in self._ended(part)[part.present].tolist():
                seen[tuple(i for i in row if i not in (PAD, self.end))] += 1
        return list(seen.most_common(1)[0][0]) if seen else None

    def constant(self, baseline: Sequence[int], rows: int) -> Memory:
        one = torch.zeros(rows, 1, self.words.embedding_dim)
        predicted = torch.tensor([list(baseline) or [PAD]]).expand(rows, -1)
        return Memory(one, torch.ones(rows, 1, dtype=torch.bool), one[:, 0], predicted)


class Words(Scorer[Memory]):
    """Keep per row the agreement of predicted and true words, and the predicted sentence."""

    def __init__(self, task: Sentence) -> None:
        super().__init__()
        self._task = task

    def keep(self, output: Memory, batch: Batch) -> Kept:
        target = self._task.target(batch)
        present = torch.zeros(batch.rows, dtype=torch.bool) if target is None else target.present.cpu()
        predicted = [
            answer["value"] for answer, known in zip(self._task.answers(output, batch), present, strict=True) if known
        ]
        true = [text for text, known in zip(self._task.truths(batch), present, strict=True) if known]
        each = [overlap(one.split(), other.split()) for one, other in zip(predicted, true, strict=True)]
        return {
            "f1": torch.tensor(each, dtype=torch.float64),
            "exact": torch.tensor(
                [float(one == other) for one, other in zip(predicted, true, strict=True)], dtype=torch.float64
            ),
            "predicted": predicted,
        }

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        nothing = torch.zeros(0, dtype=torch.float64)
        every = {"token_f1": "f1", "exact_match": "exact"}
        return {
            name: mean(self.kept.get(key, nothing), weights)
            for name, key in every.items()
            if names is None or name in names
        }


def overlap(predicted: Sequence[str], true: Sequence[str]) -> float:
    """Return the harmonic mean (F1) of word precision and recall of ``predicted`` against ``true``."""
    shared = sum((Counter(predicted) & Counter(true)).values())
    return 2 * shared / (len(predicted) + len(true)) if predicted or true else 1.0
