"""Timeline prompts: a user's log as one document, every line a target (docs: timeline packing).

    A 25-34 year old woman, lawyer, rates movies. Likes it?
    8 Toy Story, Animation Children's Comedy: Yes
    6 GoldenEye, Action Adventure Thriller: No

Under causal attention the position before each answer asks about that item given all lines above, so one forward
pass reads every target. Long logs are cut into windows whose first lines are context only. The leading word is the
item's past share of positives.
"""

from dataclasses import dataclass

import numpy as np

from corella.config import LLMConfig
from corella.data.dataset import Dataset, Samples
from corella.errors import UserError
from corella.llm.backbone import Backbone
from corella.llm.prompts import SHARE_WORDS, Ints, Prompt, Texts, begin_ids, share_word


@dataclass(frozen=True)
class Window:
    """Events `first : end` of a user as lines; which of them are targets. A new row is a line of its own at the end."""

    user: int
    first: int
    end: int
    sample: Ints
    """Positions of the targets in the planned samples, in order."""
    event: Ints
    """The targets' places among the events; `end` for a new row."""
    tokens: int


@dataclass(frozen=True)
class _Cut:
    """How logs are cut into windows."""

    tokens: int
    context_share: float


class TimelinePrompts:
    """Plans windows for samples and renders them as token ids."""

    def __init__(self, dataset: Dataset, backbone: Backbone, config: LLMConfig) -> None:
        if dataset.config.history_answers == "likes" or config.show_ratings:
            raise UserError(
                "a timeline's lines are answers, so it cannot leave out dislikes or show ratings; "
                "set llm.prompt=pointwise, or data.history_answers=all and llm.show_ratings=false"
            )
        self._config = config
        self._events = dataset.events
        self._texts = Texts(dataset, backbone, " " if config.counts_in_words else "", config.item_tokens)
        self._begin = begin_ids(backbone)
        self._newline = self._texts.piece("\n")
        self._colon = self._texts.piece(":")
        self._answer = np.array([backbone.no, backbone.yes], dtype=np.int64)
        self._words = [self._texts.piece(word) for word in SHARE_WORDS] if config.counts_in_words else []
        self._event_word = share_word(*dataset.popularity[self._events.row].T)
        lengths = np.array([len(ids) for ids in self._texts.items])
        extra = len(self._newline) + len(self._colon) + 1
        word = np.array([len(w) for w in self._words])[self._event_word] if self._words else 0
        self._before = np.r_[0, np.cumsum(lengths[self._events.item] + word + extra)]

    def plan(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> list[Window]:
        """Windows that hold every sample as a target.

        A user's log is cut into windows once and for all: a line belongs to the window that its own place gives it,
        so a sample's prompt depends on nothing but its history. Windows after a user's first begin with context of
        at most `context_share` of the window. Rows of the log share windows; new rows (`row` -1) get one each.
        """
        cut = _Cut(window_tokens or self._config.window_tokens, context_share)
        windows: list[Window] = []
        logged = np.flatnonzero(samples.row >= 0)
        logged = logged[np.argsort(samples.history_end[logged], kind="stable")]
        users = samples.user[logged]
        for part in np.split(logged, np.flatnonzero(np.diff(users)) + 1):
            if len(part):
                windows += self._share(samples, part, cut)
        windows += [self._single(samples, int(i), cut) for i in np.flatnonzero(samples.row < 0)]
        return windows

    def _share(self, samples: Samples, sample: Ints, cut: "_Cut") -> list[Window]:
        """The windows of one user's log that hold the given samples."""
        user, event = int(samples.user[sample[0]]), samples.history_end[sample]
        header, grid = self._grid(user, int(event[-1]) + 1, cut)
        begins = np.array([begin for _, begin in grid])
        windows = []
        place = np.searchsorted(begins, event, side="right") - 1
        for part in np.split(np.arange(len(event)), np.flatnonzero(np.diff(place)) + 1):
            first, end = grid[place[part[0]]][0], int(event[part[-1]]) + 1
            tokens = header + int(self._before[end] - self._before[first])
            windows.append(Window(user, first, end, sample[part], event[part], tokens))
        return windows

    def _grid(self, user: int, until: int, cut: "_Cut") -> tuple[int, list[tuple[int, int]]]:
        """Length of the introduction, and for each window of the user's log before event `until` its first line and
        its first line that is not context."""
        header = len(self._begin) + len(self._texts.user(user))
        room = max(cut.tokens - header, 0)
        start = int(self._events.start[user]) if user >= 0 else until
        grid = [(start, start)]
        while True:
            first, begin = grid[-1]
            fits = int(np.searchsorted(self._before, self._before[first] + room, side="right")) - 1
            nxt = max(fits, begin + 1)
            if nxt >= until:
                return header, grid
            context = self._before[nxt] - int(room * cut.context_share)
            grid.append((max(start, int(np.searchsorted(self._before, context))), nxt))

    def _single(self, samples: Samples, i: int, cut: "_Cut") -> Window:
        """The window that the line of a new row would be in, were it the user's next."""
        user, end = int(samples.user[i]), int(samples.history_end[i])
        header, grid = self._grid(user, end, cut)
        first = grid[-1][0]
        room = cut.tokens - header
        length = len(self._line(int(samples.item[i]), int(share_word(*samples.popularity[i])))) + 1
        if end > grid[-1][1] and self._before[end] - self._before[first] + length > room:
            start = int(self._events.start[user])
            first = max(start, int(np.searchsorted(self._before, self._before[end] - int(room * cut.context_share))))
        tokens = header + int(self._before[end] - self._before[first]) + length
        return Window(user, first, end, np.array([i]), np.array([end]), tokens)

    def render(self, window: Window, samples: Samples) -> Prompt:
        """Token ids and answer positions of a window; `samples` are those that were planned."""
        pieces = [self._begin, self._texts.user(window.user)]
        length = sum(len(p) for p in pieces)
        asked = []
        for event in range(window.first, window.end):
            line = self._line(int(self._events.item[event]), int(self._event_word[event]))
            length += len(line)
            asked.append(length - 1)
            pieces += [line, self._answer[self._events.label[event], None]]
            length += 1
        if window.event[-1] == window.end:
            i = int(window.sample[-1])
            line = self._line(int(samples.item[i]), int(share_word(*samples.popularity[i])))
            pieces.append(line)
            asked.append(length + len(line) - 1)
        places = np.array(asked)
        position = places[window.event - window.first]
        context = np.setdiff1d(np.arange(window.first, window.event[-1]), window.event)
        # What stands after the last answer position is never read; so the last answer is not even in the prompt.
        ids = np.concatenate(pieces)[: position[-1] + 1]
        return Prompt(
            ids, position, window.sample, places[: window.event[-1] + 1 - window.first], self._events.row[context]
        )

    def _line(self, item: int, word: int) -> Ints:
        words = [self._words[word]] if self._words else []
        return np.concatenate([self._newline, *words, self._texts.item(item), self._colon])
