"""Experiments in words."""

from corella.serving.trial.policy import Values
from corella.serving.trial.tracker import Standing


def value_in_words(found: Values) -> str:
    """What a policy is worth, by the doubly robust estimate."""
    best = found.robust
    return (
        f"{100 * best.value:.2f} % [{100 * best.low:.2f}, {100 * best.high:.2f}] of the pages end in a success with "
        f"the first item ({found.pages:,} pages drawn by lot, worth {best.effective:,.0f}; the largest weight is "
        f"{best.largest_weight:.1f})"
    )


def in_words(standing: Standing) -> str:
    """How it stands, in a sentence or two for each arm beside the control.

    >>> from corella.serving.trial.tracker import ArmNow, Contrast
    >>> arms = [ArmNow("control", 900, 800, 0.1), ArmNow("more", 900, 800, 0.2)]
    >>> in_words(Standing("e", arms, [Contrast("more", 0.04, 0.16)], 7199))
    'more: 20.0 % of 800 users against 10.0 % of 800 in control, better by 4.0 to 16.0 points.'
    """
    control, *others = standing.arms
    said = []
    for arm, contrast in zip(others, standing.contrasts, strict=True):
        if min(control.complete, arm.complete) == 0 or (contrast.low, contrast.high) == (-1.0, 1.0):
            said.append(f"{arm.name}: too few users so far to say anything; {standing.needed:,} an arm are needed.")
            continue
        rates = (
            f"{arm.name}: {100 * arm.rate:.1f} % of {arm.complete:,} users against {100 * control.rate:.1f} % of "
            f"{control.complete:,} in {control.name}"
        )
        if contrast.low > 0:
            found = f"better by {100 * contrast.low:.1f} to {100 * contrast.high:.1f} points"
        elif contrast.high < 0:
            found = f"worse by {-100 * contrast.high:.1f} to {-100 * contrast.low:.1f} points"
        else:
            found = (
                f"no clear difference ({100 * contrast.low:+.1f} to {100 * contrast.high:+.1f} points); "
                f"{standing.needed:,} users an arm are needed"
            )
        said.append(f"{rates}, {found}.")
    return " ".join(said)
