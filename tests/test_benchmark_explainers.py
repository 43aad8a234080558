"""The tables of explainers say what their rows say, and digits in other shapes are still those digits."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import digits
from benchmarks.explainers import Line, areas, fill, grouped, mixed, table

from sensorium.core.registry import build
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.tables.table import Table


def row(gap: float, chance: float, lost: float | None = None) -> dict[str, Any]:
    return {"deletion": 0.2, "insertion": 0.2 + gap, "gap": gap, "chance": chance, "lost": lost, "same": None, "ms": 2.0}


def test_ahead_of_chance_is_a_paired_mean_with_its_error() -> None:
    one = Line([row(0.5, 0.1), row(0.3, 0.0), row(0.4, 0.2)])
    over = np.array([0.4, 0.3, 0.2])
    assert one.ahead == pytest.approx((over.mean(), over.std(ddof=1) / 3**0.5))
    assert one.beats
    assert not Line([row(0.5, 0.1), row(-0.4, 0.1)]).beats
    assert Line([row(0.5, 0.1, 0.002), row(0.5, 0.1, 0.01)]).adds == "1.0 %"
    assert Line([row(0.5, 0.1, 0.002), row(0.5, 0.1)]).adds == "0.2 %; 1 of 2 rank only"


def test_seeds_are_put_together_and_tables_stand_between_their_marks(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"case": "image", "encoder": "vit", "explainer": "shapley", "seed": seed, "rows": [row(0.5, 0.1), row(0.4, 0.1)]}
        for seed in (0, 1)
    ]
    lines.append({"case": "image", "encoder": "convnet", "explainer": "shapley", "seed": 0, "rows": [row(0.1, 0.1)] * 2})
    lines.append({"case": "image", "encoder": "vit", "explainer": "gradcam", "seed": 0, "refuses": "no"})
    assert {key: len(one.rows) for key, one in grouped(lines, "encoder", "explainer").items()} == {
        ("vit", "shapley"): 4,
        ("convnet", "shapley"): 2,
    }
    head, rule, *rows = table(lines).splitlines()
    assert all(line.count("|") == head.count("|") for line in (rule, *rows))
    assert len(rows) == 2
    assert "1 of 2 encoders (not convnet)" in areas(lines)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n", encoding="utf-8")
    fill(page, "x", "new")
    assert page.read_text(encoding="utf-8") == "before\n<!-- x -->\nnew\n<!-- /x -->\nafter\n"
    with pytest.raises(ValueError, match="no mark y"):
        fill(page, "y", "new")


def test_rows_are_taken_from_all_classes_in_turn() -> None:
    sorted_by_class = Table({"label": list("aaaabbbbcc")})
    order = mixed(sorted_by_class, 0)
    assert sorted(order) == list(range(10))
    assert ["aaaabbbbcc"[i] for i in order[:6]] == list("abcabc")
    assert mixed(sorted_by_class, 1) != order


@pytest.mark.parametrize("shape", sorted(digits.SHAPES))
def test_digits_in_another_shape(tmp_path: Path, shape: str) -> None:
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255  # a one
    (tmp_path / "digits").mkdir()
    Image.fromarray(picture).save(tmp_path / "digits" / "a.png")
    for part in ("train", "valid"):
        (tmp_path / "digits" / f"{part}.csv").write_text("image,label\na.png,1\na.png,1\n", encoding="utf-8")
    at = digits.make(tmp_path / "digits", tmp_path / shape, shape)
    with (at / "train.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["label"] for cell in cells] == ["1", "1"]
    cell: Any = cells[0][shape]
    kind = "video" if shape == "film" else shape
    if shape != "graph":
        cell = LocalFiles(at).open(cell)
    reader = build("modalities", kind)
    reader.fit([cell, cell])
    result = reader.encode(cell)
    if shape == "points":
        assert result.shape == (80, 3)
    elif shape == "graph":
        assert len(json.loads(cell)["nodes"]) == len(result) == 5
    elif shape == "vector":
        np.testing.assert_allclose(result.reshape(7, 7)[1:6, 3], 1.0)
        assert result.sum() == pytest.approx(5)
    else:
        assert result.shape[0] == digits.FILM
        bright = (result.reshape(digits.FILM, -1) > 200).sum(axis=1)
        assert (bright >= 60).sum() == 2


def test_chinese_sentences_say_what_their_label_says(tmp_path: Path) -> None:
    at = digits.chinese(tmp_path / "chinese", rows=20, held=4)
    with (at / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for cells in rows:
        clauses = cells["text"].rstrip("。").split("，")
        assert len(clauses) == 4
        assert bool(set(clauses) & set(digits.GOOD)) == (cells["label"] == "好评")
        assert bool(set(clauses) & set(digits.BAD)) == (cells["label"] == "差评")
