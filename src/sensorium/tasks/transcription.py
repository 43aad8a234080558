"""Transcription: the words of a recording, of a video, of a line of writing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Ids, Layout
from sensorium.core.modality import Modality
from sensorium.core.recipe import Spec
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.joint_decoding import Candidates, Emissions, candidates
from sensorium.heads.transcript_scorer import TranscriptScorer
from sensorium.heads.transcript_views import transcript_views
from sensorium.heads.word_times import timed_words
from sensorium.metrics.transcripts import check_available
from sensorium.nn.ctc import BLANK, LOWEST, Language, log_likelihood
from sensorium.nn.joined_rows import joined_rows
from sensorium.nn.ngram_model import NgramModel
from sensorium.nn.temporal_convolution import DilatedBlock
from sensorium.nn.time_maps import TimeMaps

IMPROBABLE = -20.0
"""Lower bound of the log probability of a unit in explanations."""


class Head(nn.Module):
    """Logits of the units at each step of one stream: dilated convolutions over its maps, then a linear layer."""

    def __init__(self, maps: TimeMaps, hidden: int, depth: int, dropout: float, units: int) -> None:
        super().__init__()
        self.maps = maps
        self.norm, self.drop = nn.LayerNorm(hidden), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(DilatedBlock(hidden, hidden, 3, 2**i, False, dropout) for i in range(depth))
        self.last = nn.Linear(hidden, units)

    def forward(self, part: Encoded, steer: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, T, V]`` of ``part`` and which steps are real ``[B, T]``; ``steer`` ``[B, 2 H]`` scales and
        shifts."""
        x, real = self.maps(part)
        x = self.norm(x)
        if steer is not None:
            scale, shift = steer[:, None].chunk(2, dim=2)
            x = x * (1 + scale) + shift
        x = self.drop(F.relu(x) * real[..., None]).transpose(1, 2)
        for block in self.blocks:
            x = block(x, real)
        logits: Tensor = self.last(x.transpose(1, 2))
        return logits, real


