"""Timeline prompts: a user's log as one document, every line a target (docs: timeline packing).

    A 25-34 year old woman, lawyer, rates movies. Likes it?
    8 Toy Story, Animation Children's Comedy: Yes
    6 GoldenEye, Action Adventure Thriller: No

Under causal attention the position before each answer asks about that item given all lines above, so one forward
pass reads every target. Long logs are cut into windows whose first lines are context only. The leading word is the
item's past share of positives.

What is not a line of the log is a *branch*: a line behind the log's lines that sees those before its time and no
other branch. So a user's log is read once, however many new items are asked about; samples whose own line must not
be in the history (only likes are, or answers of the same second are hidden) are branches too.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.data.samples import Events, Samples
from corella.data.scope import Scope
from corella.data.world import World, check_world
from corella.errors import UserError
from corella.llm.backbone import Backbone
from corella.llm.prefix import SharedPrompt
from corella.llm.prompts import SHARE_WORDS, Ints, Prompt, Texts, begin_ids, dataset_texts, share_word

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Window:
    """Events `first : end` of a user as lines, some of them targets; behind them branches."""

    user: int
    first: int
    end: int
    sample: Ints
    """Positions of the targets in the planned samples: those among the lines in order, then the branches."""
    event: Ints
    """The places among the events of the targets that are lines of the log."""
    tokens: int
    sees: Ints = field(default_factory=lambda: _NONE)
    """For every branch, the event before which its history ends; ascending."""


@dataclass(frozen=True)
class _Cut:
    """How logs are cut into windows."""

    tokens: int
    context_share: float


_Grid = tuple[int, list[tuple[int, int]]]
"""Of a user's log: length of the introduction, and of each window the first line, and the first that is no context."""


@dataclass(frozen=True, eq=False)
class _Pieces:
    """What every line is made of, and what a history may show."""

    config: LLMConfig
    likes_only: bool
    in_line: bool
    """Whether a row's own line is one of its user's later histories."""
    begin: Ints
    newline: Ints
    colon: Ints
    answer: Ints
    words: list[Ints]


@dataclass(frozen=True, eq=False)
class _Log:
    """Events as lines."""

    events: Events
    shown: npt.NDArray[np.bool_]
    word: Ints
    """[events]: index into `SHARE_WORDS`."""
    before: Ints
    """[events + 1]: tokens of the lines before each."""


