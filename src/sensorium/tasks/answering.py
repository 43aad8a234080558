"""Answers in words to a question about the row."""

from __future__ import annotations

from typing import ClassVar

from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.heads.sentence_task import Attend, Decode, Decoder, SentenceTask


@component
class Answering(SentenceTask):
    """An answer in words to a question about the row, generated word by word: questions about a photo, a video, a sound.

    The target is a text column (kind ``sentences``); a cell may hold several right answers, ``["one", "two"]``. The
    question is a ``prompt`` column: a text, or a cell of the table (``--task answering --prompt question``). Its words
    stand before the answer in a small decoder, so that each looks at the tokens of every stream that the row
    has. A question in another form, such as a recording, is an input like any other, and the prompt may be left out.

    Answers hold the sentence, its ``score`` (the mean log probability of its tokens), the ``confidence`` (the same as a
    probability) and ``alternatives``. Scores are exact matches, the F1 of words and ROUGE-L, each beside those of the same
    question with the inputs of other rows, of the best constant answer and of the answer of the most similar training row.

    Output: ``Context``, what the decoder attends to. Target: token ids ``[B, N]``, each sentence with its end. Loss: the
    mean negative log-likelihood of a token. Sources: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (decoder);
    Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250 (exact match, F1).

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

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "token_f1", "rouge_l")
    headline: ClassVar[str] = "exact_match"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        decode: Decode = "beam",
        beam: int = 1,
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
        smoothing: float = 0.0,
        neighbours: int | None = 2000,
    ) -> None:
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