@component
class Transcription(Task[Emissions]):
    """The words spoken in a recording or a video, or written along a line, in order: speech and line recognition.

    Reads every stream along time: sounds, series, videos, and images, which it takes for lines of writing (kind ``line``);
    ``on`` names fewer. Of a video it reads 25 frames a second, up to 256. Each stream has a head of its own, learnt by
    connectionist temporal classification (CTC): the probability of a transcript is summed over all its alignments with the
    steps, so no times are needed to learn. With several streams (a voice and the lips, a voice and the written line) the
    best transcripts of each, and those of a search over all of them at once, are scored by all that the row has, so that
    one helps where the other is noisy or missing. Streams not along time, such as cells of the table, scale and shift what
    is heard.

    Answers hold the transcript, its probability (``confidence``), ``alternatives`` and ``words`` with their times: seconds
    of a recording, pixels along a line. CTC learns where a word is recognised, not where its sound begins: the bounds lie
    halfway between words. Scores are the word error rate, the character error rate and exact matches; they need
    ``sensorium[words]``.

    Output: ``Emissions``, logits ``[B, T, V]`` of each stream. Target: unit ids ``[B, N]``. Loss: the negative
    log-likelihood of a unit, averaged over the streams. Sources: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891
    (CTC); Hannun et al. 2014, https://arxiv.org/abs/1408.2873 (prefix beam search with a language model); Watanabe et al.
    2017, https://doi.org/10.1109/JSTSP.2017.2763455 (scores of prefixes, by which several streams are searched at once).

    Args:
        on: The streams to transcribe; None: all along time.
        decode: ``beam``: prefix beam search; ``greedy``: the most probable alignment.
        beam: Width of the beam search.
        ngram: Order of an n-gram model of the training transcripts that helps to decide between candidates; 0: none. It
            helps where their word order is that of later rows.
        ngram_weight: Weight of its log probability.
        bonus: Added to the score of a candidate for each unit, against the preference of n-grams for short ones.
        hidden: Channels of the heads.
        depth: Blocks of dilated convolutions; each doubles how far a step sees.
        dropout: Dropout rate of the heads.
        occurrence: Weight of a second loss: which units occur in the transcript, predicted from the fused vector, by
            which rows are then found and compared.
        join: Share of training rows to which another row is joined in each step, with its transcript: longer rows and other
            orders of words. Not where there are streams beside those along time, which may differ.
    """

    predicts: ClassVar[tuple[str, ...]] = ("transcript",)
    reads_as: ClassVar[str | None] = "transcript"
    reads_inputs: ClassVar[Mapping[str, str]] = {"image": "line"}
    # Lips move too fast for the few pictures that say what a video shows.
    input_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"video": {"rate": 25.0, "frames": 256}}
    headline: ClassVar[str] = "wer"
    higher_is_better: ClassVar[bool] = False
    baseline_name: ClassVar[str] = "always answering the most frequent transcript"
    mergeable: ClassVar[bool] = False
    decoding: ClassVar[tuple[str, ...]] = ("decode", "beam", "ngram_weight", "bonus")

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        on: list[str] | None = None,
        decode: Literal["beam", "greedy"] = "beam",
        beam: int = 8,
        ngram: int = 0,
        ngram_weight: float = 0.5,
        bonus: float = 0.0,
        hidden: int = 64,
        depth: int = 4,
        dropout: float = 0.1,
        occurrence: float = 0.1,
        join: float = 0.5,
    ) -> None:
        super().__init__(goal, dim)
        layout = goal.modality.layout
        if not isinstance(layout, Ids):
            raise ConfigError(f"task {goal.name!r}: the target must be a transcript", column=next(iter(goal.targets)))
        if beam < 1 or ngram < 0 or hidden < 1 or depth < 0 or occurrence < 0:
            raise ConfigError("transcription: beam and hidden are 1 or more, ngram, depth and occurrence 0 or more")
        if not 0 <= join <= 1:
            raise ConfigError(f"transcription: join is {join}, and a share is from 0 to 1")
        self.on = _streams(goal, on)
        self.width = 1 if decode == "greedy" else beam
        self.ngram_weight, self.bonus, self.occurrence, self.join = ngram_weight, bonus, occurrence, join
        units = layout.vocabulary
        maps = [TimeMaps(cast(Grid, goal.streams[s]), goal.levels.get(s, ()), dim, hidden) for s in self.on]
        self.heads = nn.ModuleList(Head(part, hidden, depth, dropout, units) for part in maps)
        self.steer: nn.Linear | None = None
        if set(goal.streams) - set(self.on):
            self.steer = nn.Linear(dim, 2 * hidden)
            nn.init.zeros_(self.steer.weight)
            nn.init.zeros_(self.steer.bias)
        self.occurs = nn.Linear(dim, units)
        self.grams = NgramModel(units, ngram) if ngram else None
        self._answered: tuple[Emissions, Tensor] | None = None

    @classmethod
    def encoder(cls, layout: Layout, targets: Sequence[Modality]) -> Spec | None:
        """Return an encoder that keeps time fine enough for each unit to have steps of its own."""
        if not isinstance(layout, Grid) or not layout.timed:
            return None
        if len(layout.size) == 3:
            return "frames"
        if len(layout.size) == 1:
            return {"kind": "tcn", "causal": False}
        # Characters are short: two steps of the input (20 ms of sound) for each step rather than four.
        fine = any(getattr(target, "recognises", "") == "characters" for target in targets)
        return {"kind": "convnet", "stride": 1 if fine else 2, "depth": 1, "width": 32}

    @property
    def pyramids(self) -> tuple[str, ...]:
        return tuple(s for s, head in zip(self.on, self.heads, strict=True) if cast(Head, head).maps.reads_maps)

    def fit(self, targets: Iterable[Field]) -> None:
        """Count the n-grams of ``targets``, if they are to help."""
        check_available()
        if self.grams is not None:
            self.grams.learn(row for part in targets for row in self._known(part))

    def _known(self, target: Field) -> list[list[int]]:
        """The ids of each row that has a transcript, without padding."""
        return [[i for i in row if i] for row in self._ids(target)[target.present].tolist()]

    def _ids(self, target: Field) -> Tensor:
        """The ids of the target ``[B, N]``, 0 where padded or absent."""
        real = target.present[:, None] if target.mask is None else target.mask & target.present[:, None]
        return target.data.long().masked_fill(~real, 0).clamp(0, self.occurs.out_features - 1)

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the rows of ``batch``, some of them with another one joined to them."""
        if not self.join or self.steer is not None:
            return batch
        longest = [cast(Grid, self.goal.streams[name]).size[0] for name in self.on]
        return joined_rows(batch, self.on, longest, next(iter(self.goal.targets)), self.join, generator)

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Emissions:
        steer = None if self.steer is None else self.steer(fused.pooled)
        outputs = [head(streams[name], steer) for name, head in zip(self.on, self.heads, strict=True)]
        return Emissions(
            tuple(logits for logits, _ in outputs), tuple(real for _, real in outputs), self.occurs(fused.pooled)
        )

    def _log_likelihoods(self, output: Emissions, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The mean log-likelihood of a unit of ``ids`` under each stream ``[B, S]``, and the mask of valid streams: those
        that the row has and into which the transcript fits."""
        length = (ids != BLANK).sum(dim=1).clamp(min=1)
        each = torch.stack([log_likelihood(output.logs(i), output.real[i], ids) for i in range(len(self.on))], dim=1)
        valid = torch.stack([output.present(i) for i in range(len(self.on))], dim=1) & each.isfinite()
        return torch.where(valid, each, 0.0) / length[:, None], valid

    @property
    def chance(self) -> float:
        """The log-likelihood of a unit without any stream."""
        return -math.log(self.occurs.out_features)

    def loss(self, output: Emissions, target: Field) -> Tensor:
        ids = self._ids(target)
        if output.constant is not None:
            return _different(ids, output.constant) * -self.chance
        each, valid = self._log_likelihoods(output, ids)
        count = valid.sum(dim=1)
        loss = torch.where(count > 0, -each.sum(dim=1) / count.clamp(min=1), -self.chance)
        if self.occurrence:
            present = torch.zeros_like(output.occurs).scatter(1, ids, 1.0)
            missed = F.binary_cross_entropy_with_logits(output.occurs.float(), present, reduction="none")
            loss = loss + self.occurrence * missed[:, 1:].mean(dim=1)
        return loss

    def reported_loss(self, output: Emissions, target: Field) -> Tensor:
        """Return the negative log-likelihood of a unit, without the second loss."""
        ids = self._ids(target)
        if output.constant is not None:
            return _different(ids, output.constant) * -self.chance
        each, valid = self._log_likelihoods(output, ids)
        return torch.where(valid.any(dim=1), -each.sum(dim=1) / valid.sum(dim=1).clamp(min=1), -self.chance)

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def language(self) -> Language | None:
        """What the n-grams of the training transcripts add to a score."""
        grams = self.grams
        if grams is None or not len(grams.counts):
            return None

        def scores(ids: Tensor, length: Tensor) -> Tensor:
            added = self.ngram_weight * grams.scores(ids, length)
            added[:, :, 1:] += self.bonus
            return added

        return scores

    @torch.no_grad()
    def candidates(self, output: Emissions) -> Candidates:
        """Return the best transcripts of each row of ``output``."""
        if output.constant is not None:
            zero = torch.zeros(output.rows, 1, dtype=torch.float64, device=output.constant.device)
            return Candidates(output.constant[:, None], zero + self.chance, zero)
        return candidates(output, self.width, self.language)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.goal.modality.decode(cast(Any, [i for i in ids if i])))

    def texts(self, output: Emissions) -> list[tuple[str, float]]:
        """Return the transcript and the confidence of each row of ``output``."""
        best = self.candidates(output)
        return [
            (self._decoded(ids), sure)
            for ids, sure in zip(best.ids[:, 0].tolist(), best.confidence[:, 0].tolist(), strict=True)
        ]

    def answers(self, output: Emissions, batch: Batch) -> list[Answer]:
        best = self.candidates(output)
        words: list[list[dict[str, Any]]] = [[] for _ in range(output.rows)]
        if output.constant is None:
            pieces = cast(Ids, self.goal.modality.layout).pieces
            words = timed_words(output, best.ids[:, 0], self.on, pieces, batch)
        answers: list[Answer] = []
        for i, (ids, scores, sure) in enumerate(
            zip(best.ids.tolist(), best.score.tolist(), best.confidence.tolist(), strict=True)
        ):
            others = [
                {"text": self._decoded(ids[c]), "confidence": sure[c]} for c in range(1, len(ids)) if scores[c] > LOWEST / 2
            ]
            answers.append(
                {"value": self._decoded(ids[0]), "confidence": sure[0], "alternatives": others, "words": words[i]}
            )
        return answers

    def scorer(self) -> Scorer[Emissions]:
        return TranscriptScorer(self)

    def views(self, scorer: Scorer[Emissions]) -> list[View]:
        return transcript_views(scorer) if isinstance(scorer, TranscriptScorer) and scorer.rows else []

    def explained(self, output: Emissions, of: Emissions) -> Tensor:
        """Return the mean log-likelihood of a unit of the answer of ``of``, averaged over the streams; an absent
        stream counts as chance."""
        # Explainers ask about one answer hundreds of times.
        if self._answered is None or self._answered[0] is not of:
            self._answered = of, self.candidates(of).ids[:, 0]
        ids = self._answered[1].expand(output.rows, -1)
        if output.constant is not None:
            return torch.full_like(output.occurs[:, 0], self.chance)
        each, valid = self._log_likelihoods(output, ids)
        return torch.where(valid, each.clamp(min=IMPROBABLE), self.chance).mean(dim=1)

    def question(self, of: Emissions) -> list[str]:
        return [f"mean log-likelihood of a unit of {text!r}" for text, _ in self.texts(of)]

    def baseline(self, targets: Iterable[Field]) -> list[int] | None:
        """Return the ids of the most frequent transcript in ``targets``; of equally frequent ones the shortest."""
        count = Counter(tuple(row) for part in targets for row in self._known(part))
        if not count:
            return None
        least = min((-n, len(ids), ids) for ids, n in count.items())
        return list(least[2])

    def constant(self, baseline: Sequence[int], rows: int) -> Emissions:
        ids = torch.tensor([list(baseline) or [0]]).expand(rows, -1)
        return Emissions((), (), torch.zeros(rows, self.occurs.out_features), ids)


def _streams(goal: Goal, on: Sequence[str] | None) -> tuple[str, ...]:
    """The streams to transcribe."""
    timed = [name for name, layout in goal.streams.items() if isinstance(layout, Grid) and layout.timed]
    (target,) = goal.targets
    named = on if on is not None else [goal.lies_on[target]] if target in goal.lies_on else timed
    for name in named:
        if name not in timed:
            raise ConfigError(
                f"task {goal.name!r}: {name!r} is no stream along time{nearest(name, timed)}",
                column=target,
                fix="an image of one line of writing is read along its width as the kind line",
            )
    if not named:
        raise ConfigError(
            f"task {goal.name!r} transcribes a sound, a series, a video or a line of writing, and there is none",
            column=target,
        )
    return tuple(dict.fromkeys(named))


def _different(ids: Tensor, constant: Tensor) -> Tensor:
    """The share of units in which two padded transcripts differ, place by place ``[B]``."""
    longest = max(ids.shape[1], constant.shape[1])
    one, other = F.pad(ids, (0, longest - ids.shape[1])), F.pad(constant, (0, longest - constant.shape[1]))
    length = (ids != BLANK).sum(dim=1).clamp(min=1)
    return (one != other).sum(dim=1) / length
