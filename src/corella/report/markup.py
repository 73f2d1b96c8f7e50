"""Small pieces of HTML, and how numbers are written in it. Every text is escaped unless it is `Html` already."""

import html
import math
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Protocol

from corella.report.numbers import percent, signed


class Html(str):
    """Text that is HTML already and is not escaped again."""


def esc(value: object) -> str:
    """Escaped text, or HTML as it is.

    >>> esc("<b>"), esc(Html("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return value if isinstance(value, Html) else html.escape(str(value), quote=True)


def paragraph(text: str, css: str = "") -> str:
    """A paragraph of escaped text."""
    return f'<p class="{css}">{esc(text)}</p>' if css else f"<p>{esc(text)}</p>"


def figure(caption: str, svg: str) -> str:
    """A chart under its caption."""
    return f"<figure><figcaption>{esc(caption)}</figcaption>{svg}</figure>"


def details(summary: str, content: str) -> str:
    """Content that opens on request."""
    return f"<details><summary>{esc(summary)}</summary>{content}</details>"


def asset(name: str) -> str:
    """A file that lies beside this module."""
    return files("corella.report").joinpath(name).read_text(encoding="utf-8")


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: Collection[int] = (),
    bars: Collection[int] = (),
    edges: Collection[int] = (),
    above: str = "",
    marked: Collection[int] = (),
) -> str:
    """A table in its own scrolling box; the first cell of a row names it.

    `text`, `bars`, `edges`: columns of running text, of bars, and those that start a group; `above`: a row of
    group heads; `marked`: rows that stand out.
    """

    def classes(i: int) -> str:
        names = [n for n, columns in (("text", text), ("barcell", bars), ("first", edges)) if i in columns]
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f'<th scope="col"{classes(i)}>{esc(h)}</th>' if h else "<td></td>" for i, h in enumerate(heads))
    body = "".join(
        ("<tr class='this'>" if n in marked else "<tr>") + "".join(
            f'<th scope="row"{classes(0)}>{esc(c)}</th>' if i == 0 else f"<td{classes(i)}>{esc(c)}</td>"
            for i, c in enumerate(row)
        ) + "</tr>"
        for n, row in enumerate(rows)
    )  # fmt: skip
    header = f"<thead>{above}<tr>{head}</tr></thead>" if any(heads) else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}">'
        f"<table><caption><span>{esc(caption)}</span></caption>{header}<tbody>{body}</tbody></table></div>"
    )


def captured(share: float) -> str:
    """A captured gain, cut where it says nothing."""
    if not math.isfinite(share):
        return "n/a"
    return "< −100\xa0%" if share < -1 else "> 200\xa0%" if share > 2 else percent(share).replace("-", "−")


class Ends(Protocol):
    """Something with the ends of an interval."""

    @property
    def low(self) -> float:
        """The lower one."""
        ...

    @property
    def high(self) -> float:
        """The upper one."""
        ...


def span(difference: Ends) -> str:
    """The ends of an interval of a difference."""
    return f"{signed(difference.low)} to {signed(difference.high)}"


def interval(difference: Ends) -> str:
    """The same, saying what it is."""
    return f"95\xa0% interval {span(difference)}"
