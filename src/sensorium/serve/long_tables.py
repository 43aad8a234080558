"""Long tables in requests: a row per time step, from which the last window of each series is forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core.errors import SensoriumError
from sensorium.core.recipe import Windows
from sensorium.data.regular_grid import TIMES
from sensorium.data.tables.table import Table
from sensorium.data.window_tables import as_windows
from sensorium.predictor import Prediction
from sensorium.serve.http_errors import RequestError
from sensorium.serve.limits import Limits

SOURCE = "the table"


@dataclass(frozen=True)
class CutTable:
    """The windows of a long table.

    Args:
        rows: The windows as rows of the model.
        times: The moments of each forecast, where the table has a clock.
        series: The series of each window, where there are several.
        notes: Notes on filled and missing values.
    """

    rows: list[dict[str, Any]]
    times: list[Any] | None
    series: list[Any] | None
    notes: list[str]

    def answered(self, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Return ``predictions`` as JSON with the times and the series of each."""
        answers = []
        for i, prediction in enumerate(predictions):
            document = prediction.to_json()
            if self.times is not None:
                document["targets"] = {name: {**one, TIMES: self.times[i]} for name, one in document["targets"].items()}
            if self.series is not None:
                document["series"] = self.series[i]
            answers.append(document)
        return answers


def cut_table(rows: Any, windows: Windows | None, limits: Limits) -> CutTable:
    """Return the last window of each series of the long table ``rows``, a list of JSON objects.

    Args:
        rows: The rows as parsed.
        windows: How the training table was cut; None: the model does not read long tables.
        limits: The limits of a request.

    Raises:
        RequestError: The model does not read long tables, or the table cannot be cut; the message names the row.
    """
    if windows is None:
        raise RequestError(422, "the model was not trained on windows of a long table", fix='send {"rows": [{...}, ...]}')
    if not isinstance(rows, list) or not rows:
        raise RequestError(422, "table must be a list of rows, one for each moment")
    for i, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise RequestError(422, "a row must be an object that maps columns to cells", row=i)
        for name, cell in row.items():
            if isinstance(cell, str) and len(cell) > limits.text:
                problem = f"a text of {len(cell)} characters, more than the allowed {limits.text}"
                raise RequestError(413, problem, row=i, column=name[:80])
    try:
        names = dict.fromkeys(name for row in rows for name in row)
        table = Table({name: [row.get(name) for row in rows] for name in names}, source=SOURCE)
        cut = as_windows(table, windows)
    except SensoriumError as error:
        details = {key: value for key in ("row", "column") if (value := getattr(error, key, None)) is not None}
        raise RequestError(422, error.problem, fix=error.fix, **details) from None
    if not len(cut):
        raise RequestError(422, "no series of the table has a number in its past")
    if len(cut) > limits.rows:
        raise RequestError(
            413, f"{len(cut)} series in one request, more than the allowed {limits.rows}", fix="send fewer series"
        )

    def listed(name: str | None) -> list[Any] | None:
        return list(cut.column(name)) if name is not None and cut.has(name) else None

    plain = [{name: _plain(cell) for name, cell in row.items() if name != TIMES} for row in cut.rows()]
    return CutTable(plain, listed(TIMES), listed(windows.series), list(cut.notes))


def _plain(cell: Any) -> Any:
    """``cell`` in JSON form: an array as lists, a missing number as null."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, list):
        return [_plain(part) for part in cell]
    return None if isinstance(cell, float) and cell != cell else cell
