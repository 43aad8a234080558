"""Rivals of the league: three models of scikit-learn with expert preprocessing.

* ``linear``: numbers with the median imputed, an indicator of missing cells, and standardised; one-hot categories; texts as
  TF-IDF of words, word pairs and character n-grams (2 to 5); logistic or ridge regression with its penalty chosen by
  cross-validation on the training rows.
* ``forest``: 300 extremely randomised trees on the same inputs, but numbers unscaled and texts reduced to 50 components.
* ``boosting``: histogram gradient boosting on the inputs of the forest, with missing values left to the trees.

All three read series, pictures and sounds as numbers: statistics and a resampled curve, the pixels of a thumbnail, log-mel
means. Nothing is chosen on the rows that are scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.league_sets import Kind, Set
from sensorium.core.modality import is_blank

Array = NDArray[Any]
WAYS = ("linear", "forest", "boosting")
COURSE = 64
THUMBNAIL = {1: 24, 3: 16}
"""Width and height in pixels, by the number of colour channels."""


def number(cell: Any) -> float:
    return np.nan if is_blank(cell) else float(cell)


def _series(cell: Any, root: Path) -> Array:
    """Return statistics of each channel and its values resampled at 64 points, or 24 for more than two channels."""
    steps = np.load(root / cell, allow_pickle=False) if isinstance(cell, str) else np.asarray(cell)
    steps = steps.reshape(len(steps), -1).astype(np.float64)
    points = COURSE if steps.shape[1] <= 2 else 24
    result = [float(len(steps))]
    for channel in steps.T:
        known = np.isfinite(channel)
        if not known.any():
            result += [np.nan] * (9 + points)
            continue
        filled = np.interp(np.arange(len(channel)), np.flatnonzero(known), channel[known])
        change = np.diff(filled) if len(filled) > 1 else np.zeros(1)
        result += [filled.mean(), filled.std(), *np.quantile(filled, (0, 0.25, 0.5, 0.75, 1))]
        result += [np.abs(change).mean(), change.std()]
        result += np.interp(np.linspace(0, len(filled) - 1, points), np.arange(len(filled)), filled).tolist()
    return np.array(result)


def _image(cell: Any, root: Path) -> Array:
    """Return the pixels of a thumbnail, in [0, 1]."""
    from PIL import Image

    with Image.open(root / cell) if isinstance(cell, str) else Image.fromarray(cell) as opened:
        grey = opened.mode in ("1", "L", "I", "I;16", "F")
        picture = opened.convert("L" if grey else "RGB")
    side = THUMBNAIL[1 if grey else 3]
    if max(picture.size) > side:
        picture = picture.resize((side, side), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float64).ravel() / 255


def _audio(cell: Any, root: Path) -> Array:
    """Return the mean and deviation of 40 log-mel bands over the recording, and their means over each eighth of it."""
    import soundfile
    from scipy.signal import stft

    from sensorium.signal.mel import filterbank

    samples, rate = soundfile.read(root / cell, always_2d=True)
    window = min(round(0.032 * rate), len(samples))
    _, _, spectrum = stft(samples.mean(axis=1), rate, nperseg=window, nfft=1024, noverlap=window // 2)
    bands = np.log(filterbank(rate, 1024, 40) @ np.abs(spectrum) ** 2 + 1e-10)
    parts = [part.mean(axis=1) for part in np.array_split(bands, 8, axis=1) if part.shape[1]]
    parts += [parts[-1]] * (8 - len(parts))
    return np.concatenate([bands.mean(axis=1), bands.std(axis=1), *parts])


_MEDIA: dict[Kind, Callable[[Any, Path], Array]] = {"series": _series, "image": _image, "audio": _audio}


class Plain:
    """All rows of a set as columns for scikit-learn; everything fitted is fitted on the training rows of each fold."""

    def __init__(self, which: Set) -> None:
        table = which.table
        root = table.root or Path.cwd()
        numbers: list[Array] = []
        self.words: list[Array] = []
        self.texts: list[list[str]] = []
        for name, kind in which.kinds.items():
            cells = table.column(name)
            if kind == "number":
                numbers.append(np.array([[number(cell)] for cell in cells]))
            elif kind == "category":
                self.words.append(np.array([["" if is_blank(cell) else str(cell)] for cell in cells], dtype=object))
            elif kind == "text":
                self.texts.append(["" if is_blank(cell) else str(cell) for cell in cells])
            else:
                results = [None if is_blank(cell) else _MEDIA[kind](cell, root) for cell in cells]
                width = max(len(result) for result in results if result is not None)
                numbers.append(np.array([np.full(width, np.nan) if result is None else result for result in results]))
        self.numbers = np.hstack(numbers) if numbers else np.empty((len(table), 0))

    def design(self, way: str, learn: Array, check: Array, seed: int) -> tuple[Any, Any]:
        """Return input matrices of the rows ``learn``, on which the preprocessing is fitted, and of the rows ``check``."""
        from scipy.sparse import csr_array, hstack, issparse
        from sklearn.preprocessing import OneHotEncoder

        blocks = []
        if self.numbers.shape[1]:
            blocks.append(_fitted(_of_numbers(way), self.numbers[learn], self.numbers[check]))
        if self.words:
            cells = np.hstack(self.words)
            onehot = OneHotEncoder(handle_unknown="ignore", min_frequency=2, sparse_output=way == "linear")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Found unknown categories")
                blocks.append(_fitted(onehot, cells[learn], cells[check]))
        for texts in self.texts:
            learn_texts, check_texts = [texts[i] for i in learn], [texts[i] for i in check]
            blocks.append(_fitted(_of_texts(way, len(learn_texts), seed), learn_texts, check_texts))
        if any(issparse(matrix) for block in blocks for matrix in block):
            first, second = (csr_array(hstack([block[i] for block in blocks])) for i in (0, 1))
            return first, second
        return np.hstack([block[0] for block in blocks]), np.hstack([block[1] for block in blocks])


def _fitted(step: Any, learn: Any, check: Any) -> tuple[Any, Any]:
    return step.fit_transform(learn), step.transform(check)


def _of_numbers(way: str) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    filled = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    if way == "linear":
        return make_pipeline(filled, StandardScaler())
    return filled if way == "forest" else FunctionTransformer()


def _of_texts(way: str, rows: int, seed: int) -> Any:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion, make_pipeline

    least = 2 if rows >= 50 else 1
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=least, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[?!]")
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=least, sublinear_tf=True, max_features=30_000)
    both = FeatureUnion([("words", words), ("letters", letters)])
    return both if way == "linear" else make_pipeline(both, TruncatedSVD(50, random_state=seed))


def _likelihood(model: Any, inputs: Any, answers: Array) -> float:
    """Return the mean log-probability of the true class; a class without training rows counts as the lower bound."""
    place = {name: i for i, name in enumerate(model.classes_)}
    chances = model.predict_proba(inputs)
    right = [chances[row, place[name]] if name in place else 0.0 for row, name in enumerate(answers)]
    return float(np.log(np.clip(right, 1e-6, None)).mean())


def _model(way: str, classes: bool, answers: Array, seed: int) -> Any:
    from sklearn import ensemble, linear_model
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    if way == "linear" and classes:
        parts = int(np.clip(np.unique(answers, return_counts=True)[1].min(), 2, 5))
        split = StratifiedKFold(parts, shuffle=True, random_state=seed)
        logistic = linear_model.LogisticRegression(max_iter=2000)
        return GridSearchCV(logistic, {"C": np.logspace(-3, 2, 6)}, scoring=_likelihood, cv=split)
    if way == "linear":
        return linear_model.RidgeCV(np.logspace(-3, 4, 15))
    if way == "forest":
        forest = ensemble.ExtraTreesClassifier if classes else ensemble.ExtraTreesRegressor
        return forest(300, random_state=seed, n_jobs=1)
    boosting = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
    return boosting(random_state=seed)


def answer(
    way: str, plain: Plain, which: Set, learn: Array, check: Array, answers: Array, names: Sequence[str], seed: int
) -> Array:
    """Return the predictions of a rival for the rows ``check``: probabilities ``[rows, classes]`` in the order of
    ``names``, or numbers."""
    known, requested = plain.design(way, learn, check, seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class in y")
        warnings.filterwarnings("ignore", "lbfgs failed to converge")
        model = _model(way, which.classes, answers[learn], seed).fit(known, answers[learn])
    if not which.classes:
        return np.asarray(model.predict(requested), dtype=np.float64)
    chances = np.zeros((len(check), len(names)))
    chances[:, [list(names).index(name) for name in model.classes_]] = model.predict_proba(requested)
    return chances
