"""What another budget of the router would have earned, from pages that were shown by lot: nothing has to be served for
it.

A policy here decides which item of a page stands first. A page says of each of its items the conventional model's
score, the final one where the language model was asked, and the router's priority: so of any budget up to the one that
served it is known which item it would have put first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from corella.errors import UserError
from corella.experiments.off_policy import Estimate, doubly_robust, inverse_propensity, self_normalised
from corella.serving.store.records import Event, Record, Shown, Undone

Doubles = npt.NDArray[np.float64]

HOUR = 3600


@dataclass(frozen=True)
class Values:
    """What a policy earns a page: the chance of a success with the item that stands first."""

    pages: int
    """That were shown by lot."""
    inverse: Estimate
    normalised: Estimate
    robust: Estimate
    """The one to go by."""


@dataclass(frozen=True)
class _Page:
    shown: Shown
    reward: float


def value_of(records: Sequence[Record], threshold: float, outcomes: Sequence[str], hours: float) -> Values:
    """The value of asking the language model about items whose priority reaches `threshold` (infinity: none).

    `outcomes`: kinds of events that count, within `hours` after a page, about the item that stood first. Raises
    `UserError` where no page was shown by lot (setting `explore`).
    """
    pages = _pages(records, outcomes, hours)
    if not pages:
        raise UserError("no page was shown by lot: set explore (say 0.1) and serve for a while")
    first = [_first(page.shown, threshold) for page in pages]
    reward = np.array([page.reward for page in pages])
    propensity = np.array([page.shown.propensity[0] for page in pages])
    target = np.array([float(n == 0) for n in first])
    user = np.array([page.shown.user_id for page in pages])
    predicted, expected = _predicted(pages, first, reward, user)
    return Values(
        len(pages), inverse_propensity(reward, propensity, target, user),
        self_normalised(reward, propensity, target, user),
        doubly_robust(reward, propensity, target, predicted, expected, user),
    )  # fmt: skip


def _pages(records: Sequence[Record], outcomes: Sequence[str], hours: float) -> list[_Page]:
    undone = {record.event_id for record in records if isinstance(record, Undone)}
    successes: dict[tuple[str, str], list[int]] = {}
    for record in records:
        if isinstance(record, Event) and record.kind in outcomes and record.event_id not in undone:
            successes.setdefault((record.user_id, record.item_id), []).append(record.timestamp)
    pages = []
    for record in records:
        if isinstance(record, Shown) and record.user_id and record.propensity and record.propensity[0] < 1:
            times = successes.get((record.user_id, record.items[0]), [])
            won = any(0 <= time - record.timestamp <= hours * HOUR for time in times)
            pages.append(_Page(record, float(won)))
    return pages


def _first(shown: Shown, threshold: float) -> int:
    """The place on the page of the item that the policy would put first."""
    asked = np.array(shown.priority) >= threshold
    score = np.where(asked, np.array(shown.final), np.array(shown.crm))
    # Of equal scores the one that was ranked higher, which drawing by lot may have moved.
    return int(np.lexsort((-np.array(shown.final), -score))[0])


def _predicted(
    pages: Sequence[_Page], first: Sequence[int], reward: Doubles, user: npt.NDArray[np.str_]
) -> tuple[Doubles, Doubles]:
    """What a model of the reward, fitted on other users, says of the item that stood first, and of the policy's."""
    here = np.array([_logit(page.shown.crm[0]) for page in pages])
    there = np.array([_logit(page.shown.crm[n]) for page, n in zip(pages, first, strict=True)])
    half = np.unique(user, return_inverse=True)[1] % 2
    predicted, expected = np.full(len(pages), reward.mean()), np.full(len(pages), reward.mean())
    for part in (0, 1):
        fit, use = half != part, half == part
        if len(np.unique(reward[fit])) < 2 or not use.any():
            continue
        model = LogisticRegression().fit(here[fit, None], reward[fit])
        predicted[use] = model.predict_proba(here[use, None])[:, 1]
        expected[use] = model.predict_proba(there[use, None])[:, 1]
    return predicted, expected


def _logit(probability: float) -> float:
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return float(np.log(inside / (1 - inside)))
