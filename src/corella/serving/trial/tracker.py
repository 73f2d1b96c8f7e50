"""An experiment as it runs: who was shown what, and what came of it, user by user."""

from dataclasses import dataclass, field

from corella.experiments import sequences
from corella.experiments.assignment import arm_of
from corella.serving.store.records import Event, Record, Shown, Undone
from corella.serving.trial.settings import Experiment

HOUR = 3600


@dataclass
class _Seen:
    """A user of an experiment."""

    arm: str
    since: int
    """When the first page was shown, in seconds since 1970."""
    items: set[str] = field(default_factory=set)
    successes: set[str] = field(default_factory=set)
    """Ids of events."""


@dataclass(frozen=True)
class ArmNow:
    """An arm at a moment."""

    name: str
    users: int
    """All that were shown something."""
    complete: int
    """Those whose time is over: they count."""
    rate: float
    """Share of these with a success; 0 where there are none."""


@dataclass(frozen=True)
class Contrast:
    """An arm beside the control."""

    arm: str
    low: float
    high: float
    """Where the difference of the rates lies, however often one looks."""


@dataclass(frozen=True)
class Standing:
    """An experiment at a moment."""

    name: str
    arms: list[ArmNow]
    contrasts: list[Contrast]
    needed: int
    """Users of an arm, complete ones, that show the lift that is looked for with a chance of four in five."""


class Tracker:
    """Takes in records and says how an experiment stands."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._users: dict[str, _Seen] = {}
        self._shares = [arm.weight for arm in experiment.arms.values()]
        self._shares = [share / sum(self._shares) for share in self._shares]

    def arm(self, user_id: str) -> str:
        """Which arm a user gets."""
        return list(self.experiment.arms)[arm_of(user_id, self.experiment.name, self._shares)]

    def take(self, record: Record) -> None:
        """Take in a record; those that are not of this experiment change nothing."""
        match record:
            case Shown(experiment=self.experiment.name, user_id=user, arm=arm, timestamp=moment, items=items):
                seen = self._users.setdefault(user, _Seen(arm, moment))
                seen.items.update(items)
            case Event(user_id=user, item_id=item, kind=kind, timestamp=moment, event_id=event_id):
                known = self._users.get(user)
                if known is None or kind not in self.experiment.outcomes or item not in known.items:
                    return
                if 0 <= moment - known.since <= self.experiment.hours * HOUR:
                    known.successes.add(event_id)
            case Undone(user_id=user, event_id=event_id):
                if user in self._users:
                    self._users[user].successes.discard(event_id)

    def forget(self, user_id: str) -> None:
        """Let go of a user who was erased: the experiment goes on without."""
        self._users.pop(user_id, None)

    def standing(self, now: int) -> Standing:
        """How it stands at a time, in seconds since 1970."""
        until = now - self.experiment.hours * HOUR
        sums = {name: sequences.Arm() for name in self.experiment.arms}
        users = dict.fromkeys(self.experiment.arms, 0)
        for seen in self._users.values():
            if seen.arm not in sums:  # of an arm that the settings had once
                continue
            users[seen.arm] += 1
            if seen.since <= until:
                won = float(bool(seen.successes))
                sums[seen.arm] = sequences.Arm(
                    sums[seen.arm].count + 1, sums[seen.arm].total + won, sums[seen.arm].squares + won
                )
        control, *others = sums
        wanted = sequences.needed(self.experiment.rate, self.experiment.lift)
        alpha = 0.05 / len(others)
        contrasts = [
            Contrast(
                name,
                *sequences.interval(control=sums[control], treatment=sums[name], horizon=wanted, alpha=alpha),
            )
            for name in others
        ]
        arms = [
            ArmNow(name, users[name], arm.count, arm.total / arm.count if arm.count else 0.0)
            for name, arm in sums.items()
        ]
        return Standing(self.experiment.name, arms, contrasts, wanted)
