"""What several sections are made of: tables, lists of facts, numbers as they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mbn_deploy.report.html import Html, joined, tag, text
from mbn_deploy.verify.statistics import Estimate

MINUS = "−"


def section(identity: str, title: str, *content: object) -> Html:
    """A part of the page under its heading, which is also its name for screen readers."""
    heading = tag("h2", title, id=identity)
    return tag("section", heading, *content, aria_labelledby=identity)


def table(identity: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """The first column names its row. Where it is too wide it scrolls by itself, by keyboard, too."""
    head = tag("tr", *(tag("th", name, scope="col") for name in columns))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    made = tag("table", tag("caption", caption, id=identity), tag("thead", head), tag("tbody", *body))
    return tag("div", made, class_="wide", role="region", aria_labelledby=identity, tabindex=0)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """A list of names and what they are; None is left out."""
    return tag("dl", *(joined([tag("dt", n), tag("dd", v)]) for n, v in pairs if v is not None), class_="facts")


def commands(*lines: str) -> Html:
    """Lines to copy; one click selects them."""
    return tag("pre", tag("code", Html("\n".join(text(line) for line in lines))))


def code(value: object) -> Html:
    """A name as it is typed; a long one breaks behind underscores."""
    return tag("code", breaking(value))


def breaking(value: object) -> Html:
    """A name that may break behind its underscores."""
    return Html(text(value).replace("_", "_<wbr>"))


def number(value: float, digits: int) -> str:
    """With a true minus sign."""
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """With its sign; nothing but zeros has none."""
    shown = f"{value:+.{digits}f}"
    return shown.lstrip("+-") if float(shown) == 0 else shown.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """So many digits that mean something, without exponent where it is not needed."""
    return f"{value:.{digits}g}".replace("-", MINUS)


def three_digits(value: float) -> str:
    """Zeros too, so that figures below each other have the same precision."""
    return f"{value:#.3g}".removesuffix(".")


def size(count: int) -> str:
    """`3.4 MB` (1 MB = 1e6 bytes), `812 kB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


def interval(value: str, low: str, high: str) -> Html:
    """A figure with its bounds behind it."""
    return joined([tag("span", value, class_="figure"), " ", tag("span", f"{low} to {high}", class_="bounds")])


def percent(estimate: Estimate) -> Html:
    """A share with its interval."""
    return interval(*(number(100 * v, 1) for v in (estimate.value, estimate.low, estimate.high)))


def points(estimate: Estimate) -> Html:
    """A difference of shares with its interval, in percentage points."""
    return interval(*(signed(100 * v, 1) for v in (estimate.value, estimate.low, estimate.high)))


def estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    """Out of the manifest's JSON."""
    return None if data is None else Estimate(data["value"], data["low"], data["high"])
