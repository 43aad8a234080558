"""Self-contained HTML pages of headings, text and charts that load nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple

from sensorium.reporting.svg import STYLE

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
LOOKS = (
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,sans-serif}"
    "main{max-width:64rem;margin:0 auto;padding:2rem 1.1rem}h1{font-size:1.75rem;line-height:1.2;overflow-wrap:anywhere}"
    "h2{font-size:1.2rem;margin:2.2rem 0 .4rem;padding-top:.8rem;border-top:1px solid var(--line)}p{max-width:46rem}"
    "summary{cursor:pointer}section>details>summary{border-top:1px solid var(--line);margin-top:1.4rem}"
    "summary h2{display:inline-block;border:0;margin:.4rem 0;padding:0}.legend span{white-space:nowrap;margin-right:1rem}"
    ".legend i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}"
    ".chart{display:block;width:100%;max-width:34rem;height:auto}.scroll{overflow-x:auto;max-width:100%}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95rem}"
    "th,td{padding:.3rem .9rem .3rem 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}"
    "th:first-child,td:first-child,th:last-child,td:last-child{text-align:left}thead th{color:var(--soft);font-weight:500}"
    "dt{color:var(--soft);font-size:.82rem;margin-top:.5rem}dd{margin:0;overflow-wrap:anywhere}"
    ".skip{position:absolute;left:-99rem}.skip:focus{left:1rem;background:var(--page);padding:.4rem}"
    ":focus-visible{outline:2px solid var(--accent);outline-offset:2px}"
    "img{max-width:100%;max-height:18rem}.none{color:var(--soft)}h3{font-size:1rem;margin:1.2rem 0 .3rem}"
    "small,figcaption,.legend{color:var(--soft);font-size:.88rem}audio{max-width:100%}"
    "figure{margin:.4rem 0 1rem;max-width:46rem}"
    ".frames{display:flex;flex-wrap:wrap;gap:.3rem}.marked span{border-radius:3px}"
    ".rows{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr));gap:1rem}article{min-width:0}"
    ".maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:0 2rem;align-items:start}"
    ".maps>*{min-width:0}nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.92rem}a{color:var(--accent)}"
    "@media(max-width:30rem){.chart text{font-size:13px}}@media print{nav{display:none}figure{break-inside:avoid}}"
    "footer{color:var(--soft);font-size:.9rem;padding-top:2rem}"
)


LEGEND = (
    '<p class="legend"><span><i style="background:var(--for)"></i>supports the prediction</span>'
    '<span><i style="background:var(--against)"></i>opposes it</span>'
    '<span><i style="background:var(--missing)"></i>missing</span></p>'
)
"""Colour legend of explanations."""


class Section(NamedTuple):
    """A section of a page.

    Args:
        heading: Its heading.
        text: Introductory plain text.
        body: Safe HTML.
        folds: Whether it can be collapsed, and if so whether it is ``"open"`` or ``"closed"`` initially.
    """

    heading: str
    text: str
    body: str = ""
    folds: Literal["no", "open", "closed"] = "no"

    def html(self, place: int) -> str:
        """Render the section as number ``place`` of its page."""
        head = f"<h2>{escape(self.heading)}</h2>"
        inside = f"<p>{escape(self.text)}</p>{self.body}"
        if self.folds != "no":
            is_open = " open" if self.folds == "open" else ""
            return f'<section id="part-{place}"><details{is_open}><summary>{head}</summary>{inside}</details></section>'
        return f'<section id="part-{place}">{head}{inside}</section>'


LINKS = 8
"""Number of section links shown at the top of a page; the others are collapsed."""
OPEN_ROWS = 15
"""Number of table rows shown initially; the others are collapsed."""


def table_html(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Render a table of plain texts, with the header ``head`` and ``rows``, in a horizontally scrolling box."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]

    def table(part: list[str]) -> str:
        inside = f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(part)}</tbody></table>"
        return f'<div class="scroll" tabindex="0" role="region" aria-label="table">{inside}</div>'

    first, rest = lines[:OPEN_ROWS], lines[OPEN_ROWS:]
    more = f"<details><summary>{len(rest)} more rows</summary>{table(rest)}</details>" if rest else ""
    return table(first) + more


def _nav(headings: list[str]) -> str:
    """Links to the sections; all but the first few are collapsed."""
    links = [f'<a href="#part-{i}">{escape(heading)}</a>' for i, heading in enumerate(headings, start=1)]
    rest = "".join(f"<li>{link}</li>" for link in links[LINKS:])
    more = f"<details><summary>{len(links) - LINKS} more sections</summary><ul>{rest}</ul></details>" if rest else ""
    return f'<nav aria-label="Sections">{"".join(links[:LINKS])}{more}</nav>'


def write_page(path: str | Path, title: str, sections: Iterable[Section], *, key: str = "") -> Path:
    """Write a page.

    Args:
        path: The file to write.
        title: The heading of the page.
        sections: Its sections.
        key: A colour legend as safe HTML.
    """
    sections = list(sections)
    body = "".join(section.html(i) for i, section in enumerate(sections, start=1))
    nav = _nav([s.heading for s in sections]) if len(sections) > 2 else ""
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}{LOOKS}</style></head>'
        f'<body><a class="skip" href="#main">Skip to the page</a><main id="main"><h1>{escape(title)}</h1>{nav}{key}{body}'
        "<footer>Made by sensorium. This page loads nothing from the network.</footer></main></body></html>"
    )
    out = Path(path)
    out.write_text(page, encoding="utf-8")
    return out
