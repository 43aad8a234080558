"""Word vectors: reader of GloVe and word2vec text files, and Word2Vec training."""

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
    """Read word vectors from a text file: a word and its numbers per line (GloVe), perhaps after a header (word2vec).

    The file is read line by line and contains no code; only the wanted words use memory.

    Args:
        path: The file.
        wanted: The words to read.
        width: The length of the vectors.

    Returns:
        The vectors ``[width]`` of the wanted words in the file.

    Raises:
        ConfigError: The file cannot be read, or a line is not a word with ``width`` finite numbers.
    """
    check_open(str(path))
    path = Path(path)
    wanted = frozenset(wanted)
    vectors: dict[str, Array] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                parts = line.rstrip("\r\n ").split(" ")
                if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                    _check_width(path, number, int(parts[1]), width)
                    continue
                if parts == [""]:
                    continue
                if len(line) >= _LONGEST_LINE:
                    raise ConfigError("is too long for a word and its numbers", file=f"{path}, line {number}")
                # Some words contain spaces, so numbers are counted from the end.
                _check_width(path, number, len(parts) - 1, width, more=True)
                word = " ".join(parts[:-width])
                if word in wanted and word not in vectors:
                    vectors[word] = _numbers(path, number, parts[-width:])
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
    return vectors


def _check_width(path: Path, line: int, count: int, width: int, *, more: bool = False) -> None:
    if count < width or (count != width and not more):
        raise ConfigError(
            f"has {count} numbers per word, not {width}", file=f"{path}, line {line}", fix=f"set width={count}"
        )


def _numbers(path: Path, line: int, parts: Sequence[str]) -> Array:
    try:
        vector = np.array([float(part) for part in parts], dtype=np.float32)
    except ValueError:
        raise ConfigError("has a value that is not a number", file=f"{path}, line {line}") from None
    if not np.isfinite(vector).all():
        raise ConfigError("has a number that is not finite", file=f"{path}, line {line}")
    return vector


def learn_vectors(
    texts: Sequence[Sequence[str]], width: int, *, window: int = 5, epochs: int = 10, seed: int = 0
) -> dict[str, Array]:
    """Train skip-gram vectors of the words that occur at least twice, by gensim in one thread, for reproducibility.

    Source: Word2Vec, https://arxiv.org/abs/1310.4546.

    Args:
        texts: The texts as lists of words.
        width: The length of the vectors.
        window: Maximum distance of context words.
        epochs: Number of passes over the texts.
        seed: Random seed.

    Returns:
        The vectors ``[width]`` by word.
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
