"""Task views as HTML, one renderer for each type of view."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from markupsafe import Markup

from sensorium.core.answer import Attachment
from sensorium.core.report_views import Bars, Curve, Gallery, Lines, Matrix, Scatter, Sentence, Table, View
from sensorium.data.files.attachment_files import data_url
from sensorium.evaluation.formatting import number
from sensorium.reporting import charts
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.page import table_html

LABELS = 20
"""Maximum number of labels for which a matrix is drawn; of larger ones only the most frequent errors are listed."""


def view_html(view: View, target: str, room: Any) -> dict[str, Markup] | None:
    """Render a view as heading and body; None for sentences, which belong to the model card.

    Args:
        view: The view.
        target: The target, for accessible names.
        room: The page's remaining budget for media (``report.Room``).
    """
    draw: dict[type[View], Callable[[Any, str], str]] = {
        Table: _table,
        Matrix: _matrix,
        Curve: _curve,
        Lines: _lines,
        Scatter: _scatter,
        Bars: _bars,
        Gallery: lambda gallery, _: _gallery(gallery, room),
    }
    if isinstance(view, Sentence):
        return None
    return {"title": Markup(escape(view.title)), "body": Markup(draw[type(view)](view, target))}


def _figure(chart: str, note: str) -> str:
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure>{chart}{caption}</figure>"


def _table(view: Table, target: str) -> str:
    keys = list(view.rows[0]) if view.rows else []
    head = [(view.words or {}).get(key, key) for key in keys]
    cells = [[number(v) if isinstance(v, float) else str(v) for v in row.values()] for row in view.rows[: view.most]]
    more = len(view.rows) - view.most
    rest = f'<p class="soft">{more} further rows are omitted.</p>' if more > 0 else ""
    note = f'<p class="soft">{escape(view.note)}</p>' if view.note else ""
    return note + table_html(head, cells) + rest


def _matrix(view: Matrix, target: str) -> str:
    note = view.note or (
        "Confusion matrix, one row per true class. Blue is correct, red is wrong; darker is a larger share of the row."
    )
    drawn = ""
    if len(view.labels) <= LABELS:
        drawn = _figure(charts.heat_map(view.labels, view.counts, title=f"{view.name} matrix of {target}"), note)
    pairs = [(true, answered, str(count)) for true, answered, count in view.mistaken()]
    errors = table_html(["true", "predicted", "rows"], pairs) if pairs else "<p>No row was misclassified.</p>"
    return f'<div class="pair">{drawn}<div>{errors}</div></div>'


def _curve(view: Curve, target: str) -> str:
    chart = charts.dotted(view, title=f"{view.name} of {target}")
    return _figure(chart, view.note)


def _lines(view: Lines, target: str) -> str:
    drawn = {name: ([x for x, _ in points], [y for _, y in points]) for name, points in view.lines}
    chart = charts.xy_chart(drawn, title=f"{view.name} of {target}", x_name=view.x, y_name=view.y)
    return _figure(chart, view.note)


def _scatter(view: Scatter, target: str) -> str:
    return _figure(charts.scatter(view.answered, view.true, title=f"predicted and true {target}"), view.note)


def _bars(view: Bars, target: str) -> str:
    return _figure(bar_chart([Bar(*bar) for bar in view.values], title=f"{view.name} of {target}"), view.note)


def _gallery(view: Gallery, room: Any) -> str:
    shown = ""
    for picture in view.pictures:
        drawn = attachment_html(Attachment(picture.pixels, "image", note=picture.caption))
        shown += room.fit(f"<article>{drawn}<p>{escape(picture.caption)}</p></article>")
    note = f'<p class="soft">{escape(view.note)}</p>' if view.note else ""
    return f'{note}<div class="rows">{shown}</div>'


def attachment_html(attachment: Attachment) -> str:
    """Render the predicted medium ``attachment`` as self-contained HTML."""
    label = escape(attachment.note or attachment.kind, quote=True)
    if attachment.kind == "audio":
        return f'<audio controls title="{label}" src="{data_url(attachment)}"></audio>'
    return f'<img alt="{label}" title="{label}" src="{data_url(attachment)}">'
