"""Word vectors: GloVe and word2vec text files read, Word2Vec learnt from the texts at hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError, MissingExtraError
from sensorium.core.load_guard import check_open

Array = NDArray[Any]
_LONGEST_LINE = 1 << 18


def read_vectors(path: str | Path, wanted: Collection[str], width: int) -> dict[str, Array]:
    """The vectors ``[width]`` of the wanted words that a text file holds: a word and its numbers a line (GloVe), perhaps
    after a line with the number of words and the width (word2vec).

    Read line by line, and only numbers are read: nothing in the file can run, and memory is that of the wanted words.
    """
    check_open(str(path))
    path = Path(path)
    wanted = frozenset(wanted)
    found: dict[str, Array] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                parts = line.rstrip("\r\n ").split(" ")
                if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                    _fits(path, number, int(parts[1]), width)
                    continue
                if parts == [""]:
                    continue
                if len(line) >= _LONGEST_LINE:
                    raise ConfigError("is too long for a word and its numbers", file=f"{path}, line {number}")
                # Some files have words with blanks in them: the numbers are counted from the end.
                _fits(path, number, len(parts) - 1, width, more=True)
                word = " ".join(parts[:-width])
                if word in wanted and word not in found:
                    found[word] = _numbers(path, number, parts[-width:])
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
    return found


def _fits(path: Path, line: int, there: int, width: int, *, more: bool = False) -> None:
    if there < width or (there != width and not more):
        raise ConfigError(
            f"holds {there} numbers a word, not {width}", file=f"{path}, line {line}", fix=f"set width={there}"
        )


def _numbers(path: Path, line: int, parts: Sequence[str]) -> Array:
    try:
        vector = np.array([float(part) for part in parts], dtype=np.float32)
    except ValueError:
        raise ConfigError("holds something that is no number", file=f"{path}, line {line}") from None
    if not np.isfinite(vector).all():
        raise ConfigError("holds a number that is not finite", file=f"{path}, line {line}")
    return vector


def learn_vectors(
    texts: Sequence[Sequence[str]], width: int, *, window: int = 5, epochs: int = 10, seed: int = 0
) -> dict[str, Array]:
    """Skip-gram vectors ``[width]`` of the words of ``texts`` that come twice or more, by gensim.

    Source: Word2Vec, https://arxiv.org/abs/1310.4546. One thread, so that the same texts give the same vectors.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError:
        raise MissingExtraError("learning word vectors", "text") from None
    model = Word2Vec(vector_size=width, window=window, min_count=2, sg=1, workers=1, seed=seed, epochs=epochs)
    model.build_vocab(texts)
    if not len(model.wv):
        return {}
    model.train(texts, total_examples=model.corpus_count, epochs=epochs)
    return {word: model.wv[word] for word in model.wv.key_to_index}
