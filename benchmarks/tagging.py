"""``python -m benchmarks.tagging [FILE ...]``: tagging accuracy on hand-tagged English, and words per second.

A file is a treebank in CoNLL-U (see https://universaldependencies.org), or lines of ``WORD/TAG``; without one, the forty
sentences of the tests are used. The words are those of the file, so that only the tags are measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from sensorium.language.part_of_speech import english

OWN = Path(__file__).resolve().parent.parent / "tests" / "language" / "data" / "tagged_english.txt"


def sentences(file: Path) -> Iterator[list[tuple[str, str]]]:
    """Yield the sentences of a file as pairs of word and tag."""
    results: list[tuple[str, str]] = []
    for line in [*file.read_text(encoding="utf-8").splitlines(), ""]:
        cells = line.split("\t")
        if line.startswith("#"):
            continue
        if len(cells) == 10:
            # 3-4 is a group whose words follow, 8.1 a word that is not in the text.
            if cells[0].isdecimal():
                results.append((cells[1], cells[3]))
            continue
        results += [(word, tag) for word, _, tag in (item.rpartition("/") for item in line.split())]
        if results:
            yield results
        results = []


def measured(file: Path) -> tuple[int, int, float]:
    """Return the number of correctly tagged words, the number of words, and the seconds."""
    tagged = list(sentences(file))
    english(["Ready", "."])  # the lexicon is read once
    begun = time.perf_counter()
    predicted = [english([word for word, _ in sentence]) for sentence in tagged]
    seconds = time.perf_counter() - begun
    pairs = [pair for a, b in zip(predicted, tagged, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a == b for a, b in pairs), len(pairs), seconds


def main() -> None:
    from scipy.stats import binomtest

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tagging", description="English tags beside hand-tagged text."
    )
    parser.add_argument("files", nargs="*", type=Path, default=[OWN], help="CoNLL-U, or lines of WORD/TAG")
    for file in parser.parse_intermixed_args().files:
        right, words, seconds = measured(file)
        if not words:
            parser.error(f"{file} holds no tagged word")
        low, high = binomtest(right, words).proportion_ci(method="wilson")
        share = f"{right / words:.1%} ({low:.1%} to {high:.1%})"
        print(f"{file.name}: {right:,} of {words:,} words, {share}, {words / seconds:,.0f} words/s")


if __name__ == "__main__":
    main()