@dataclass(frozen=True, eq=False)
class TimelinePrompts:
    """Plans windows for samples and renders them as token ids. Made by `timeline_prompts`."""

    pieces: _Pieces
    texts: Texts
    log: _Log
    world: World

    @property
    def sharing(self) -> "TimelinePrompts":
        """This style shares prefixes, see `corella.llm.scoring.Prompts`."""
        return self

    def narrowed(self, scope: Scope) -> "TimelinePrompts":
        """The same prompts for the small world of a request."""
        texts = self.texts.narrowed(scope)
        return TimelinePrompts(
            self.pieces, texts, _log(self.pieces, texts, scope.events, scope.popularity), scope.world
        )

    def plan(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> list[Window]:
        """Windows that hold every sample as a target.

        A user's log is cut into windows once and for all: a line belongs to the window that its own place gives it,
        so a sample's prompt depends on nothing but its history. Windows after a user's first begin with context of
        at most `context_share` of the window. Rows of the log are lines of their windows; new rows (`row` -1) are
        branches, and so are rows whose own line is not the one behind their history; where a row's own line must not be
        in the history, all are.
        """
        check_world(samples, self.world)
        cut = _Cut(window_tokens or self.pieces.config.window_tokens, context_share)
        windows: list[Window] = []
        follows = np.r_[self.log.events.row, -1][samples.history_end] == samples.row
        in_line = (samples.row >= 0) & follows & self.pieces.in_line
        logged = np.flatnonzero(in_line)
        logged = logged[np.argsort(samples.history_end[logged], kind="stable")]
        users = samples.user[logged]
        for part in np.split(logged, np.flatnonzero(np.diff(users)) + 1):
            if len(part):
                windows += self._share(samples, part, cut)
        return windows + self._branch(samples, np.flatnonzero(~in_line), cut)

    def _share(self, samples: Samples, sample: Ints, cut: "_Cut") -> list[Window]:
        """The windows of one user's log that hold the given samples."""
        user, event = int(samples.user[sample[0]]), samples.history_end[sample]
        header, grid = self._grid(user, int(event[-1]) + 1, cut)
        begins = np.array([begin for _, begin in grid])
        windows = []
        place = np.searchsorted(begins, event, side="right") - 1
        for part in np.split(np.arange(len(event)), np.flatnonzero(np.diff(place)) + 1):
            first, end = grid[place[part[0]]][0], int(event[part[-1]]) + 1
            tokens = header + int(self.log.before[end] - self.log.before[first])
            windows.append(Window(user, first, end, sample[part], event[part], tokens))
        return windows

    def _grid(self, user: int, until: int, cut: "_Cut") -> "_Grid":
        """Length of the introduction, and for each window of the user's log before event `until` its first line and
        its first line that is not context."""
        header = len(self.pieces.begin) + len(self.texts.user(user))
        room = max(cut.tokens - header, 0)
        start = int(self.log.events.start[user]) if user >= 0 else until
        grid = [(start, start)]
        while True:
            first, begin = grid[-1]
            fits = int(np.searchsorted(self.log.before, self.log.before[first] + room, side="right")) - 1
            nxt = max(fits, begin + 1)
            if nxt >= until:
                return header, grid
            context = self.log.before[nxt] - int(room * cut.context_share)
            grid.append((max(start, int(np.searchsorted(self.log.before, context))), nxt))

    def _branch(self, samples: Samples, sample: Ints, cut: "_Cut") -> list[Window]:
        """Windows whose targets are branches. Those of a user that begin with the same line share one, as long as their
        tokens do not exceed those of a window."""
        shared: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for i in sample[np.argsort(samples.history_end[sample], kind="stable")].tolist():
            user, end = int(samples.user[i]), int(samples.history_end[i])
            length = len(self._asked(samples, i))
            first = self._first_line(self._grid(user, end, cut), user, end, length, cut)
            # Unknown users have no log, but their lines must not meet those of others.
            shared[user, first if user >= 0 else -1].append((i, end, length))
        windows = []
        for (user, first), members in shared.items():
            header = len(self.pieces.begin) + len(self.texts.user(user))
            place = np.array([length for _, _, length in members])
            part = (np.cumsum(place) - place) // cut.tokens
            for chosen in np.split(np.arange(len(members)), np.flatnonzero(np.diff(part)) + 1):
                index, sees = np.array([members[n][:2] for n in chosen]).T
                begin, end = (first, int(sees[-1])) if user >= 0 else (0, 0)
                tokens = header + int(self.log.before[end] - self.log.before[begin] + place[chosen].sum())
                windows.append(Window(user, begin, end, index, _NONE, tokens, np.minimum(sees, end)))
        return windows

    def _first_line(self, grid: "_Grid", user: int, end: int, length: int, cut: "_Cut") -> int:
        """The first line of the window that a line behind event `end` would be in, were it the user's next. `grid`: of
        the user's log before that event."""
        header, windows = grid
        first, begin = windows[-1]
        room = max(cut.tokens - header, 0)
        if end > begin and self.log.before[end] - self.log.before[first] + length + 1 > room:
            start = int(self.log.events.start[user])
            return max(
                start, int(np.searchsorted(self.log.before, self.log.before[end] - int(room * cut.context_share)))
            )
        return first

    def render(self, window: Window, samples: Samples) -> Prompt:
        """Token ids and answer positions of a window; `samples` are those that were planned."""
        pieces = [self.pieces.begin, self.texts.user(window.user)]
        length = sum(len(p) for p in pieces)
        lines = window.first + np.flatnonzero(self.log.shown[window.first : window.end])
        asked, ends = [], [length]
        for event in lines.tolist():
            line = self._line(int(self.log.events.item[event]), int(self.log.word[event]))
            pieces += [line, self.pieces.answer[self.log.events.label[event], None]]
            asked.append(length + len(line) - 1)
            length += len(line) + 1
            ends.append(length)
        position = np.array(asked, dtype=np.int64)[np.searchsorted(lines, window.event)]
        context = lines[~np.isin(lines, window.event)]
        branch = []
        for i in window.sample[len(window.event) :].tolist():
            pieces.append(self._asked(samples, i))
            branch.append(length)
            length += len(pieces[-1])
            asked.append(length - 1)
        ids = np.concatenate(pieces)
        position = np.r_[position, np.array(asked[len(lines) :], dtype=np.int64)]
        if not branch:  # What stands after the last answer position is never read; so the last answer is left out.
            ids = ids[: position[-1] + 1]
        sees = np.array(ends)[np.searchsorted(lines, window.sees)]
        if len(branch) == 1 and sees[0] == branch[0]:
            branch, sees = [], _NONE  # a single line behind all it sees is no branch
        row = self.log.events.row[context]
        return Prompt(ids, position, window.sample, np.array(asked), row, np.array(branch, dtype=np.int64), sees)

    def shared(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> list[SharedPrompt]:
        """New rows (`row` -1) as prefixes and branches, one prompt for each user, end of history and first line of the
        window: a line that is asked about has the history that it would have alone, which for a long one may begin
        later. So there are two for a user and an end of history at most."""
        check_world(samples, self.world)
        cut = _Cut(window_tokens or self.pieces.config.window_tokens, context_share)
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        grids: dict[tuple[int, int], _Grid] = {}
        asked = [self._asked(samples, i) for i in range(len(samples))]
        for i, (user, end) in enumerate(zip(samples.user.tolist(), samples.history_end.tolist(), strict=True)):
            if user < 0:
                groups[user, 0, 0].append(i)
                continue
            if (user, end) not in grids:
                grids[user, end] = self._grid(user, end, cut)
            groups[user, end, self._first_line(grids[user, end], user, end, len(asked[i]), cut)].append(i)
        prompts = []
        for (user, end, first), members in groups.items():
            branches = [asked[i] for i in members]
            lines = first + np.flatnonzero(self.log.shown[first:end])
            pieces = [self.pieces.begin, self.texts.user(user)]
            for event in lines.tolist():
                line = self._line(int(self.log.events.item[event]), int(self.log.word[event]))
                pieces += [line, self.pieces.answer[self.log.events.label[event], None]]
            prompts.append(SharedPrompt(np.concatenate(pieces), branches, np.array(members)))
        return prompts

    def _asked(self, samples: Samples, i: int) -> Ints:
        """The line of a sample that is asked about behind the log."""
        return self._line(int(samples.item[i]), int(share_word(*samples.popularity[i])))

    def _line(self, item: int, word: int) -> Ints:
        words = [self.pieces.words[word]] if self.pieces.words else []
        return np.concatenate([self.pieces.newline, *words, self.texts.item(item), self.pieces.colon])


def timeline_prompts(dataset: Dataset, backbone: Backbone, config: LLMConfig) -> TimelinePrompts:
    """Prompts of a dataset. Raises `UserError` for `llm.show_ratings`."""
    if config.show_ratings:
        raise UserError(
            "a timeline's lines end with answers, not ratings; set llm.prompt=pointwise or llm.show_ratings=false"
        )
    likes_only = dataset.config.history_answers == "likes"
    texts = dataset_texts(dataset, backbone, " " if config.counts_in_words else "", config)
    own = texts.tokens.own
    pieces = _Pieces(
        config, likes_only, not likes_only and not dataset.config.strict_time, begin_ids(backbone), own("\n"), own(":"),
        np.array([backbone.no, backbone.yes], dtype=np.int64),
        [own(word) for word in SHARE_WORDS] if config.counts_in_words else [],
    )  # fmt: skip
    log = _log(pieces, texts, dataset.events, dataset.popularity[dataset.events.row])
    return TimelinePrompts(pieces, texts, log, dataset.world)


def _log(pieces: _Pieces, texts: Texts, events: Events, popularity: Ints) -> _Log:
    """`popularity` [events, 2], as in `Samples`, of each event."""
    shown = events.label == 1 if pieces.likes_only else np.ones(len(events.label), dtype=bool)
    word = share_word(*popularity.T)
    extra = len(pieces.newline) + len(pieces.colon) + 1
    told = np.array([len(w) for w in pieces.words])[word] if pieces.words else 0
    return _Log(events, shown, word, np.r_[0, np.cumsum((texts.items.lengths[events.item] + told + extra) * shown)])
