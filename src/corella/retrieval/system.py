"""The fitted retrieval: recommend, explain, save, load. `fit.py` makes it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.config import Config
from corella.config.loading import load_config, to_yaml
from corella.data.dataset import Dataset
from corella.data.store import load_prepared, without_features, write_dataset
from corella.errors import UserError
from corella.files import new_folder, read_json, verify_manifest, write_json, write_manifest, write_text
from corella.retrieval.catalogue import Catalogue
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.fusion import Fusion, candidate_features
from corella.retrieval.histories import Reader, likes_of, top_items
from corella.retrieval.linear import Centre, Linear, Strengths
from corella.retrieval.saved import load_linear, save_linear

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FORMAT = 2
"""Raised when the files of a saved retrieval change their meaning."""
CLLM_FOLDER = "cllm4rec"
"""In a saved retrieval, where it has one."""
_AT_ONCE = 8_000_000


@dataclass(frozen=True)
class Said:
    """What validation rows said while the retrieval was made; kept with it."""

    strengths: Strengths
    linear: float
    """NDCG at `retrieval.measure_at` of the linear model."""
    fused: float | None
    """The same of the fusion, out of fold; None where it is not used."""


@dataclass(frozen=True)
class Retrieval:
    """Items that a user may like, out of all.

    >>> model = fit_retrieval(config, dataset)         # doctest: +SKIP
    >>> model.recommend(["196", "186"], k=20)          # doctest: +SKIP
    """

    config: Config
    dataset: Dataset
    linear: Linear
    centre: Centre | None
    """Of the items' texts; None where they are not read."""
    catalogue: Catalogue
    fusion: Fusion | None
    """None where the linear model's order stands."""
    language_model: CLLM4Rec | None
    """None where the fusion does not read it."""
    said: Said

    def candidates(
        self, readers: Sequence[Reader], without: Sequence[Ints], allowed: Ints | None = None, least: int = 0
    ) -> tuple[list[Ints], list[Floats]]:
        """Candidates of each reader by the linear model, at least `least` of them, and the fusion's features of the
        first `retrieval.candidates`."""
        candidates: list[Ints] = []
        features: list[Floats] = []
        block = max(1, _AT_ONCE // self.linear.items)
        most = max(self.config.retrieval.candidates, least)
        for start in range(0, len(readers), block):
            part = slice(start, start + block)
            histories = [r.history for r in readers[part]]
            scores = self.linear.scores(histories)
            found = top_items(scores, without[part], most, allowed)
            told = None if self.language_model is None else self.language_model.scores(readers[part])
            first = [items[: self.config.retrieval.candidates] for items in found]
            features += candidate_features(self.linear, self.catalogue, histories, scores, first, told)
            candidates += found
        return candidates, features

    def top(
        self, readers: Sequence[Reader], without: Sequence[Ints], k: int, allowed: Ints | None = None
    ) -> list[Ints]:
        """Codes of the best `k` items of each reader, best first, none of `without`; `allowed`: the only ones that may
        come."""
        if self.fusion is None:
            found: list[Ints] = []
            block = max(1, _AT_ONCE // self.linear.items)
            for start in range(0, len(readers), block):
                scores = self.linear.scores([r.history for r in readers[start : start + block]])
                found += top_items(scores, without[start : start + block], k, allowed)
            return found
        candidates, features = self.candidates(readers, without, allowed, k)
        best = []
        for items, known in zip(candidates, features, strict=True):
            order = self.fusion.order(known)
            best.append(np.r_[items[order], items[len(order) :]][:k])
        return best

    def new_item_scores(self, readers: Sequence[Reader], texts: Sequence[str]) -> Floats:
        """Scores of items that have only a text, float32 [readers, texts], comparable with those of the linear model.

        Raises `UserError` where texts are not read (`data.text.encoder: none`).
        """
        if self.centre is None or self.dataset.texts is None or not self.linear.to_new.shape[1]:
            raise UserError("this retrieval reads no texts, so it cannot score items that have only a text")
        vectors = self.centre.unit(self.dataset.texts.encoder.encode(list(texts)))
        return self.linear.new_scores([r.history for r in readers], vectors)

    def recommend(
        self,
        users: Sequence[str],
        k: int = 20,
        candidates: Sequence[str] | None = None,
        without: Sequence[Sequence[str]] | None = None,
    ) -> list[list[str]]:
        """The best `k` items for each user, best first, never one the user has interacted with.

        `candidates`: the only items that may come; `without`: of each user, items that must not (unknown ones are
        passed over). Raises `UserError` for an unknown user or candidate, and for `k` below 1.
        """
        if isinstance(users, str):
            raise UserError(f"recommend takes a list of users; write [{users!r}]")
        codes = self._codes("user_id", users)
        allowed = None if candidates is None else self._codes("item_id", candidates)
        readers = [Reader(self.token(u), self.history(u)) for u in codes]
        seen = [self._events(u) for u in codes]
        if without is not None:
            known = ([self.item_codes[i] for i in items if i in self.item_codes] for items in without)
            seen = [np.r_[own, np.array(more, np.int64)] for own, more in zip(seen, known, strict=True)]
        best = self.top(readers, seen, k, allowed)
        return [[self.item_names[i] for i in row] for row in best]

    def recommend_for(self, history: Sequence[str], k: int = 20) -> list[str]:
        """The same for somebody who has only a history of liked items, oldest first."""
        items = self._codes("item_id", history)
        return [self.item_names[i] for i in self.top([Reader(-1, items)], [items], k)[0]]

    def reasons(self, user: str, item: str) -> list[tuple[str, float]]:
        """*Because you liked X*: the items of a user's history and what each adds to the linear score of `item`, the
        largest first. Exact: they sum to the score."""
        (code,), (wanted,) = self._codes("user_id", [user]), self._codes("item_id", [item])
        history = self.history(int(code))
        said = self.linear.reasons(history, int(wanted))
        return [(self.item_names[history[n]], float(said[n])) for n in np.argsort(-said, kind="stable")]

    def history(self, user: int) -> Ints:
        """The items that a user liked, in order."""
        return likes_of(self.dataset, user)

    def token(self, user: int) -> int:
        """The user's token in CLLM4Rec; -1 where there is none."""
        return -1 if self.language_model is None else self.language_model.token(user)

    def user_token(self, user_id: str) -> int:
        """The same by id; -1 of somebody unknown too."""
        code = self._known["user_id"].get(user_id)
        return -1 if code is None else self.token(code)

    def _events(self, user: int) -> Ints:
        start, end = self.dataset.events.start[user : user + 2]
        return self.dataset.events.item[int(start) : int(end)]

    @cached_property
    def _known(self) -> dict[str, dict[str, int]]:
        """Ids -> codes, of users and of items."""
        tables = {"user_id": self.dataset.users, "item_id": self.dataset.items}
        return {
            column: {str(name): code for code, name in enumerate(table[column].cast(pl.String).to_list())}
            for column, table in tables.items()
        }

    @property
    def item_codes(self) -> dict[str, int]:
        """Item ids -> codes."""
        return self._known["item_id"]

    @cached_property
    def item_names(self) -> list[str]:
        """Ids by code."""
        return list(self.item_codes)

    def _codes(self, column: str, names: Sequence[str]) -> Ints:
        known = self._known[column]
        unknown = [name for name in names if str(name) not in known]
        if unknown:
            raise UserError(f"no {column} '{unknown[0]}' in the dataset ({len(unknown)} of {len(names)} are unknown)")
        return np.array([known[str(name)] for name in names], dtype=np.int64)

    def save(self, folder: Path | str) -> None:
        """Write the model as a folder of safetensors, text and YAML with a manifest; replaces what is there."""
        folder = Path(folder).resolve()
        if folder.exists() and any(folder.iterdir()) and not (folder / "linear.safetensors").is_file():
            raise UserError(f"{folder} holds something that is no saved retrieval model; give a new or empty folder")
        with new_folder(folder) as new:
            write_text(new / "config.yaml", to_yaml(self.config))
            save_linear(new / "linear.safetensors", self.linear, self.catalogue, self.centre)
            write_json(new / "said.json", asdict(self.said))
            if self.fusion is not None:
                write_text(new / "fusion.txt", self.fusion.text)
            if self.language_model is not None:
                self.language_model.save(new / CLLM_FOLDER)
            write_dataset(without_features(self.dataset), new / "dataset")
            write_manifest(new, FORMAT)

    @classmethod
    def load(cls, folder: Path | str) -> "Retrieval":
        """Read a saved model after checking its hashes."""
        folder = Path(folder)
        if verify_manifest(folder).format != FORMAT or not (folder / "linear.safetensors").is_file():
            raise UserError(f"{folder} is no retrieval of format {FORMAT}, which this version reads; train it again")
        dataset = load_prepared(folder / "dataset")
        fusion = folder / "fusion.txt"
        linear, catalogue, centre = load_linear(
            folder / "linear.safetensors", dataset.vectors if fusion.is_file() else None
        )
        said = read_json(folder / "said.json")
        return cls(
            load_config(folder / "config.yaml"), dataset, linear, centre, catalogue,
            Fusion(fusion.read_text(encoding="utf-8")) if fusion.is_file() else None,
            CLLM4Rec.load(folder / CLLM_FOLDER, dataset) if (folder / CLLM_FOLDER).is_dir() else None,
            Said(**{**said, "strengths": Strengths(**said["strengths"])}),
        )  # fmt: skip
