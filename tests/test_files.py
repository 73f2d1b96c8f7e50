"""Atomic writes and manifests."""

import json
import os
from pathlib import Path

import pytest

from corella.errors import UserError
from corella.files import (
    Manifest,
    atomic_path,
    new_folder,
    read_json,
    sha256,
    verify_manifest,
    write_json,
    write_manifest,
    write_text,
)


def test_the_old_file_stays_when_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_the_new_file_replaces_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushed to the disk before it is renamed."""
    events: list[str] = []
    flush, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), flush(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    path = tmp_path / "file.txt"
    write_text(path, "old")
    write_text(path, "new ✓")
    assert path.read_text(encoding="utf-8") == "new ✓"
    assert events == ["fsync", "rename"] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text(encoding="utf-8").index('"b"') < path.read_text(encoding="utf-8").index('"a"')
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == value
    path.write_text("{broken")
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match=r"nothing\.json does not exist"):
        read_json(tmp_path / "nothing.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text(tmp_path / "f" / "a.txt", "alpha")
    write_text(tmp_path / "f" / "sub" / "b.txt", "beta")
    (tmp_path / "f" / ".c.tmp").write_text("a write that never ended")
    write_manifest(tmp_path / "f", 1)
    return tmp_path / "f"


def test_manifest(folder: Path) -> None:
    manifest = verify_manifest(folder)
    assert manifest == Manifest(1, {"a.txt": sha256(folder / "a.txt"), "sub/b.txt": sha256(folder / "sub" / "b.txt")})
    assert manifest.files["a.txt"] == "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"
    write_manifest(folder, 2)  # made again, it does not name itself
    assert verify_manifest(folder).files == manifest.files


def test_a_changed_file(folder: Path) -> None:
    (folder / "sub" / "b.txt").write_text("betA")
    with pytest.raises(UserError, match=r"sub/b\.txt differs from its SHA-256"):
        verify_manifest(folder)


def test_a_missing_file(folder: Path) -> None:
    (folder / "a.txt").unlink()
    with pytest.raises(UserError, match=r"a\.txt is in the manifest but not on disk"):
        verify_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json does not exist"):
        verify_manifest(folder)


@pytest.mark.parametrize("name", ["../outside.txt", "sub/../../outside.txt", "/etc/hostname"])
def test_a_path_out_of_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "outside.txt").write_text("x")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = sha256(folder.parent / "outside.txt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="names a file outside the folder"):
        verify_manifest(folder)


def test_a_link_out_of_the_folder(folder: Path) -> None:
    target = folder.parent / "outside.txt"
    target.write_text("alpha")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(target)
    with pytest.raises(UserError, match="outside the folder"):
        verify_manifest(folder)


def test_a_new_folder_replaces_the_old_one_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    for content in ("first", "second"):
        with new_folder(folder) as new:
            (new / "file").write_text(content)
        assert (folder / "file").read_text() == content
    with pytest.raises(RuntimeError), new_folder(folder) as new:
        (new / "file").write_text("half")
        raise RuntimeError
    rename = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError), new_folder(folder) as new:
        (new / "file").write_text("third")
    assert (folder / "file").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_a_kill_left_between_two_renamings_is_undone(tmp_path: Path) -> None:
    folder, old = tmp_path / "model", tmp_path / ".model.77.old"
    old.mkdir()
    (old / "file").write_text("before")
    with pytest.raises(RuntimeError), new_folder(folder):
        raise RuntimeError
    assert (folder / "file").read_text() == "before"
    old.mkdir()  # and behind the second one
    with new_folder(folder) as new:
        (new / "file").write_text("after")
    assert (folder / "file").read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
