"""CLLM4Rec: fit, score, save, load. `retrieval/system.py` recommends by it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from corella.checkpoint import Checkpoints, load_tensors, save_tensors
from corella.columns import LABEL, REVIEW, SPLIT, long_texts
from corella.config import RANKING_ONLY, Config
from corella.config.loading import load_config, to_yaml
from corella.data.dataset import Dataset
from corella.data.rows import ITEM_CODE, USER_CODE
from corella.errors import UserError
from corella.files import new_folder, verify_manifest, write_manifest, write_text
from corella.llm.backbone import Backbone, cut_layers, load_backbone, untrained
from corella.llm.saved import load_base
from corella.progress import Reporter
from corella.retrieval.cllm4rec.documents import Documents
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.cllm4rec.recommend import reader_states, state_parts
from corella.retrieval.cllm4rec.text_map import map_texts, read_texts
from corella.retrieval.cllm4rec.text_start import item_table
from corella.retrieval.cllm4rec.training import RetrievalProgress, RetrievalTrainer, Review
from corella.retrieval.cllm4rec.warm_start import start_from_popularity, train_head
from corella.retrieval.cllm4rec.weighing import LLM_WEIGHTS, Weight, try_weights, worthwhile
from corella.retrieval.histories import Reader, liked_items, training_likes
from corella.threads import set_threads

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FORMAT = 4
"""Raised when the files of a saved model change their meaning."""

_WEIGHED = 2000
"""Users whose validation rows choose the weights."""
_STANDARDISED = 64
"""Users, and items of each, whose states set the scale of the items' head."""


class CLLM4Rec:
    """Retrieval by a language model with user and item tokens.

    >>> model = CLLM4Rec(config).fit(dataset)                     # doctest: +SKIP
    >>> model.scores([Reader(3, np.array([10, 12]))]).shape       # doctest: +SKIP
    (1, 1682)
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load_config()

    # What training makes; `fit` and `load` set all of it.
    dataset: Dataset
    model: CLLM
    documents: Documents

    def fit(
        self, dataset: Dataset, checkpoints: Checkpoints | None = None, reporter: Reporter | None = None
    ) -> "CLLM4Rec":
        """Train. Where checkpoints are kept, a killed training resumes."""
        reporter, checkpoints = reporter or Reporter(quiet=True), checkpoints or Checkpoints()
        self._attach(dataset, load_backbone(self.config.llm))
        checkpoints.claim(to_yaml(self.config.without(RANKING_ONLY)), dataset.digest())
        config = self.config.retrieval
        liked = training_likes(dataset)
        if config.start != "random":
            self.model.start_items(item_table(dataset, self.model.backbone, config.start))
        if config.head_texts:
            told = "encoder" if config.start == "encoder" else "words"
            self.model.tell_texts(item_table(dataset, self.model.backbone, told))
        start_from_popularity(self.model, liked)
        self._train_head(liked, reporter)
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

            trainer.run(checkpoints.path("steps.safetensors"), show)
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
            self._train_head(training_likes(self.dataset, ("train", "valid")), reporter)

    def _train_head(self, liked: Sequence[Ints], reporter: Reporter) -> None:
        with reporter.task("CLLM4Rec, head: epochs", self.config.retrieval.head_epochs) as task:

            def show(done: int, steps: int) -> None:
                task.update(self.config.retrieval.head_epochs * done / steps)

            train_head(self.model, liked, self.config.retrieval, self.config.seed, show)

    def scores(self, readers: Sequence[Reader]) -> Floats:
        """Logits of all items for each reader, float32 [readers, items]."""
        with torch.inference_mode():
            scores: Floats = self.model.item_logits(self._states(readers)).cpu().numpy()
        return scores

    def new_item_scores(self, readers: Sequence[Reader], texts: Sequence[str]) -> Floats:
        """Logits of items that have only a text, float32 [readers, texts], comparable with `scores`. One pass over each
        text gives its embedding, see `text_map`."""
        config, backbone = self.config.retrieval, self.model.backbone
        known = read_texts(backbone, long_texts(self.dataset.items), config.longest_text)
        read = read_texts(backbone, texts, config.longest_text)
        new = map_texts(self.model, known, read, config.new_item_penalty)
        with torch.inference_mode():
            state = self._states(readers).cpu().numpy()
        scores: Floats = state @ new.output.T + new.bias
        return scores

    def _states(self, readers: Sequence[Reader]) -> torch.Tensor:
        return reader_states(self.model, self.documents, readers, self.config.retrieval)

    def token(self, user: int) -> int:
        """The user's code if training read it, else -1: an untrained token says nothing."""
        return user if self._trained[user] else -1

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
        """Write the model, without its dataset, as a folder of safetensors and YAML with a manifest of hashes; replaces
        what is there."""
        folder = Path(folder).resolve()
        if folder.exists() and any(folder.iterdir()) and not (folder / "retrieval.safetensors").is_file():
            raise UserError(f"{folder} holds something that is no saved retrieval model; give a new or empty folder")
        with new_folder(folder) as new:
            write_text(new / "config.yaml", to_yaml(self.config))
            save_tensors(new / "retrieval.safetensors", self.model.state_dict(), {})
            write_manifest(new, FORMAT)

    @classmethod
    def load(cls, folder: Path | str, dataset: Dataset) -> "CLLM4Rec":
        """Read a saved model after checking its hashes; `dataset`: what it was trained on."""
        folder = Path(folder)
        kept = verify_manifest(folder).format
        if kept != FORMAT:
            raise UserError(f"{folder} has format {kept}; this version reads {FORMAT}")
        self = cls(load_config(folder / "config.yaml"))
        self._attach(dataset, load_base(folder, self.config))
        self.model.load_state_dict(load_tensors(folder / "retrieval.safetensors")[0])
        return self


def training_reviews(dataset: Dataset, learned: Sequence[str] = ("train",)) -> list[Review]:
    """What users wrote about items that they liked, in rows to learn from; none where the data has no reviews."""
    if REVIEW not in dataset.log.columns:
        return []
    written = pl.col(REVIEW).fill_null("").str.strip_chars() != ""
    rows = dataset.log.filter(pl.col(SPLIT).is_in(list(learned)), pl.col(LABEL) == 1, written)
    return rows.select(USER_CODE, ITEM_CODE, REVIEW).rows()
