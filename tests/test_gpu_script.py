"""The script for a GPU, in its smallest form on a processor: every part, resumed, packed, and made a page of."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corella.checkpoint import save_tensors
from corella.config import Config
from corella.data.dataset import Dataset
from corella.data.store import write_dataset
from corella.errors import UserError
from corella.evaluation.metrics import quality
from corella.files import read_json
from corella.llm.backbone import load_backbone

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import gpu
import gpu_pack
import gpu_page
from common import DOCS
from gpu_ranking import CANDIDATES, PUBLISHED, Training, best
from gpu_retrieval import RETRIEVALS
from gpu_routing import routing_rows
from gpu_runs import Job, run_jobs
from llm_residual import base_file, without_features

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
_DRY = """
import json, sys
from pathlib import Path
sys.path.append({benchmarks!r})
import gpu
gpu.main({arguments!r})
ours = [m for m in sys.modules.values() if str(getattr(m, "__file__", "")).startswith(({source!r}, {benchmarks!r}))]
Path({out!r}, "modules.json").write_text(json.dumps([sorted(set(sys.modules)), [m.__file__ for m in ours]]))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, told: Dataset) -> Path:
    """What gpu_prepare.py makes, of the tiny dataset."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("ml-1m", "ml-100k", "scientific"):
        write_dataset(without_features(told), folder / name / "dataset")
    rng = np.random.default_rng(1)
    for seed in (1, 2):
        noise = {part: rng.normal(size=len(told.rows(part))).astype(np.float32) for part in ("train", "valid", "test")}
        save_tensors(folder / "ml-1m" / base_file(seed), {n: torch.from_numpy(z) for n, z in noise.items()}, {})
    return folder


@pytest.fixture(scope="module")
def dry(prepared: Path, tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dry run, in a process of its own."""
    out = tmp_path_factory.mktemp("out")
    given = [out, "--prepared", prepared, "--backbone", tiny_backbone_folder, "--work", out / "work", "--dry-run"]
    source = str(BENCHMARKS.parent / "src")
    script = _DRY.format(
        benchmarks=str(BENCHMARKS), source=source, arguments=[str(word) for word in given], out=str(out)
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out


def test_every_part_runs_on_a_processor(dry: Path) -> None:
    found = read_json(dry / "gpu.json")
    assert found["machine"] == "CPU"
    assert all(gpu.whole(found[name]) for name in gpu.PARTS), found
    assert found["correctness"]["apart"]["processor packed"] == 0
    assert max(v for k, v in found["correctness"]["apart"].items() if "float32" in k or "processor" in k) < 1e-4
    for part in ("speed", "7B"):
        assert not [name for name, row in found[part].items() if isinstance(row, dict) and "error" in row]
    assert set(found["speed"]) >= {"training, all", "training, lora", "forward", "shared prefix"}
    rows = found["ranking"]["rows"]
    assert [row["system"] for row in rows.values()] == ["paper", "tallrec", "timeline", "residual"]
    assert {"final_auc_test", "crm_auc_test", "share"} <= set(rows[PUBLISHED[0].name])
    assert all(0 <= row["blend_auc_test"] <= 1 for row in rows.values())
    assert {row["backbone"] for row in found["retrieval"]["rows"].values()} == {"frozen", "tuned"}
    with np.load(dry / "logits.npz") as kept:
        assert {key.split("/")[0] for key in kept.files} == set(rows)
        read = int((kept[f"{PUBLISHED[1].name}/first_step"] >= 0).sum())
    assert read == rows[PUBLISHED[1].name]["targets"] == 48


def test_what_is_whole_is_not_done_again(dry: Path, prepared: Path, tmp_path: Path) -> None:
    before = read_json(dry / "gpu.json")
    (tmp_path / "gpu.json").write_text(json.dumps(before))
    setting = gpu.Setting(tmp_path, tmp_path, prepared, "nothing", True, time.monotonic() + 60, torch.device("cpu"))
    assert gpu.measure(setting, list(gpu.PARTS)) == {**before, "libraries": gpu.measure(setting, [])["libraries"]}


def test_a_part_without_time_is_left_for_the_next_call(prepared: Path, tmp_path: Path) -> None:
    setting = gpu.Setting(tmp_path, tmp_path, prepared, "nothing", True, time.monotonic() + 5, torch.device("cpu"))
    found = gpu.measure(setting, list(gpu.PARTS))
    assert not set(found) & set(gpu.PARTS)


def test_an_error_is_written_down_and_the_next_part_begins(prepared: Path, tmp_path: Path) -> None:
    setting = gpu.Setting(
        tmp_path, tmp_path, prepared / "none", "nothing", True, time.monotonic() + 60, torch.device("cpu")
    )
    found = gpu.measure(setting, ["correctness", "ranking"])
    assert "error" in found["correctness"] and "error" in found["ranking"]
    assert read_json(tmp_path / "gpu.json")["ranking"] == found["ranking"]


def test_trainings_side_by_side(tmp_path: Path) -> None:
    """Those that end well leave a row, one that fails or is stopped is told as missing."""
    script = tmp_path / "one.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "time.sleep(60 if sys.argv[1] == 'slow' else 0)\nassert sys.argv[1] != 'bad'\n"
        "Path(sys.argv[2], sys.argv[1] + '.json').write_text('{\"auc\": 1}')\n"
    )
    setting = gpu.Setting(tmp_path, tmp_path, tmp_path, "", False, time.monotonic() + 43, torch.device("cpu"))
    # Ends as soon as nothing runs: the last one would begin only with more time than is left.
    jobs = [Job(name, str(script), print, (name, str(tmp_path))) for name in ("good", "bad", "done")]
    rows: dict[str, dict[str, Any]] = {"done": {"auc": 0.5}}
    assert run_jobs(setting, jobs, rows) == ["bad"]
    assert rows == {"done": {"auc": 0.5}, "good": {"auc": 1}}
    soon = gpu.Setting(tmp_path, tmp_path, tmp_path, "", False, time.monotonic() + 20, torch.device("cpu"))
    assert run_jobs(soon, [Job("slow", str(script), print, ("slow", str(tmp_path)))], {}) == ["slow"]


