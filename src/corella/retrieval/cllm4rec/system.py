"""CLLM4Rec: fit, recommend, save, load."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from corella.checkpoint import claim, load_tensors, save_tensors
from corella.config import RANKING_ONLY, Config
from corella.data.dataset import ITEM_CODE, USER_CODE, Dataset, load_prepared
from corella.data.prepare import write_dataset
from corella.errors import UserError
from corella.files import new_folder, verify_manifest, write_manifest, write_text
from corella.llm.backbone import Backbone, cut_layers, load_backbone, untrained
from corella.llm.saved import load_base
from corella.progress import Reporter
from corella.retrieval.cllm4rec.documents import Documents
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.cllm4rec.recommend import reader_states, state_parts
from corella.retrieval.cllm4rec.text_map import map_texts, read_texts
from corella.retrieval.cllm4rec.training import RetrievalProgress, RetrievalTrainer, Review
from corella.retrieval.cllm4rec.warm_start import start_from_popularity, train_head
from corella.retrieval.cllm4rec.weighing import LLM_WEIGHTS, Weight, try_weights, worthwhile
from corella.retrieval.histories import Reader, liked_items, top_items, training_likes
from corella.schema import LABEL, REVIEW, SPLIT
from corella.settings import load_config, to_yaml
from corella.threads import set_threads

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FORMAT = 3
"""Raised when the files of a saved model change their meaning."""

_WEIGHED = 2000
"""Users whose validation rows choose the weights."""
_STANDARDISED = 64
"""Users, and items of each, whose states set the scale of the items' head."""


