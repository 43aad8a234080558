"""Translations: a text in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sensorium.core.goal import Goal
from sensorium.core.layout import Ids, Layout
from sensorium.core.modality import Modality
from sensorium.core.recipe import Spec
from sensorium.core.registry import component
from sensorium.heads.sentence_task import Attend, Decode, Decoder, SentenceTask, refuse_prompts


@component
class Translation(SentenceTask):
    """A text in another language or another form, generated word by word from a text column: a translation, a summary.

    The target is a text column (kind ``sentences``); a cell may hold several that are equally right, ``["one", "two"]``. A
    small decoder attends to the words of every text that the row has, in their order, and to the tokens of any
    other stream: a picture of what is spoken about, a table of facts.

    Answers hold the sentence, its ``score`` (the mean log probability of its tokens), the ``confidence`` (the same as a
    probability) and ``alternatives``. Scores are chrF (character n-grams), BLEU (with ``sensorium[words]``), the F1 of
    words and exact matches, each beside those of the texts of other rows, of the best constant sentence and of the
    translation of the most similar training row.

    Output: ``Context``, what the decoder attends to. Target: token ids ``[B, N]``, each sentence with its end. Loss: the
    mean negative log-likelihood of a token. Sources: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (encoder and
    decoder); Popović 2015, https://aclanthology.org/W15-3049 (chrF); Papineni et al. 2002,
    https://aclanthology.org/P02-1040 (BLEU).

    Args:
        decode: ``beam`` search, or ``sample`` at random.
        beam: Width of the beam search, or number of samples. The answer is the best (or first), the others are its
            alternatives; 1: greedy decoding.
        penalty: Length penalty of the beam search: 0 favours short sentences, 1 compares mean log probabilities.
        temperature: Of sampling: below 1 probable tokens become more probable.
        top_p: Of sampling: only the most probable tokens that together have this probability are drawn.
        seed: Of sampling. The same row gets the same answer, in any batch.
        longest: Maximum number of tokens of an answer; by default that of the longest training sentence.
        decoder: ``transformer``, or ``gru``: a recurrent network with attention, whose cost of a token does not grow.
        depth: Number of layers of the decoder.
        heads: Number of attention heads of the decoder.
        dropout: Dropout rate of the decoder.
        attend: What the decoder attends to beside the fused vector: the tokens of all ``streams``, or the ``fused`` tokens.
        smoothing: Share of probability that label smoothing spreads over all tokens in training.
        neighbours: Number of training rows whose vector and sentence the model keeps, to report the score of answering as
            the most similar one does; none: it keeps no row.
    """

    target_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"sentences": {"lowercase": False}}
    metrics: ClassVar[tuple[str, ...]] = ("chrf", "bleu", "token_f1", "exact_match")
    headline: ClassVar[str] = "chrf"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        decode: Decode = "beam",
        beam: int = 4,
        penalty: float = 1.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        longest: int | None = None,
        decoder: Decoder = "transformer",
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        attend: Attend = "streams",
        smoothing: float = 0.1,
        neighbours: int | None = 2000,
    ) -> None:
        refuse_prompts(goal, "translation")
        super().__init__(
            goal,
            dim,
            decoder=decoder,
            depth=depth,
            heads=heads,
            dropout=dropout,
            attend=attend,
            smoothing=smoothing,
            decode=decode,
            beam=beam,
            penalty=penalty,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            longest=longest,
            neighbours=neighbours,
        )

    @classmethod
    def encoder(cls, layout: Layout, targets: Sequence[Modality]) -> Spec | None:
        """Return an encoder of texts that keeps the order of words."""
        return "transformer" if isinstance(layout, Ids) else None
