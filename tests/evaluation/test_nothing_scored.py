"""``evaluate`` fails with a reason if no row can be scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, ("holds no target column: event", "use predict")),
        ("", ("no row has a target, so there is nothing to score", "use predict")),
        ("a class that training did not have", ("no row could be scored", "write targets as the training table does")),
    ],
)
def test_a_table_without_targets_is_rejected(
    cli: Any, run_folder: Path, scenes: Path, tmp_path: Path, read_csv: Any, write_csv: Any, target: Any, words: Any
) -> None:
    rows = [{k: v for k, v in row.items() if k != "event"} for row in read_csv(scenes / "test.csv")[:6]]
    rows = rows if target is None else [row | {"event": target} for row in rows]
    table = write_csv(tmp_path / "t.csv", rows)
    code, out, err = cli("evaluate", run_folder, table, "--media", scenes, "--json", tmp_path / "scores.json")
    assert code != 0
    assert out == ""
    assert all(part in err for part in words), err
    assert "Traceback" not in err
    assert not (tmp_path / "scores.json").exists()


def test_a_table_without_rows_is_rejected(cli: Any, run_folder: Path, scenes: Path, tmp_path: Path, read_csv: Any) -> None:
    header = ",".join(read_csv(scenes / "test.csv")[0])
    table = tmp_path / "t.csv"
    table.write_text(header + "\n", encoding="utf-8")
    code, out, err = cli("evaluate", run_folder, table, "--media", scenes)
    assert code != 0
    assert out == ""
    assert "no rows" in err or "nothing to score" in err