def test_every_wanted_training_is_there() -> None:
    trainings = {(t.system, t.tuned, t.epochs) for t in (*PUBLISHED, *CANDIDATES)}
    assert {("paper", "lora", 1), ("tallrec", "lora", 1)} <= trainings
    for system in ("timeline", "residual"):
        assert {tuned for s, tuned, epochs in trainings if s == system and epochs > 1} == {"lora", "all"}
    assert {(r.data, r.backbone) for r in RETRIEVALS if r.blocks == "all"} == {
        (data, backbone) for data in ("ml-100k", "scientific") for backbone in ("frozen", "tuned")
    }
    rows = {t.name: {"gain_valid": n} for n, t in enumerate(CANDIDATES[:3])}
    assert best(rows) == CANDIDATES[2] and best({}) is None
    assert sum(part.cap for part in gpu.PARTS.values()) <= 12 * 60


def test_all_targets_are_read() -> None:
    paper = Training("paper").config(33_891, "none", None)
    assert paper.joint.stages == [1, 2, 3]
    assert paper.joint.stage2_targets + paper.joint.stage3_targets == 33_891
    tallrec = Training("tallrec").config(33_891, "none", None)
    assert (tallrec.joint.stages, tallrec.joint.stage3_targets, tallrec.llm.prompt) == ([3], 33_891, "pointwise")
    residual = Training("residual", "all", 2).config(33_891, "none", None)
    assert (residual.joint.target, residual.joint.stage3_targets, residual.llm.tuned) == ("residual", 67_782, "all")


