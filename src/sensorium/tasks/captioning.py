"""Captions: a sentence about the row."""

from __future__ import annotations

from typing import ClassVar

from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.heads.sentence_task import Attend, Decode, Decoder, SentenceTask, refuse_prompts


@component
class Captioning(SentenceTask):
    """A sentence about the row, generated word by word: a caption of a photo, a video, a sound, a series, a table.

    The target is a text column (kind ``sentences``); a cell may hold several captions, ``["one", "two"]``, of which each is
    learnt, and the best match counts. A small decoder attends to the tokens of every stream that the row has.

    Answers hold the sentence, its ``score`` (the mean log probability of its tokens), the ``confidence`` (the same as a
    probability) and ``alternatives``. Scores are CIDEr-D, BLEU (with ``sensorium[words]``), ROUGE-L, the F1 of words and
    exact matches, each beside those of the inputs of other rows, of the best constant sentence and of the caption of the
    most similar training row.

    Output: ``Context``, what the decoder attends to. Target: token ids ``[B, N]``, each sentence with its end. Loss: the
    mean negative log-likelihood of a token. Sources: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (decoder);
    Vedantam et al. 2015, https://arxiv.org/abs/1411.5726 (CIDEr-D); Lin 2004, https://aclanthology.org/W04-1013 (ROUGE-L);
    Papineni et al. 2002, https://aclanthology.org/P02-1040 (BLEU).

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

    metrics: ClassVar[tuple[str, ...]] = ("cider", "bleu", "rouge_l", "token_f1", "exact_match")
    headline: ClassVar[str] = "cider"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        decode: Decode = "beam",
        beam: int = 3,
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
        refuse_prompts(goal, "captioning")
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
