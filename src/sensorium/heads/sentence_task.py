"""What tasks that generate sentences share: decoder, loss, decoding, answers, explanations and simple rivals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Ids, Row
from sensorium.core.module_dict import NamedModules
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.constant_sentence import best_constant
from sensorium.heads.nearest_sentences import NearestSentences
from sensorium.heads.sentence_scorer import SentenceScorer
from sensorium.heads.sentence_views import sentence_views
from sensorium.nn.decoding import Generated, Vocabulary, beam_search, normaliser, sample
from sensorium.nn.gru_decoder import GruDecoder
from sensorium.nn.positional_encoding import grid_sinusoids
from sensorium.nn.prompt_tokens import PromptTokens
from sensorium.nn.word_decoder import DecoderInputs, WordDecoder

UNKNOWN = 1
NEAREST = "nearest training row"
Decode = Literal["beam", "sample"]
Attend = Literal["streams", "fused"]
Decoder = Literal["transformer", "gru"]


@dataclass(frozen=True)
class Context(DecoderInputs):
    """What the sentences of each row are generated from, or a sentence that is already known.

    Args:
        vector: What the most similar training row is found by ``[B, D]``.
        constant: Token ids of a sentence ``[B, L]``, padded with 0; only of a baseline or a rival.
    """

    vector: Tensor
    constant: Tensor | None = None


class SentenceTask(Task[Context]):
    """Base of tasks that generate a sentence token by token; its arguments are documented by those tasks."""

    predicts: ClassVar[tuple[str, ...]] = ("sentences",)
    reads_as: ClassVar[str | None] = "sentences"
    baseline_name: ClassVar[str] = "always generating the training sentence that scores best for all training rows"
    mergeable: ClassVar[bool] = False
    decoding: ClassVar[tuple[str, ...]] = ("decode", "beam", "penalty", "temperature", "top_p", "seed", "longest")
    scored_shuffled: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics, the headline first."""

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        decoder: Decoder,
        depth: int,
        heads: int,
        dropout: float,
        attend: Attend,
        smoothing: float,
        decode: Decode,
        beam: int,
        penalty: float,
        temperature: float,
        top_p: float,
        seed: int,
        longest: int | None,
        neighbours: int | None,
    ) -> None:
        super().__init__(goal, dim)
        if not 0 <= smoothing < 1:
            raise ValueError("smoothing is from 0 to below 1")
        layout = goal.modality.layout
        if not isinstance(layout, Ids):
            raise ConfigError(f"task {goal.name!r}: the target must be sentences", column=next(iter(goal.targets)))
        self.attend, self.smoothing, self.sampling = attend, smoothing, decode == "sample"
        self.beam, self.penalty, self.temperature, self.top_p, self.seed = beam, penalty, temperature, top_p, seed
        self.longest = longest
        # No training sentence is empty, so none is generated, however short the training.
        self.vocabulary = Vocabulary(0, layout.vocabulary - 1, (UNKNOWN,), shortest=1)
        network = WordDecoder if decoder == "transformer" else GruDecoder
        self.decoder = network(layout.vocabulary, dim, depth=depth, heads=heads, dropout=dropout)
        self.first = nn.Linear(dim, dim)
        self.streams = list(goal.streams) if attend == "streams" else []
        self.source = nn.Embedding(len(self.streams) + 1, dim)
        nn.init.normal_(self.source.weight, std=0.02)
        self.norm = nn.LayerNorm(dim)
        prompts: dict[str, nn.Module] = {}
        for name, modality in goal.prompts.items():
            if not isinstance(modality.layout, (Ids, Row)):
                raise ConfigError(
                    f"task {goal.name!r}: a prompt must be text or a table cell",
                    column=name,
                    fix="leave it out of the prompts: it is then an input like any other",
                )
            prompts[name] = PromptTokens(modality.layout, dim)
        self.prompts = NamedModules(prompts)
        self.rows = None if neighbours is None else NearestSentences(layout.vocabulary, neighbours)
        self.frequency: Tensor
        self.limit: Tensor
        self.register_buffer("frequency", torch.full((layout.vocabulary,), 1 / layout.vocabulary))
        self.register_buffer("limit", torch.tensor(16))

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn the frequencies of tokens and the length of the longest sentence from ``targets``."""
        count, longest = torch.ones_like(self.frequency), 1
        for part in targets:
            ids = self._ids(part)
            count += torch.bincount(ids.flatten(), minlength=len(count)).to(count)
            longest = max([longest, *(len(sentence) for row in ids.tolist() for sentence in self._split(row))])
        count[0] = 1
        self.frequency.copy_(count / count.sum())
        self.limit.fill_(longest)
        with torch.no_grad():
            self.decoder.bias.copy_(self.frequency.log())

    def _split(self, ids: list[int]) -> list[list[int]]:
        """The sentences in the ids of a row, without ends and padding."""
        sentences: list[list[int]] = [[]]
        for i in ids:
            if i == self.vocabulary.end:
                sentences.append([])
            elif i:
                sentences[-1].append(i)
        return sentences[:-1]

    @property
    def fits_after_training(self) -> bool:
        return self.rows is not None

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Keep the vectors and the first sentences of ``training`` rows, to tell what the most similar one would say."""
        if self.rows is None:
            return
        known = training.target.present & (training.weight > 0) & training.fused.present
        with torch.no_grad():
            vectors = self._vector(training.fused, training.prompts)[known]
        first = [self._split(row)[0] for row in self._ids(training.target)[known].tolist()]
        padded = torch.zeros((len(first), max(map(len, first), default=0)), dtype=torch.long, device=vectors.device)
        for i, sentence in enumerate(first):
            padded[i, : len(sentence)] = torch.tensor(sentence, dtype=torch.long)
        self.rows.learn(vectors, padded)

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Context:
        parts = list(streams.items()) if self.attend == "streams" else [("", fused)]
        memory = torch.cat([self._placed(name, part) for name, part in parts], dim=1)
        prefix, valid = [self.first(fused.pooled).unsqueeze(1)], [torch.ones_like(fused.present)[:, None]]
        for name, embedder in self.prompts.items():
            if name in prompts:
                tokens, real = embedder(prompts[name])
                prefix.append(tokens)
                valid.append(real)
        return Context(
            torch.cat(prefix, dim=1),
            torch.cat(valid, dim=1),
            memory,
            torch.cat([part.mask for _, part in parts], dim=1),
            self._vector(fused, prompts),
        )

    def _placed(self, name: str, part: Encoded) -> Tensor:
        """The tokens of a stream with their places on its grid, and which stream it is."""
        tokens = part.tokens
        if part.grid and math.prod(part.grid) == tokens.shape[1]:
            tokens = tokens + grid_sinusoids(part.grid, self.dim, tokens)
        index = self.streams.index(name) if name in self.streams else len(self.streams)
        placed: Tensor = self.norm(tokens + self.source.weight[index])
        return placed

    def _vector(self, fused: Encoded, prompts: Mapping[str, Field]) -> Tensor:
        """What similar rows are found by: the fused vector, and the mean of the prompts."""
        parts = [F.normalize(fused.pooled, dim=1)]
        for name, embedder in self.prompts.items():
            if name not in prompts:
                parts.append(torch.zeros_like(fused.pooled))
                continue
            tokens, real = embedder(prompts[name])
            parts.append(F.normalize((tokens * real.unsqueeze(-1)).sum(dim=1), dim=1))
        return torch.cat(parts, dim=1)

    def _ids(self, target: Field) -> Tensor:
        """The ids of the target ``[B, N]``, 0 where padded or absent."""
        real = target.present[:, None] if target.mask is None else target.mask & target.present[:, None]
        return target.data.long().masked_fill(~real, 0).clamp(0, self.vocabulary.end)

    def _surprise(self, output: Context, ids: Tensor, smoothing: float = 0.0) -> Tensor:
        """The mean negative log-likelihood of the tokens of each row ``[B]``."""
        real = ids != 0
        if output.constant is not None:
            each = -self.frequency.log()[ids]
        else:
            logits = self.decoder(output, ids)
            each = F.cross_entropy(logits.transpose(1, 2).float(), ids, reduction="none", label_smoothing=smoothing)
        return (each * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def loss(self, output: Context, target: Field) -> Tensor:
        return self._surprise(output, self._ids(target), self.smoothing)

    def reported_loss(self, output: Context, target: Field) -> Tensor:
        return self._surprise(output, self._ids(target))

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def generated(self, output: Context, width: int | None = None) -> Generated:
        """Generate sentences from ``output``, ``width`` for each row (by default ``beam``), best first."""
        rows, width = len(output.vector), width or self.beam
        if output.constant is not None:
            length = (output.constant != 0).sum(dim=1, keepdim=True)
            surprise = self._surprise(output, self._ended(output.constant))[:, None]
            log_probability = -surprise * (length + 1)
            score = log_probability / normaliser(length, self.penalty).to(surprise)
            return Generated(output.constant[:, None], length, log_probability, score)
        shared: dict[str, Any] = {
            "longest": int(self.limit) if self.longest is None else self.longest,
            "device": output.vector.device,
        }
        # Each decoder reads its own kind of cache.
        step, cache = cast(Any, self.decoder.step), self.decoder.start(output)
        if self.sampling:
            return sample(
                step,
                cache,
                rows,
                self.vocabulary,
                draws=width,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
                **shared,
            )
        return beam_search(step, cache, rows, self.vocabulary, width=width, penalty=self.penalty, **shared)

    def _ended(self, tokens: Tensor) -> Tensor:
        """The sentences ``[B, L]``, padded with 0, with an end token ``[B, L + 1]``."""
        length = (tokens != 0).sum(dim=1, keepdim=True)
        return F.pad(tokens, (0, 1)).scatter(1, length, self.vocabulary.end)

    def _texts(self, generated: Generated) -> list[list[tuple[str, float]]]:
        """The sentences of each row and the mean log probability of their tokens, without repetitions."""
        decode = cast(Any, self.goal.modality).sentences
        mean = generated.log_probability / (generated.length + 1)
        rows = []
        for tokens, lengths, scores in zip(
            generated.tokens.tolist(), generated.length.tolist(), mean.tolist(), strict=True
        ):
            texts: dict[str, float] = {}
            for ids, length, score in zip(tokens, lengths, scores, strict=True):
                if math.isfinite(score):
                    texts.setdefault(decode(ids[:length])[0], score)
            rows.append(list(texts.items()))
        return rows

    def sentences(self, output: Context) -> list[tuple[str, float]]:
        """Return the sentence and the confidence of each row of ``output``."""
        return [(texts[0][0], math.exp(texts[0][1])) for texts in self._texts(self.generated(output))]

    def answers(self, output: Context, batch: Batch) -> list[Answer]:
        return [
            {
                "value": texts[0][0],
                "score": texts[0][1],
                "confidence": math.exp(texts[0][1]),
                "alternatives": [{"text": text, "score": score} for text, score in texts[1:]],
            }
            for texts in self._texts(self.generated(output))
        ]

    def scorer(self) -> Scorer[Context]:
        return SentenceScorer(self, self.metrics)

    def views(self, scorer: Scorer[Context]) -> list[View]:
        return sentence_views(scorer) if isinstance(scorer, SentenceScorer) and scorer.rows else []

    # ── explanations ───────────────────────────────────────────────────────────────────────────────────────────────

    def explained(self, output: Context, of: Context) -> Tensor:
        """Return the mean log-likelihood of the tokens of the answer of ``of``."""
        best = self.generated(of)
        places = torch.arange(best.tokens.shape[2], device=best.length.device)
        ids = self._ended(best.tokens[:, 0].masked_fill(places >= best.length[:, :1], 0))
        return -self._surprise(output, ids.expand(len(output.vector), -1))

    def question(self, of: Context) -> list[str]:
        return [f"mean log-likelihood of a token of {text!r}" for text, _ in self.sentences(of)]

    # ── what it is compared with ───────────────────────────────────────────────────────────────────────────────────

    def reference_outputs(self, output: Context, batch: Batch) -> dict[str, Context]:
        if self.rows is None or not len(self.rows):
            return {}
        return {NEAREST: self._saying(self.rows.nearest(output.vector))}

    def _saying(self, tokens: Tensor) -> Context:
        """The output that says the sentences ``tokens`` ``[B, L]``."""
        none = self.first.weight.new_zeros((len(tokens), 1, self.dim)).to(tokens.device)
        valid = torch.ones_like(none[:, :, 0], dtype=torch.bool)
        return Context(none, valid, none, valid, none[:, 0], tokens)

    def baseline(self, targets: Iterable[Field]) -> list[int] | None:
        """Return the token ids of the training sentence that scores best for all rows of ``targets``."""
        decode = cast(Any, self.goal.modality).sentences
        rows = [self._split(row) for part in targets for row in self._ids(part)[part.present].tolist()]
        return best_constant(rows, decode, self.headline)

    def constant(self, baseline: list[int], rows: int) -> Context:
        return self._saying(torch.tensor([baseline or [0]]).expand(rows, -1))


def refuse_prompts(goal: Goal, kind: str) -> None:
    """Raise ``ConfigError`` if ``goal`` has a prompt column, of which a task of ``kind`` makes nothing."""
    if goal.prompts:
        raise ConfigError(
            f"task {goal.name!r}: {kind} has no prompt", column=next(iter(goal.prompts)), fix="--task answering"
        )
