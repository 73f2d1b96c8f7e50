"""A fitted ranking as a folder of safetensors, JSON and YAML with a manifest of hashes."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from corella.checkpoint import load_tensors, save_tensors
from corella.config.loading import load_config, to_yaml
from corella.crm.models import build_crm
from corella.crm.rungs import Build, load_rungs
from corella.crm.trees import Trees
from corella.data.dataset import Dataset
from corella.data.store import load_prepared, write_dataset
from corella.errors import UserError
from corella.files import (
    new_folder,
    read_json,
    read_value,
    verify_manifest,
    write_json,
    write_manifest,
    write_text,
    write_value,
)
from corella.joint.residual import Correction
from corella.joint.soft_tokens import SoftTokens
from corella.llm.backbone import trainable
from corella.llm.saved import LORA, load_language_model
from corella.ranking.decision import Decision
from corella.ranking.language import load_llm
from corella.ranking.model import FittedRanking, ReadValidation
from corella.ranking.results import Facts
from corella.routing.features import Projection, RouterFeatures, text_signals
from corella.routing.router import Router, RouterState

FORMAT = 9
"""Raised when the files of a saved model change their meaning."""


def save_ranking(ranking: FittedRanking, folder: Path | str) -> None:
    """Write the ranking, over a saved one too. Raises `UserError` for a folder that holds anything else."""
    folder = Path(folder).resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "router.json").is_file():
        raise UserError(f"{folder} holds something that is no saved model; give a new or empty folder")
    llm, features, validation = ranking.llm, ranking.features, ranking.validation
    with new_folder(folder) as new:
        write_text(new / "config.yaml", to_yaml(ranking.config))
        for place, rung in enumerate(ranking.rungs):
            rung.save(new, place)
        save_tensors(new / LORA, trainable(llm.backbone), {})
        if llm.soft_tokens is not None:
            save_tensors(new / "soft-tokens.safetensors", llm.soft_tokens.state_dict(), {})
        read = {"rows": torch.from_numpy(validation.rows), "logits": torch.from_numpy(validation.logits)}
        save_tensors(new / "valid.safetensors", read, {})
        write_value(new / "router.json", ranking.router.state())
        write_value(new / "decision.json", ranking.decision)
        if llm.correction is not None:
            write_value(new / "correction.json", llm.correction)
        projections = {"hidden": asdict(features.projection), "text": asdict(features.text.projection)}
        write_json(new / "features.json", {**projections, "head": features.head.text if features.head else None})
        write_value(new / "facts.json", ranking.facts)
        write_dataset(ranking.dataset, new / "dataset")
        write_manifest(new, FORMAT)


def load_ranking(folder: Path | str, dataset: Dataset | None = None, build: Build = build_crm) -> FittedRanking:
    """Read a saved ranking after checking its hashes, with the dataset that it was saved with or another one, and the
    `build` that it was made with. Raises `UserError` for a folder that is no such thing, or of another format."""
    folder = Path(folder)
    kept = verify_manifest(folder).format
    if kept != FORMAT:
        raise UserError(f"{folder} has format {kept}; this version reads {FORMAT}: train the run again")
    config = load_config(folder / "config.yaml")
    dataset = dataset or load_prepared(folder / "dataset")
    rungs = load_rungs(folder, dataset, config.crm, build)
    decision = read_value(folder / "decision.json", Decision)
    served = decision.base
    llm = load_llm(config, dataset, load_language_model(folder, config))
    if config.llm.crm_tokens:
        encoder = rungs[served].encoder
        soft = SoftTokens(build(encoder.spec, config.crm), encoder, dataset, llm.backbone.hidden_size)
        soft.load_state_dict(load_tensors(folder / "soft-tokens.safetensors")[0])
        llm = replace(llm, soft_tokens=soft)
    if (folder / "correction.json").is_file():
        llm = replace(llm, correction=read_value(folder / "correction.json", Correction))
    kept = read_json(folder / "features.json")
    text = text_signals(dataset, llm.backbone, Projection(**kept["text"]))
    features = RouterFeatures(text, Trees(kept["head"]) if kept["head"] else None, Projection(**kept["hidden"]))
    router = Router.from_state(read_value(folder / "router.json", RouterState), config.routing, config.seed)
    valid = load_tensors(folder / "valid.safetensors")[0]
    validation = ReadValidation(valid["rows"].numpy(), valid["logits"].numpy())
    facts = read_value(folder / "facts.json", Facts)
    return FittedRanking(config, dataset, rungs, served, decision, llm, features, router, validation, facts)
