"""How much the language model can read in a given time, as its last passes tell. [ours]"""

import time
from dataclasses import dataclass, field

_TRUST_MOST, _TRUST_LEAST = 0.8, 0.05
_NEWS_SECONDS, _HALF_LIFE_SECONDS = 2.0, 5.0
_WEIGHT, _RISE = 0.1, 1.01
_NEXT_TO_NOTHING = 64
"""Tokens: room for less is hardly room for a question."""


@dataclass
class Speed:
    """A pass takes a fixed time and a time for each token, both times a slowdown that follows what passes take.

    Trust is the share of the time that is counted on: it falls when answers come late and recovers slowly when they
    come in time. Where there is hardly any room left, and nothing was learned for a while, half of the mistrust and of
    the slowdown above its least is forgotten every few seconds: a model that was slow once would never be asked again,
    and could not show that it is fast. Where there is room, nothing is forgotten.
    """

    fixed: float
    """Seconds of a pass that reads next to nothing, above 0."""
    per_token: float
    """Seconds."""
    _slowdown: float = 1.0
    _least: float = 1.0
    """The least slowdown of late, at most 1: both times may have been found beside other work."""
    _trust: float = _TRUST_MOST
    _told: float = field(default_factory=time.monotonic)
    """When something was learned, in seconds of `time.monotonic`."""

    def room(self, seconds: float) -> float:
        """Tokens that a pass of so many seconds reads."""
        found = self._room(seconds, self._trust, self._slowdown)
        if found < _NEXT_TO_NOTHING <= self._room(seconds, _TRUST_MOST, self._least):
            self._forget()
            found = self._room(seconds, self._trust, self._slowdown)
        return found

    @property
    def now(self) -> tuple[float, float]:
        """Seconds of a pass that reads next to nothing, and of a token, as passes take them now."""
        return self.fixed * self._slowdown, self.per_token * self._slowdown

    @property
    def trust(self) -> float:
        """The share of the time that is counted on."""
        return self._trust

    def passed(self, tokens: int, seconds: float) -> None:
        """A pass has read so many tokens, one at least, in so many seconds."""
        expected = self.fixed + self.per_token * tokens
        self._slowdown *= (seconds / expected / self._slowdown) ** _WEIGHT
        self._least = min(self._slowdown, _RISE * self._least, 1.0)
        self._told = time.monotonic()

    def late(self) -> None:
        """An answer did not come in the time that it was counted on for."""
        self._trust = max(0.8 * self._trust, _TRUST_LEAST)
        self._told = time.monotonic()

    def in_time(self) -> None:
        """An answer came in time."""
        self._trust = min(self._trust + 0.01, _TRUST_MOST)
        self._told = time.monotonic()

    def _room(self, seconds: float, trust: float, slowdown: float) -> float:
        return max(trust * seconds / slowdown - self.fixed, 0.0) / self.per_token

    def _forget(self) -> None:
        now = time.monotonic()
        idle = now - self._told - _NEWS_SECONDS
        if idle <= 0:
            return
        kept = 0.5 ** (idle / _HALF_LIFE_SECONDS)
        self._slowdown = self._least * (self._slowdown / self._least) ** kept
        self._trust = _TRUST_MOST - (_TRUST_MOST - self._trust) * kept
        self._told = now - _NEWS_SECONDS
