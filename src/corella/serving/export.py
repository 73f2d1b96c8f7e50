"""One folder that serves elsewhere: the trained system with its language models, LoRA merged into them."""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from corella.config.loading import load_config
from corella.errors import UserError
from corella.files import new_folder, verify_manifest, write_manifest
from corella.llm.backbone import cut_layers
from corella.llm.saved import LORA, WHOLE, load_base, load_language_model, save_whole
from corella.retrieval.system import CLLM_FOLDER
from corella.runs.folder import RunFolder

_OURS = ("model", "retrieval", "metrics.json", "config.yaml")


def export(run: Path, folder: Path) -> None:
    """Write what `corella serve FOLDER` needs, and no checkpoints. The language model in `model/language-model` is an
    ordinary one that transformers and vLLM load. Merged in float32, kept in the dtype it was trained in. An earlier
    export is replaced; the answers that a server keeps beside it stay.

    Raises `UserError` where the run is not trained, or `folder` holds something else.
    """
    held = RunFolder(run)
    held.check_ranking()
    source = held.model
    _check_target(run.resolve(), folder)
    manifest = verify_manifest(source)
    with ExitStack() as both:  # what is there is replaced when all is made
        model = both.enter_context(new_folder(folder.resolve() / "model"))
        shutil.copytree(source, model, ignore=shutil.ignore_patterns(LORA), dirs_exist_ok=True)
        if (source / LORA).is_file():
            backbone = load_language_model(source)
            dtype = backbone.model.dtype
            adapted = hasattr(backbone.model, "merge_and_unload")  # else all weights were trained
            merged = backbone.model.to(torch.float32).merge_and_unload().to(dtype) if adapted else backbone.model
            save_whole(replace(backbone, model=merged), model)
        write_manifest(model, manifest.format)
        _open(model)
        if held.has_retrieval:
            retrieval = both.enter_context(new_folder(folder.resolve() / "retrieval"))
            _export_retrieval(held.retrieval, retrieval)
            _open(retrieval)
    if not held.has_retrieval:
        shutil.rmtree(folder / "retrieval", ignore_errors=True)
    for kept in (held.metrics, held.config):
        (folder / kept.name).unlink(missing_ok=True)
        if kept.is_file():
            shutil.copy(kept, folder / kept.name)
            (folder / kept.name).chmod(0o644)
    folder.chmod(0o755)


def _check_target(run: Path, folder: Path) -> None:
    """Only what an export wrote is replaced, never a run."""
    target = folder.resolve()
    if target.is_relative_to(run) or run.is_relative_to(target):
        raise UserError(f"{folder} is the run itself, or one holds the other; give a folder elsewhere")
    # Of a server that runs there are the store's files, of a killed export an unfinished folder.
    inside = [path.name for path in folder.iterdir()] if folder.exists() else []
    other = sorted(n for n in inside if n not in _OURS and not n.startswith(("events.db", ".model.", ".retrieval.")))
    if other or (inside and not any(name == "model" or name.startswith(".model.") for name in inside)):
        raise UserError(f"{folder} holds {(other or inside)[0]}, so it is no exported run; give a new or empty folder")


def _open(folder: Path) -> None:
    """It may be served by somebody else."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _export_retrieval(source: Path, folder: Path) -> None:
    """The retrieval with as much of its language model as it reads: that may be missing elsewhere."""
    manifest = verify_manifest(source)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    beside = folder / CLLM_FOLDER
    if beside.is_dir() and not (beside / WHOLE).is_dir():
        config = load_config(beside / "config.yaml")
        backbone = load_base(beside, config)
        if config.retrieval.layers is not None:
            cut_layers(backbone, config.retrieval.layers)
        save_whole(backbone, beside)
        write_manifest(beside, verify_manifest(source / CLLM_FOLDER).format)
    write_manifest(folder, manifest.format)
