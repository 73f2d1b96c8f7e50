"""What text is worth, at which price, and what is served: in sentences."""

from corella.evaluation.rungs import ALL, COLD_ITEMS, FEW, Prices, Rung
from corella.intervals import Difference
from corella.report.numbers import duration, percent, signed

SERVED = ("no language model", "text once an item", "a language model asked per request")
"""What each rung is, in words."""


def recommendation(prices: Prices) -> str:
    """What text is worth at which price, and what is served: the sentences that a training ends with and a report
    begins with."""
    return f"{worths(prices)} {served(prices)}"


def worths(prices: Prices) -> str:
    """The first of them."""
    text, asking = prices.rung(1), prices.rung(2)
    said = [
        _text(text) if text else "no text encoder has read the items",
        _asking(asking) if asking else "with a budget of 0 no language model is asked per request",
    ]
    return f"On your data ({prices.part} rows), {'; '.join(said)}."


def served(prices: Prices) -> str:
    """The second."""
    what, asking = SERVED[prices.served], prices.rung(2)
    if prices.served == 2 and asking is not None:
        what += ", on top of text once an item" if asking.below == 1 else ", without text once an item"
    auto = "the cheapest that is not significantly worse on validation rows"
    return f"Served: {what} ({auto if prices.setting == 'auto' else f'as routing.rung={prices.setting} wants'})."


def override(prices: Prices, share: float) -> str:
    """How to have it otherwise. `share`: what the budget would buy; where it
    is 0, a share to try is named."""
    if prices.served == 2:
        asking = prices.rung(2)
        below = asking.below if asking else 0
        return (
            "To ask no language model: `corella score --share 0`, `corella serve --set share=0`, "
            f"or train with routing.rung={below}."
        )
    share = share or 0.2
    return (
        f"To ask a language model all the same: `corella score --share {share:.3g}`, "
        f"`corella serve --set share={share:.3g}`, or train with routing.rung=2."
    )


def _text(rung: Rung) -> str:
    gain, what = rung.groups[ALL].gain, "text read once an item"
    if gain is None:
        return f"there are too few users or samples to tell what {what} is worth"
    cold = rung.groups[COLD_ITEMS].gain
    aside = f" ({signed(cold.mean)}{_unsure(cold)} on items with under {FEW} interactions)" if cold else ""
    return f"{what} is worth {worth(gain)}{aside} for {duration(rung.price.milliseconds)} more a sample"


def _asking(rung: Rung) -> str:
    gain, share = rung.groups[ALL].gain, rung.price.share or 0.0
    what = f"asking a language model per request, about {percent(share)} of the samples,"
    if gain is None:
        return f"there are too few users or samples to tell what {what} would add"
    return f"{what} adds {worth(gain)} for {duration(rung.price.milliseconds_asked or 0.0)} each time"


def worth(gain: Difference) -> str:
    """A gain with its interval, and whether it can be told from zero.

    >>> worth(Difference(0.011, 0.007, 0.016, 0.01)), worth(Difference(0.0005, -0.001, 0.002, 0.6))
    ('+.0110 AUC [+.0070, +.0160]', '+.0005 AUC [−.0010, +.0020] (n.s.)')
    """
    return f"{signed(gain.mean)} AUC [{signed(gain.low)}, {signed(gain.high)}]{' (n.s.)' if _unsure(gain) else ''}"


def _unsure(gain: Difference) -> str:
    """Not significant: the interval holds 0."""
    return "" if gain.low > 0 or gain.high < 0 else ", n.s.,"
