"""How figures are written: AUCs without a leading zero, differences with a sign, the rest with three figures."""

import math


def auc_text(value: float, digits: int = 4) -> str:
    """A number between -1 and 1 without its leading zero.

    >>> auc_text(0.77341), auc_text(1.0), auc_text(-0.0003)
    ('.7734', '1.0000', '−.0003')
    """
    text = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 else "") + (text[1:] if text.startswith("0.") else text)


def signed(value: float) -> str:
    """A difference of AUCs.

    >>> signed(0.0123), signed(-0.00049), signed(0.00001)
    ('+.0123', '−.0005', '±.0000')
    """
    text = auc_text(abs(value))
    return ("±" if not text.strip(".0") else "+" if value > 0 else "−") + text


def number(value: float) -> str:
    """A positive number with as many decimals as three figures need.

    >>> number(0.8657), number(36.69), number(1234.5)
    ('0.866', '36.7', '1,234')
    """
    digits = 0 if value >= 100 or value <= 0 else min(max(2 - math.floor(math.log10(value)), 0), 4)
    return f"{value:,.{digits}f}"


def percent(share: float) -> str:
    """A share in per cent, with a decimal where it is small.

    >>> percent(0.17061), percent(0.004)
    ('17\\xa0%', '0.4\\xa0%')
    """
    text = f"{100 * share:.{1 if 0.0005 <= abs(share) < 0.0095 else 0}f}"
    return f"{'0' if text == '-0' else text}\xa0%"


def duration(milliseconds: float) -> str:
    """A time with two figures.

    >>> duration(0.0042), duration(0.2), duration(35.04), duration(1234.5)
    ('under 0.01 ms', '0.2 ms', '35 ms', '1,234 ms')
    """
    if milliseconds < 0.01:
        return "under 0.01 ms"
    return f"{milliseconds:,.0f} ms" if milliseconds >= 99.5 else f"{milliseconds:.2g} ms"


def size(memory: int) -> str:
    """Bytes with two figures.

    >>> size(1_500_000), size(269_000_000), size(300)
    ('1.5 MB', '269 MB', '0.01 MB')
    """
    megabytes = memory / 1e6
    return f"{megabytes:,.0f} MB" if megabytes >= 9.95 else f"{max(megabytes, 0.01):.2g} MB"