def test_routing_tables_from_kept_logits(
    told: Dataset, prepared: Path, tiny_config: Config, tiny_system_config: Any, tmp_path: Path
) -> None:
    """All of the rows routed is the blend; none asked for is worse than what the language model knows here."""
    chosen, config = CANDIDATES[0], tiny_system_config()
    rng, arrays = np.random.default_rng(2), {}
    for part in ("valid", "test"):
        label = told.samples(part).label
        arrays[f"{chosen.name}/{part}"] = (2.0 * label - 1 + rng.normal(size=len(label))).astype(np.float32)
    n = len(told.rows("train"))
    arrays |= {f"{chosen.name}/first_logits": rng.normal(size=n).astype(np.float32)}
    arrays |= {f"{chosen.name}/first_step": np.arange(n)}
    np.savez(tmp_path / "logits.npz", **arrays)
    told_rows = {
        chosen.name: {
            "gain_valid": 1.0,
            "system": chosen.system,
            "tuned": chosen.tuned,
            "epochs": chosen.epochs,
            "seed": 1,
        }
    }
    backbone = load_backbone(config.llm)
    rows = routing_rows(told_rows, tmp_path / "logits.npz", told, prepared / "ml-1m", backbone, config)
    assert {row["policy"] for row in rows} >= {"learned", "entropy", "random", "oracle"}
    test = told.samples("test")
    alone = quality(test.label, arrays[f"{chosen.name}/test"], test.user).auc
    whole = [row["auc"] for row in rows if row["share"] == 1 and row["combine"] == "replace"]
    np.testing.assert_allclose(whole, alone)


def test_the_page_tells_what_has_not_run(dry: Path) -> None:
    earlier = read_json(DOCS / "gpu.json")
    page = gpu_page.page(gpu_page.TITLE, gpu_page.TEXT, earlier)
    for name, what in gpu_page.PARTS.items():
        assert (f"- {what}." in page) is (not earlier.get(name))
    assert page == (DOCS / "gpu.md").read_text()
    found = read_json(dry / "gpu.json")
    with pytest.raises(UserError, match="a page has one"):
        gpu_page.merged(earlier, found, [], "abc")
    facts = gpu_page.merged({}, found, [], "abc")
    rows = facts.pop("rows")
    named = gpu_page.figures(facts, rows)
    assert {"paper_auc_full", "tallrec_auc_full", "blend_auc_full", "blend_gain_full", "blend_gain_full_low"} <= set(
        named
    )
    assert {"train_mfu_135m", "lora_mfu_7b", "prefix_candidates_per_second"} <= set(named)
    chosen = best(found["ranking"]["rows"])
    assert chosen is not None
    assert named["blend_auc_full"] == found["ranking"]["rows"][chosen.name]["blend_auc_test"]
    page = gpu_page.page("t", "t", {**facts, "rows": rows, "figures": named, "commit": "abc"})
    assert "Ranking, MovieLens-1M" in page and "CLLM4Rec" in page
    assert "- routing tables" in page and "- ranking with all" not in page


def test_all_that_is_imported_is_carried(dry: Path) -> None:
    """Distributions that our own modules import and that were loaded; others are what libraries find by chance."""
    import ast

    modules, files = read_json(dry / "modules.json")
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    used = (imported & {name.split(".")[0] for name in modules}) - {"corella"}
    assert {"torch", "polars", "transformers", "sklearn"} <= used
    assert gpu_pack.missing(used) == set()
    assert "pytest" in gpu_pack.missing({"pytest"})


def test_packed_and_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    model, data, folder = tmp_path / "m.gguf", tmp_path / "prepared", tmp_path / "gpu"
    model.write_bytes(rng.bytes(2500))
    (data / "ml-1m").mkdir(parents=True)
    for n in range(4):
        (data / "ml-1m" / f"{n}.bin").write_bytes(rng.bytes(300))
    loads = gpu_pack.pack(model, data, folder, largest=1000)
    sizes = [sum((folder / name).stat().st_size for name in names) for names in loads]
    assert max(sizes) <= 1000 and sum(sizes) > 2500 + 4 * 300
    assert sorted(p.name for p in (folder / "model").iterdir()) == ["part-00", "part-01", "part-02", "sha256"]
    gpu_pack.check(folder)
    gpu_pack.join(folder / "model", tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == model.read_bytes()
    assert "load 1:" in capsys.readouterr().out
    (folder / "model" / "part-01").write_bytes(rng.bytes(1000))
    with pytest.raises(ValueError, match="missing or broken"):
        gpu_pack.join(folder / "model", tmp_path / "broken.gguf")
    assert not (tmp_path / "broken.gguf").exists()
    with pytest.raises(ValueError, match="model/part-01"):
        gpu_pack.check(folder)
    with pytest.raises(ValueError, match="send fewer rows"):
        gpu_pack.together({"a": 10, "b": 1001}, 1000)
