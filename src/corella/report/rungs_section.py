"""What a report begins with: what text is worth, at which price, in one sentence, one chart and one table."""

from corella.evaluation.results import Counted
from corella.evaluation.rungs import ALL, COLD_ITEMS, COLD_USERS, FEW, WARM, Measured, Prices, Rung
from corella.report.charts import Gain, gains_chart
from corella.report.markup import Html, esc, figure, paragraph, span, table
from corella.report.numbers import auc_text, duration, signed, size
from corella.report.wording import served, worths

TITLE = "What text is worth, at which price"
_NAMES = ("No language model", "Text once an item", "Asked per request")
_GROUPS = {
    ALL: "all samples",
    COLD_ITEMS: f"items with under {FEW} interactions",
    COLD_USERS: f"users with under {FEW} interactions",
    WARM: f"both with {FEW} or more",
}


def render_lead(prices: Prices) -> str:
    """The recommendation, in a box."""
    said = f"{paragraph(worths(prices))}{paragraph(served(prices), 'served')}"
    return f'<div class="lead" role="note" aria-label="In short">{said}</div>'


def render_rungs(prices: Prices, samples: Counted, backbone: str) -> str:
    """The content of the section. `backbone`: what the language model is called."""
    ways = [
        "It knows who interacted with what, in which order, and counts of it.",
        "A small text encoder reads each item's text once, when the catalogue changes. Serving reads none but those of "
        "new items.",
        f"A language model ({backbone}) reads the user's history and the item, where a router expects it to help "
        "most, within a budget.",
    ]
    items = "".join(
        f"<li><b>{_NAMES[rung.rung]}.</b> {esc(ways[rung.rung])}</li>" for rung in prices.rungs
    )  # fmt: skip
    measured = (
        f"Measured on {samples.test:,} test samples of {samples.test_users:,} users that nothing was fitted on. "
        "AUC is the chance that an item the user liked is scored above one that they did not: .5 is guessing, 1 is "
        "perfect. A gain is the AUC less that of the way before. Where its 95 % interval contains zero it "
        "cannot be distinguished from zero: n.s., not significant. Cold-start: under "
        f"{FEW} earlier interactions."
    )
    words = f"{paragraph('Ways to score an item for a user, each dearer than the one before:')}<ol class='ways'>"
    words = f"{words}{items}</ol>{paragraph(measured)}"
    rows = [
        Gain(_GROUPS[name], _NAMES[rung.rung], found.samples, found.gain)
        for rung in prices.rungs for name, found in rung.groups.items() if found.gain is not None
    ]  # fmt: skip
    if not rows:
        return words + paragraph("There are too few users or samples to measure a gain.") + _table(prices)
    chart = figure("AUC gained over the way before, with 95 % intervals", gains_chart(rows, _NAMES[1:]))
    return f'<div class="pair"><div>{words}</div>{chart}</div>{_table(prices)}'


def _table(prices: Prices) -> str:
    heads = [
        "", "AUC", "gain", "time a sample", "memory", "training", "cold-start items", "cold-start users", "warm",
    ]  # fmt: skip
    return table(
        "Gain over the way before, and price on top of it",
        heads,
        [_row(rung, prices) for rung in prices.rungs],
        edges=(3, 6),
        above="<tr><td></td><td></td><td></td>"
        '<th class="group" colspan="3" scope="colgroup">price</th><th class="group" colspan="3" scope="colgroup">'
        "gain in each group</th></tr>",
        marked=[n for n, rung in enumerate(prices.rungs) if rung.rung == prices.served],
    )


def _row(rung: Rung, prices: Prices) -> list[str]:
    price, name = rung.price, _NAMES[rung.rung]
    if rung.below is not None and rung.below != rung.rung - 1 and prices.rung(rung.rung - 1):
        name = Html(f"{name}<small>without text once an item</small>")
    plus = "+" if rung.below is not None else ""
    spent = f"{plus}{duration(price.milliseconds)}".replace("+under", "under")
    if price.milliseconds_asked is not None:
        spent = Html(f"{spent}<small>{duration(price.milliseconds_asked)} where asked</small>")
    everything = rung.groups[ALL]
    auc = "too few" if everything.auc is None else auc_text(everything.auc)
    gains = [_gain(rung, rung.groups[group]) for group in (ALL, COLD_ITEMS, COLD_USERS, WARM)]
    memory = f"{plus}{size(price.memory)}" if price.memory else ""
    return [name, auc, gains[0], spent, memory, f"{plus}{price.training_seconds:,.0f} s", *gains[1:]]


def _gain(rung: Rung, found: Measured) -> str:
    if rung.below is None:
        return ""
    gain = found.gain
    if gain is None:
        return "too few"
    unsure = "" if gain.low > 0 or gain.high < 0 else " n.s."
    return Html(f"{signed(gain.mean)}{unsure}<small>{span(gain)}</small>")
