"""One folder that serves elsewhere: the trained system with LoRA merged into the language model."""

import shutil
from pathlib import Path

import torch

from corella.errors import UserError
from corella.files import new_folder, verify_manifest, write_manifest
from corella.llm.saved import LORA, MERGED, load_language_model


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
            merged.save_pretrained(new / "model" / MERGED)
            backbone.tokenizer.save_pretrained(new / "model" / MERGED)
        write_manifest(new / "model", {"format": manifest["format"]})
        for path in (new / "model").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # it may be served by somebody else
        for name in ("metrics.json", "config.yaml"):
            if (run / name).is_file():
                shutil.copy(run / name, new / name)
        if (run / "retrieval").is_dir():
            shutil.copytree(run / "retrieval", new / "retrieval")
