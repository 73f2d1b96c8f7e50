"""One folder that serves elsewhere: the trained system with its language models, LoRA merged into them."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from corella.errors import UserError
from corella.files import new_folder, verify_manifest, write_manifest
from corella.llm.backbone import cut_layers
from corella.llm.saved import LORA, WHOLE, load_base, load_language_model, save_whole
from corella.settings import load_config


def export(run: Path, folder: Path) -> None:
    """Write what `corella serve FOLDER` needs, and no checkpoints. The language model in `model/language-model` is an
    ordinary one that transformers and vLLM load. Merged in float32, kept in the dtype it was trained in.

    Raises `UserError` where the run is not trained, or `folder` holds something else.
    """
    source = run / "model"
    if not (source / "manifest.json").is_file():
        raise UserError(f"{run} holds no trained ranking; run `corella train` first")
    if folder.exists() and any(folder.iterdir()) and not (folder / "model" / "manifest.json").is_file():
        raise UserError(f"{folder} holds something that is no exported run; give a new or empty folder")
    manifest = verify_manifest(source)
    with new_folder(folder.resolve()) as new:
        shutil.copytree(source, new / "model", ignore=shutil.ignore_patterns(LORA))
        if (source / LORA).is_file():
            backbone = load_language_model(source)
            dtype = backbone.model.dtype
            merged = backbone.model.to(torch.float32).merge_and_unload().to(dtype)
            save_whole(replace(backbone, model=merged), new / "model")
        write_manifest(new / "model", {"format": manifest["format"]})
        if (run / "retrieval").is_dir():
            _export_retrieval(run / "retrieval", new / "retrieval")
        for path in new.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # it may be served by somebody else
        for name in ("metrics.json", "config.yaml"):
            if (run / name).is_file():
                shutil.copy(run / name, new / name)


def _export_retrieval(source: Path, folder: Path) -> None:
    """The retrieval with as much of its language model as it reads: that may be missing elsewhere."""
    manifest = verify_manifest(source)
    shutil.copytree(source, folder)
    if not (source / WHOLE).is_dir():
        config = load_config(source / "config.yaml")
        backbone = load_base(source, config)
        if config.retrieval.layers is not None:
            cut_layers(backbone, config.retrieval.layers)
        save_whole(backbone, folder)
    write_manifest(folder, {"format": manifest["format"]})
