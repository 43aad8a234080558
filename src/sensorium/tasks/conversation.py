"""Answers of a language model to questions about the streams of a row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.answer_batch import AnswerBatch
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.borrowed_weights import parted
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.module_dict import NamedModules
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.forgetting_scorer import ForgettingScorer
from sensorium.heads.question_prior import QuestionPrior
from sensorium.heads.sentence_scorer import SentenceScorer
from sensorium.heads.sentence_views import sentence_views
from sensorium.nn.projector import Kind, Projector
from sensorium.pretrained.activation_checkpointing import enable_checkpointing, set_training
from sensorium.pretrained.answer_batch import LmAnswerBatch
from sensorium.pretrained.borrowed_language_model import Tuning, borrowed, trained_dtype, unfrozen, updated
from sensorium.pretrained.chat_rows import ChatRows, filled, packed, replies, reply, texts_of
from sensorium.pretrained.language_model import Dtype, LanguageModel, check_folder, save_merged
from sensorium.pretrained.next_stage import FUSED, UPDATES, WEIGHTS, continued_options
from sensorium.pretrained.speech import ChatInputs, Decoding, ScoredAnswers, Speech
from sensorium.pretrained.text_memory import TextMemory

BLIND, QUESTION_ONLY = "without media", "most frequent answer to the question"
Stage = Literal["align", "instruct"]


@component
class Conversation(Task[ChatInputs]):
    """An answer of a causal language model that reads the streams of a row beside the question.

    Tokens of every stream become vectors like those of words and are laid into the conversation, where a question names the
    column, ``<photo>``, or before the first question. The target is a text or the last turn of a conversation; the question
    is the ``prompt`` column. ``--lm FOLDER`` names the language model and with it this task. Its weights stay as they are
    and are not saved: a saved model is what was trained, and finds the language model by its digest. In the stage ``align``
    projectors (and encoders) learn; in the stage ``instruct`` also a low-rank update of its layers, or its weights
    themselves, which are then saved whole. A row without media is a row like others.

    Answers hold the text, its ``score`` (mean log probability of its tokens), the ``confidence`` (the same as a
    probability) and ``alternatives``. Scores are exact and normalised matches, VQA accuracy, the F1 of words and the
    metrics of captions, each beside those of the same question without media, with those of another row, of the most
    frequent training answer to the question, and of the best constant answer. In the stage ``instruct`` also the perplexity
    of the questions as plain texts, now and before training: what was forgotten.

    Output: ``ChatInputs``, question and media. Target: bytes ``[B, N]``, several right answers in a list: the most
    frequent one is learnt. Loss: the mean negative log-likelihood of a token of the answer. Sources: Liu et al. 2023,
    https://arxiv.org/abs/2304.08485; Hu et al. 2021, https://arxiv.org/abs/2106.09685 (low-rank update).

    Args:
        lm: Folder of a language model as ``save_pretrained`` of transformers writes it; None: a small one with random
            weights stands in. Fit adds the digest of its files, ``FOLDER@SHA-256``; another language model is refused.
        decode: ``beam`` search, or ``sample`` at random.
        beam: Width of the beam search, or number of samples; 1: greedy decoding.
        penalty: Length penalty of the beam search: 0 favours short answers, 1 compares mean log probabilities.
        temperature: Of sampling: below 1 probable tokens become more probable.
        top_p: Of sampling: only the most probable tokens that together have this probability are drawn.
        seed: Of sampling. The same row gets the same answer, in any batch.
        longest: Maximum number of tokens of an answer; by default that of the longest training answer.
        dtype: Of its weights; ``auto``: as they are saved.
        stage: What is trained: ``align`` the projectors and encoders, ``instruct`` also the language model.
        tuning: How the language model is trained: by a low-rank update (``lora``), or in ``full``, in single precision and
            at a slow rate.
        projector: ``linear``, ``mlp``, ``shuffle``, which makes one vector of four neighbouring tokens, or ``resampler``,
            which makes as many vectors of a stream as ``tokens``.
        tokens: Number of vectors of a stream that a resampler makes.
        lay: Which tokens are inserted: those of each of the ``streams``, or the ``fused`` ones.
        rank: Width of the low-rank update.
        targets: Only layers whose name contains one of these words are updated or trained; none: all linear ones of its
            blocks, or in full all weights.
        system: The system message of conversations without one.
        ask: The question of rows that have none.
        earlier: Whether earlier turns of the assistant are learnt too.
        length: Maximum number of tokens of a conversation. Longer texts are cut, media never.
        choices: The only possible answers; each gets a probability.
    """

    predicts: ClassVar[tuple[str, ...]] = ("messages",)
    reads_as: ClassVar[str | None] = "messages"
    prompted: ClassVar[Mapping[str, str]] = {"question": "messages"}
    named_by: ClassVar[str | None] = "lm"
    needs_streams: ClassVar[bool] = False
    headline: ClassVar[str] = "exact_match"
    baseline_name: ClassVar[str] = "always giving the most frequent training answer"
    mergeable: ClassVar[bool] = False
    decoding: ClassVar[tuple[str, ...]] = ("decode", "beam", "penalty", "temperature", "top_p", "seed", "longest")
    scored_shuffled: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "normalised_match", "vqa_accuracy", "token_f1", "rouge_l", "cider",
                                          "bleu", "chrf")  # fmt: skip

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        lm: str | None = None,
        decode: Literal["beam", "sample"] = "beam",
        beam: int = 1,
        penalty: float = 1.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        longest: int | None = None,
        dtype: Dtype = "auto",
        stage: Stage = "align",
        tuning: Tuning = "lora",
        projector: Kind = "mlp",
        tokens: int = 16,
        lay: Literal["streams", "fused"] = "streams",
        rank: int = 8,
        targets: list[str] | None = None,
        system: str = "",
        ask: str = "",
        earlier: bool = True,
        length: int = 1024,
        choices: list[str] | None = None,
    ) -> None:
        super().__init__(goal, dim)
        if len(goal.prompts) > 1:
            raise ConfigError(f"task {goal.name!r}: one prompt column holds the question or the conversation")
        # Not a submodule: what is not trained is neither saved, sent between processes nor seen by an optimiser.
        full = stage == "instruct" and tuning == "full"
        self._held: tuple[LanguageModel] = (borrowed(lm, trained_dtype(dtype) if full else dtype),)
        model = self._held[0]
        self.streams = tuple(goal.streams) if lay == "streams" and goal.streams else (FUSED,)
        self.fused_only = not (lay == "streams" and goal.streams)
        embedding_rms = model.embedding_rms()
        self.projectors = NamedModules(
            {name: Projector(dim, model.width, projector, tokens, embedding_rms) for name in self.streams}
        )
        self.updates = nn.ModuleList(updated(model, rank, targets) if stage == "instruct" and not full else [])
        self.weights = nn.ParameterList(unfrozen(model, targets) if full else [])
        self.prior = QuestionPrior()
        self.longest, self.choices = longest, list(choices or [])
        most = length if model.longest is None else min(length, model.longest)
        rows = ChatRows(model.words, self.streams, model.rows, system=system, ask=ask, earlier=earlier, longest=most)
        self.speech = Speech(model, rows, Decoding(decode == "sample", beam, penalty, temperature, top_p, seed))
        self.memory = TextMemory(self.speech, self.updates, self.weights)
        self.limit: Tensor
        self.frequency: Tensor
        self.register_buffer("limit", torch.tensor(16))
        self.register_buffer("frequency", torch.full((model.rows,), 1 / model.rows))

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        name, _ = parted(options.get("lm"))
        return {**options, "lm": f"{name}@{borrowed(options.get('lm'), options.get('dtype', 'auto')).digest}"}

    @classmethod
    def check_sources(cls, options: Mapping[str, Any]) -> None:
        name, _ = parted(options.get("lm"))
        if name:
            check_folder(Path(name).expanduser())

    @classmethod
    def continued(
        cls, options: Mapping[str, Any], base: Mapping[str, Any], streams: Sequence[str], pairs: Mapping[str, str]
    ) -> tuple[dict[str, Any], list[str]]:
        return continued_options(options, base, streams, pairs)

    @property
    def heritable(self) -> Mapping[str, nn.Module]:
        trained: dict[str, nn.ModuleList | nn.ParameterList] = {UPDATES: self.updates, WEIGHTS: self.weights}
        return {**dict(self.projectors.items()), **{name: part for name, part in trained.items() if len(part)}}

    @property
    def pretrained(self) -> Iterable[nn.Parameter]:
        return self.weights

    def recompute(self) -> bool:
        return enable_checkpointing(self.lm.network)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        set_training(self.lm.network, mode)
        return self

    @property
    def lm(self) -> LanguageModel:
        """The language model."""
        return self._held[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.lm.network._apply(fn)  # type: ignore[no-untyped-call]  # moved together with the task
        return self

    @property
    def _most(self) -> int:
        """The most tokens of an answer."""
        return int(self.limit) if self.longest is None else self.longest

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.choices)

    # ── before training ────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn the length of the longest answer and the frequencies of tokens from ``targets``."""
        count, longest = torch.ones_like(self.frequency), 1
        for part in targets:
            for answer in self._answers(part):
                count += torch.bincount(torch.tensor(answer), minlength=len(count)).to(count)
                longest = max(longest, len(answer) - 1)
        self.frequency.copy_(count / count.sum())
        self.limit.fill_(longest)

    def fit_prompts(self, rows: Iterable[tuple[Mapping[str, Field], Field]]) -> str:
        pairs, lengths = [], []
        for prompts, target in rows:
            questions, answers = texts_of(filled(next(iter(prompts.values())))), self._answers(target)
            known = [k for k, real in enumerate(target.present.tolist()) if real]
            texts = texts_of(filled(target))
            pairs += [(self._question_text(questions[k]), reply(texts[k])) for k in known]
            lengths += [self.speech.rows.tokens(questions[k]) + len(answers[k]) for k in known]
        self.prior.learn(pairs)
        return self.speech.rows.note_on([question for question, _ in pairs], lengths)

    def training_note(self) -> str:
        return self.speech.note_on_media

    def _question_text(self, question: bytes) -> str:
        """The text of the users' turns of a conversation."""
        return "\n".join(m.text for m in self.speech.rows.turns(question) if m.role == "user")

    def _answers(self, target: Field) -> list[list[int]]:
        """The token ids of each row's answer, with its end."""
        return [self._ended(reply(data)) if data else [self.lm.words.end] for data in texts_of(filled(target))]

    def _ended(self, text: str) -> list[int]:
        return [*self.lm.words.answer(text), self.lm.words.end]

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> ChatInputs:
        parts = {FUSED: fused} if self.fused_only else streams
        made = [self.projectors[name](parts[name]) for name in self.streams]
        name = next(iter(self.goal.prompts), None)
        field = prompts.get(name) if name is not None else None
        question = fused.present.new_zeros((len(fused.present), 0), dtype=torch.long) if field is None else filled(field)
        return ChatInputs(question, tuple(vectors for vectors, _ in made), tuple(mask for _, mask in made))

    def _surprise(self, output: ChatInputs, answers: list[list[int]]) -> Tensor:
        """The mean negative log-likelihood of the tokens of an answer ``[B]``."""
        if output.constant is not None:
            means = [-self.frequency.log()[torch.tensor(answer)].mean() for answer in answers]
            return torch.stack(means) if means else self.frequency.new_zeros(0)
        total, count = self.speech.likelihood(output, answers)
        return -total / count

    def loss(self, output: ChatInputs, target: Field) -> Tensor:
        return self._surprise(output, self._answers(target))

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def scored_answers(self, output: ChatInputs) -> list[ScoredAnswers]:
        """Return the answers to each row of ``output``, best first, with the mean log probability of their tokens; of
        ``choices`` with the logarithm of their probability."""
        key = (self.speech.decoding, self._most)
        known = output.__dict__.get("_scored_answers")
        if known is not None and known[0] == key:
            answers: list[ScoredAnswers] = known[1]
            return answers
        if output.constant is not None:
            texts = [reply(data) for data in texts_of(output.constant)]
            surprise = self._surprise(output, [self._ended(text) for text in texts]).tolist()
            made = [[(text, -score)] for text, score in zip(texts, surprise, strict=True)]
        elif self.choices:
            made = self.speech.weighed(output, self.choices)
        else:
            made = self.speech.generated(output, self._most)
        object.__setattr__(output, "_scored_answers", (key, made))  # kept for scores, answers and reports
        return made

    @property
    def conversational(self) -> bool:
        return not self.choices

    @property
    def prompt_places(self) -> tuple[str, ...]:
        return self.streams

    def answer_batch(self) -> AnswerBatch[ChatInputs]:
        return LmAnswerBatch(self.speech, self._most)

    @torch.no_grad()
    def rank_choices(self, output: ChatInputs, choices: Sequence[str]) -> list[ScoredAnswers]:
        return self.speech.weighed(output, choices)

    def sentences(self, output: ChatInputs) -> list[tuple[str, float]]:
        """Return the answer and the confidence of each row of ``output``."""
        return [(texts[0][0], math.exp(texts[0][1])) for texts in self.scored_answers(output)]

    def answers(self, output: ChatInputs, batch: Batch) -> list[Answer]:
        constant = output.constant is not None
        cut = [0] * batch.rows if constant else self.speech.sequences(output, None, room=self._most + 1).cut
        made: list[Answer] = []
        for texts, lost in zip(self.scored_answers(output), cut, strict=True):
            text, score = texts[0]
            answer: Answer = {"value": text, "score": score, "confidence": math.exp(score)}
            if self.choices:
                known = dict(texts)
                answer["probabilities"] = {c: math.exp(known.get(c, -math.inf)) for c in self.choices}
            else:
                answer["alternatives"] = [{"text": other, "score": value} for other, value in texts[1:]]
            if lost:
                answer["cut"] = lost
            made.append(answer)
        return made

    def truths(self, batch: Batch) -> list[Any]:
        target = self.target(batch)
        if target is None:
            return [None] * batch.rows
        right = [replies(data) for data in texts_of(filled(target))]
        return [
            (texts[0] if len(texts) == 1 else texts) if present else None
            for texts, present in zip(right, target.present.tolist(), strict=True)
        ]

    def text_surprise(self, output: ChatInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the summed surprise of the questions of ``output`` as plain texts, now and without the update, and the
        number of their tokens."""
        texts = [self._question_text(data) for data in texts_of(output.question)]
        return self.memory.surprise(texts)

    def scorer(self) -> Scorer[ChatInputs]:
        tuned = len(self.updates) + len(self.weights) > 0
        return ForgettingScorer(self, self.metrics) if tuned else SentenceScorer(self, self.metrics)

    def save_merged(self, folder: Path) -> dict[str, Any]:
        if len(self.updates) + len(self.weights) == 0:
            return {}
        return {"stage": "align", "lm": f"{folder.name}@{save_merged(self.lm, folder)}"}

    def views(self, scorer: Scorer[ChatInputs]) -> list[View]:
        return sentence_views(scorer) if isinstance(scorer, SentenceScorer) and scorer.rows else []

    # ── explanations, and what it is compared with ─────────────────────────────────────────────────────────────────

    def explained(self, output: ChatInputs, of: ChatInputs) -> Tensor:
        """Return the mean log-likelihood of the tokens of the answer of ``of``."""
        answers = [self._ended(text) for text, _ in self.sentences(of)]
        return -self._surprise(output, answers * (len(output.question) // len(answers)))

    def question(self, of: ChatInputs) -> list[str]:
        return [f"mean log-likelihood of a token of {text!r}" for text, _ in self.sentences(of)]

    def reference_outputs(self, output: ChatInputs, batch: Batch) -> dict[str, ChatInputs]:
        if output.constant is not None:
            return {}
        blind = replace(output, real=tuple(torch.zeros_like(real) for real in output.real))
        rivals = {BLIND: blind}
        if self.prior.answers:
            answers = [self.prior.answer(self._question_text(data)) for data in texts_of(output.question)]
            rivals[QUESTION_ONLY] = ChatInputs(output.question[:, :0], (), (), packed(answers, output.question.device))
        return rivals

    def baseline(self, targets: Iterable[Field]) -> str | None:
        """Return the most frequent answer of ``targets``, packed."""
        count = Counter(data for part in targets for data in texts_of(filled(part)) if data)
        return max(count, key=lambda data: (count[data], data)).decode() if count else None

    def constant(self, baseline: str, rows: int) -> ChatInputs:
        data = torch.tensor([list(baseline.encode())]).expand(rows, -1)
        return ChatInputs(data.new_zeros((rows, 0)), (), (), data)