class CLLM4Rec:
    """Retrieval by a language model with user and item tokens.

    >>> model = CLLM4Rec(config).fit(dataset)          # doctest: +SKIP
    >>> model.recommend(["196", "186"], k=20)          # doctest: +SKIP
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load_config()

    # What training makes; `fit` and `load` set all of it.
    dataset: Dataset
    model: CLLM
    documents: Documents

    def fit(self, dataset: Dataset, run: Path | None = None, reporter: Reporter | None = None) -> "CLLM4Rec":
        """Train. With a run folder, a checkpoint is kept there and a killed run goes on where it was."""
        reporter = reporter or Reporter(quiet=True)
        checkpoints = run / "checkpoints" / "retrieval" if run else None
        self._attach(dataset, load_backbone(self.config.llm))
        if checkpoints is not None:
            claim(checkpoints, to_yaml(self.config.without(RANKING_ONLY)), dataset.digest())
        config = self.config.retrieval
        liked = training_likes(dataset)
        if config.from_words:
            self.model.start_from_words(dataset)
        if config.head_texts:
            self.model.tell_texts(dataset)
        start_from_popularity(self.model, liked)
        train_head(self.model, liked, config, self.config.seed)
        readers = [user for user, items in enumerate(liked) if len(items)][:_STANDARDISED]
        self.model.start_from_states([self.documents.collaborative(u, liked[u][:_STANDARDISED]) for u in readers])
        reviews = training_reviews(dataset)
        trainer = RetrievalTrainer(self.model, self.documents, liked, config, self.config.seed, reviews)
        with reporter.task("CLLM4Rec: steps", len(trainer.steps)) as task:

            def show(p: RetrievalProgress) -> None:
                phase = "fine-tuning" if p.fine_tuning else "pretraining"
                losses = ", ".join(f"{name} {value:.3f}" for name, value in p.losses.items())
                task.update(p.step, f"{phase}, epoch {p.epoch + 1}, {losses}")
                reporter.log("step", step=p.step, epoch=p.epoch, fine_tuning=p.fine_tuning, **p.losses)

            trainer.run(checkpoints / "steps.safetensors" if checkpoints else None, show)
        self._weigh(liked, reporter)
        return self

    def _weigh(self, liked: Sequence[Ints], reporter: Reporter) -> None:
        """Give the language model's part of the states the weight that validation rows prefer (NDCG@100), and none
        where it adds no more than noise. If its weight is 0, the head is retrained on training and validation rows.
        [ours]"""
        config, model = self.config.retrieval, self.model
        wanted = liked_items(self.dataset, ("valid",))
        both = np.flatnonzero([len(mine) > 0 and len(new) > 0 for mine, new in zip(liked, wanted, strict=True)])
        users = sorted(np.random.default_rng(self.config.seed).permutation(both)[:_WEIGHED].tolist())
        given = config.llm_weight
        chosen = Weight(1.0 if given is None else given)
        if model.pooled is not None and users:
            readers = [Reader(u, liked[u]) for u in users]
            parts = state_parts(model, self.documents, readers, config, given != 0)
            tried = try_weights(
                model, parts, [liked[u] for u in users], [wanted[u] for u in users],
                LLM_WEIGHTS if given is None else (given,),
            )  # fmt: skip
            chosen = worthwhile(tried)
            reporter.say(
                f"CLLM4Rec: weight of the language model {chosen.llm:g}, NDCG@100 on validation rows "
                f"{chosen.quality:.4f}; tried " + ", ".join(f"{w.llm:g}: {w.quality:.4f}" for w in tried)
            )
            reporter.log("weights", tried=[(w.llm, w.quality) for w in tried])
        model.weight.fill_(chosen.llm)
        if chosen.llm == 0 and config.refit:
            train_head(model, training_likes(self.dataset, ("train", "valid")), config, self.config.seed)

    def scores(self, readers: Sequence[Reader]) -> Floats:
        """Logits of all items for each reader, float32 [readers, items]."""
        with torch.inference_mode():
            scores: Floats = self.model.item_logits(self._states(readers)).cpu().numpy()
        return scores

    def new_item_scores(self, readers: Sequence[Reader], texts: Sequence[str]) -> Floats:
        """Logits of items that have only a text, float32 [readers, texts], comparable with `scores`. One pass over each
        text gives its embedding, see `text_map`."""
        config, backbone = self.config.retrieval, self.model.backbone
        known = read_texts(backbone, self.dataset.items["text"].to_list(), config.longest_text)
        read = read_texts(backbone, texts, config.longest_text)
        new = map_texts(self.model, known, read, config.new_item_penalty)
        with torch.inference_mode():
            state = self._states(readers).cpu().numpy()
        scores: Floats = state @ new.output.T + new.bias
        return scores

    def _states(self, readers: Sequence[Reader]) -> torch.Tensor:
        return reader_states(self.model, self.documents, readers, self.config.retrieval)

    def recommend(self, users: Sequence[str], k: int = 20, candidates: Sequence[str] | None = None) -> list[list[str]]:
        """The best `k` items for each user, best first, never one the user has answered before.

        Users that training did not see are read by their history alone. `candidates`: the only items that may come.
        Raises `UserError` for an unknown user or item, and for `k` below 1.
        """
        if isinstance(users, str):
            raise UserError(f"recommend takes a list of users; write [{users!r}]")
        codes = self._codes("user_id", users)
        allowed = None if candidates is None else self._codes("item_id", candidates)
        readers = [Reader(self.token(u), self.history(u)) for u in codes]
        answered = [self._events(u) for u in codes]
        best = top_items(self.scores(readers), answered, k, allowed)
        return [[self._names[i] for i in row] for row in best]

    def recommend_for(self, history: Sequence[str], k: int = 20) -> list[str]:
        """The same for somebody who has only a history of liked items, oldest first."""
        items = self._codes("item_id", history)
        best = top_items(self.scores([Reader(-1, items)]), [items], k)[0]
        return [self._names[i] for i in best]

    def retrieve(self, user_id: str, liked: Sequence[str], without: Sequence[str], k: int) -> list[str]:
        """The best items for somebody who liked these, oldest first, none of `without`; ids that this model does not
        know are passed over. The user's token is read where training saw it."""
        users, items = self._known["user_id"], self._known["item_id"]
        token = self.token(users[user_id]) if user_id in users else -1
        history, unwanted = (np.array([items[i] for i in ids if i in items], np.int64) for ids in (liked, without))
        best = top_items(self.scores([Reader(token, history)]), [unwanted], k)[0]
        return [self._names[i] for i in best]

    def history(self, user: int) -> Ints:
        """The items that a user liked, in order."""
        start, end = self.dataset.events.start[user : user + 2]
        events = slice(int(start), int(end))
        return self.dataset.events.item[events][self.dataset.events.label[events] == 1]

    def _events(self, user: int) -> Ints:
        start, end = self.dataset.events.start[user : user + 2]
        return self.dataset.events.item[int(start) : int(end)]

    def token(self, user: int) -> int:
        """The user's code if training read it, else -1: an untrained token says nothing."""
        return user if self._trained[user] else -1

    @cached_property
    def _known(self) -> dict[str, dict[str, int]]:
        """Ids -> codes, of users and of items."""
        tables = {"user_id": self.dataset.users, "item_id": self.dataset.items}
        return {
            column: {str(name): code for code, name in enumerate(table[column].cast(pl.String).to_list())}
            for column, table in tables.items()
        }

    @cached_property
    def _names(self) -> list[str]:
        return list(self._known["item_id"])

    def _codes(self, column: str, names: Sequence[str]) -> Ints:
        known = self._known[column]
        unknown = [name for name in names if str(name) not in known]
        if unknown:
            raise UserError(f"no {column} '{unknown[0]}' in the dataset ({len(unknown)} of {len(names)} are unknown)")
        return np.array([known[str(name)] for name in names], dtype=np.int64)

    def _attach(self, dataset: Dataset, backbone: Backbone) -> None:
        config = self.config.retrieval
        set_threads(self.config)
        self.dataset = dataset
        torch.manual_seed(self.config.seed)
        if config.layers is not None:
            cut_layers(backbone, config.layers)
        if config.backbone != "frozen" and backbone.model.dtype != torch.float32:
            raise UserError(
                f"retrieval.backbone is {config.backbone}: set llm.dtype=float32, a bfloat16 weight does not move by "
                "small updates"
            )
        if config.backbone == "scratch":
            backbone = untrained(backbone)
        self.model = CLLM(backbone, dataset.users.height, dataset.items.height, config)
        self.documents = Documents(dataset, backbone, self.model.collaborative, config.longest_text)
        self._trained = np.array([len(codes) > 0 for codes in training_likes(dataset)])

    def save(self, folder: Path | str) -> None:
        """Write the model as a folder of safetensors and YAML with a manifest of hashes; replaces what is there."""
        folder = Path(folder).resolve()
        if folder.exists() and any(folder.iterdir()) and not (folder / "retrieval.safetensors").is_file():
            raise UserError(f"{folder} holds something that is no saved retrieval model; give a new or empty folder")
        with new_folder(folder) as new:
            write_text(new / "config.yaml", to_yaml(self.config))
            save_tensors(new / "retrieval.safetensors", self.model.state_dict(), {})
            write_dataset(self.dataset, new / "dataset")
            write_manifest(new, {"format": FORMAT})

    @classmethod
    def load(cls, folder: Path | str) -> "CLLM4Rec":
        """Read a saved model after checking its hashes."""
        folder = Path(folder)
        manifest = verify_manifest(folder)
        if manifest.get("format") != FORMAT:
            raise UserError(f"{folder} has format {manifest.get('format')}; this version reads {FORMAT}")
        self = cls(load_config(folder / "config.yaml"))
        self._attach(load_prepared(folder / "dataset"), load_base(folder, self.config))
        self.model.load_state_dict(load_tensors(folder / "retrieval.safetensors")[0])
        return self


def training_reviews(dataset: Dataset, learned: Sequence[str] = ("train",)) -> list[Review]:
    """What users wrote about items that they liked, in rows to learn from; none where the data has no reviews."""
    if REVIEW not in dataset.log.columns:
        return []
    written = pl.col(REVIEW).fill_null("").str.strip_chars() != ""
    rows = dataset.log.filter(pl.col(SPLIT).is_in(list(learned)), pl.col(LABEL) == 1, written)
    return rows.select(USER_CODE, ITEM_CODE, REVIEW).rows()
