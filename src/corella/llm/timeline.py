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


class TimelinePrompts:
    """Plans windows for samples and renders them as token ids."""

    def __init__(self, dataset: Dataset, backbone: Backbone, config: LLMConfig) -> None:
        self._config = config
        self._events = dataset.events
        self._texts = Texts(dataset, backbone, " " if config.counts_in_words else "")
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

    def plan(self, samples: Samples, context_share: float) -> list[Window]:
        """Windows that hold every sample once as a target. Later windows of a user begin with context of at most
        `context_share` of the window. Rows of the log share windows; new rows (`row` -1) get one each."""
        windows: list[Window] = []
        logged = np.flatnonzero(samples.row >= 0)
        logged = logged[np.argsort(samples.history_end[logged], kind="stable")]
        users = samples.user[logged]
        for part in np.split(logged, np.flatnonzero(np.diff(users)) + 1):
            if len(part):
                windows += self._cut(int(samples.user[part[0]]), part, samples.history_end[part], context_share)
        for i in np.flatnonzero(samples.row < 0):
            windows.append(self._single(samples, int(i), context_share))
        return windows

    def _cut(self, user: int, sample: Ints, event: Ints, context_share: float) -> list[Window]:
        header = len(self._begin) + len(self._texts.user(user))
        room = max(self._config.window_tokens - header, 0)
        start = self._events.start[user]
        windows, done = [], 0
        while done < len(event):
            first = self._first(start, int(event[done]), int(room * context_share))
            fits = int(np.searchsorted(self._before, self._before[first] + room, side="right")) - 1
            end = max(fits, int(event[done]) + 1)
            until = int(np.searchsorted(event, end))
            end = int(event[until - 1]) + 1
            tokens = header + int(self._before[end] - self._before[first])
            windows.append(Window(user, first, end, sample[done:until], event[done:until], tokens))
            done = until
        return windows

    def _first(self, start: int, target: int, context: int) -> int:
        """The earliest event whose lines up to the target fit into `context` tokens."""
        return max(start, int(np.searchsorted(self._before, self._before[target] - context)))

    def _single(self, samples: Samples, i: int, context_share: float) -> Window:
        user, end = int(samples.user[i]), int(samples.history_end[i])
        start = int(self._events.start[user]) if user >= 0 else end
        header = len(self._begin) + len(self._texts.user(user))
        room = max(self._config.window_tokens - header, 0)
        first = self._first(start, end, int(room * max(context_share, 0.5)))
        tokens = header + int(self._before[end] - self._before[first]) + 24
        return Window(user, first, end, np.array([i]), np.array([end]), tokens)

    def render(self, window: Window, samples: Samples) -> Prompt:
        """Token ids and answer positions of a window; `samples` are those that were planned."""
        pieces = [self._begin, self._texts.user(window.user)]
        length = sum(len(p) for p in pieces)
        targets = set(window.event.tolist())
        place: dict[int, int] = {}
        for event in range(window.first, window.end):
            line = self._line(int(self._events.item[event]), int(self._event_word[event]))
            length += len(line)
            if event in targets:
                place[event] = length - 1
            pieces += [line, self._answer[self._events.label[event], None]]
            length += 1
        if window.end in targets:
            i = int(window.sample[-1])
            line = self._line(int(samples.item[i]), int(share_word(*samples.popularity[i])))
            pieces.append(line)
            place[window.end] = length + len(line) - 1
        ids = np.concatenate(pieces)
        position = np.array([place[event] for event in window.event.tolist()])
        # What stands after the last answer position is never read; so the last answer is not even in the prompt.
        return Prompt(ids[: position[-1] + 1], position, window.sample)

    def _line(self, item: int, word: int) -> Ints:
        words = [self._words[word]] if self._words else []
        return np.concatenate([self._newline, *words, self._texts.item(item), self._colon])
