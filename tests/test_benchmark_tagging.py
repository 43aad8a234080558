"""The measure of English tags: what it reads of a treebank."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.tagging import OWN, measured, sentences

TREEBANK = """# text = I don't.
1\tI\tI\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\tSpaceAfter=No
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\tSpaceAfter=No
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

1\tNo\tno\tINTJ\tUH\t_\t0\troot\t_\t_
"""


def test_a_treebank_is_read(tmp_path: Path) -> None:
    file = tmp_path / "small.conllu"
    file.write_text(TREEBANK, encoding="utf-8")
    assert list(sentences(file)) == [[("I", "PRON"), ("do", "AUX"), ("n't", "PART"), (".", "PUNCT")], [("No", "INTJ")]]


def test_both_forms_measure_the_same(tmp_path: Path) -> None:
    pytest.importorskip("textblob")
    file = tmp_path / "own.conllu"
    rows = [
        "".join(f"{i}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n" for i, (word, tag) in enumerate(sentence, 1))
        for sentence in sentences(OWN)
    ]
    file.write_text("\n".join(rows), encoding="utf-8")
    assert measured(file)[:2] == measured(OWN)[:2]
    assert measured(OWN)[1] > 500
