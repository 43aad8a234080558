"""A Chinese table with Chinese file and column names, from cells to predictions of a saved model."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import sensorium as sm

GOOD = ["质量很好，非常喜欢", "衣服漂亮，穿着舒服", "物流很快，值得购买", "颜色好看，我很满意"]
BAD = ["质量太差，不喜欢", "衣服难看，穿着难受", "物流太慢，不值得购买", "颜色难看，我不满意"]


def test_a_chinese_table(tmp_path: Path) -> None:
    pytest.importorskip("jieba")
    file = tmp_path / "评论数据.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["评论", "词性", "评价"])
        for i in range(80):
            text = (GOOD if i % 2 else BAD)[i // 2 % 4] + f"，第{i}次购买"
            writer.writerow([text, text, "好评" if i % 2 else "差评"])
    model = sm.fit(
        file,
        target="评价",
        columns={
            "评论": {"kind": "text", "segmenter": "jieba", "stop": "chinese", "tokeniser": "word"},
            "词性": {"kind": "part_of_speech"},
        },
        overrides=["model.size=tiny", "training.epochs=5", "training.lr=0.01"],
        out=tmp_path / "模型",
        quiet=True,
    )
    assert model.evaluate(file).targets["评价"].metrics["accuracy"] > 0.95
    again = sm.load(tmp_path / "模型")
    rows = [{"评论": "衣服漂亮，质量很好", "词性": "衣服漂亮，质量很好"}, {"评论": "质量太差，太慢"}]
    values = [results.value for results in again.predict(rows)]
    assert values == ["好评", "差评"]
