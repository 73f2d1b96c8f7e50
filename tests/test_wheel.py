"""The wheel works where nothing but its own dependencies is installed: no extras, no source folder."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("altair", "vl_convert", "gguf", "connectorx", "pyarrow", "optuna", "fastapi", "uvicorn", "psycopg", "redis")
WORK = """
import sys
import numpy as np
import polars as pl
import corella
from corella import CoReLLa, UserError, load_config, load_dataset

assert "site" in corella.__file__, corella.__file__
rng = np.random.default_rng(1)
user, item = np.divmod(rng.permutation(40 * 30)[:900], 30)
label = ((user % 2 == 0) == (item < 15)).astype(int)
pl.DataFrame({"user_id": user, "item_id": item, "label": label, "timestamp": np.arange(900)}).write_csv("log.csv")
pl.DataFrame({"item_id": np.arange(30), "title": [f"film {i}" for i in range(30)]}).write_csv("items.csv")
settings = {
    "data": {
        "source": "tables", "interactions": {"path": "log.csv"}, "items": {"path": "items.csv"}, "label": "label",
        "text": {"encoder": "tfidf", "tfidf_size": 8},
    },
    "crm": {"epochs": 2}, "lightgbm": {"rounds": 20}, "llm": {"backbone": sys.argv[1], "dtype": "float32"},
    "joint": {"stage2_targets": 32, "stage3_targets": 32},
}
config = load_config(settings=settings)
dataset = load_dataset(config, "prepared")
model = CoReLLa(config).fit(dataset)
probability = model.predict_proba(dataset.samples("test"))
model.save("model")
again = CoReLLa.load("model").predict_proba(dataset.samples("test"))
assert np.array_equal(probability, again)
from corella.runs.evaluate import write_report
try:
    write_report("runs")
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the built wheel, unpacked, and refuses to import any extra."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    refuse = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {EXTRAS!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    (folder / "site" / "sitecustomize.py").write_text(refuse)
    return folder / "site"


def test_the_wheel_alone_prepares_trains_scores_and_loads(
    site: Path, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    assert (site / "corella" / "py.typed").is_file()
    assert (site / "corella" / "report" / "page.css").is_file()
    assert (site / "corella" / "serving" / "http" / "page" / "index.html").is_file()
    packages = sysconfig.get_paths()["purelib"]
    # -S: no .pth file may bring the source folder back.
    code = f"import sys; sys.path[1:1] = [{str(site)!r}]; import sitecustomize; sys.path.append({packages!r})\n{WORK}"
    command = [sys.executable, "-S", "-c", code, str(tiny_backbone_folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the report needs: pip install 'corella-rec[report]'"]


def test_what_an_older_version_saved_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from corella import CoReLLa, UserError
    from corella.files import write_manifest
    from corella.ranking.io import FORMAT

    (tmp_path / "config.yaml").write_text("seed: 1\n")
    write_manifest(tmp_path, FORMAT - 1)
    with pytest.raises(UserError, match=f"has format {FORMAT - 1}; this version reads {FORMAT}: train the run again"):
        CoReLLa.load(tmp_path)
