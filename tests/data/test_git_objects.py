from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from b2inst.data.git_objects import blob_id, tree_id

FILES = {  # names that git sorts otherwise than as paths or as plain names
    "a.txt": b"",
    "a/x": b"x",
    "a/b/c": b"\0\xff",
    "a-b": b"1",
    "a0": b"2",
    "a0.d/z": b"3",
    "Z": b"4",
    "é/ü": b"5",
    "run": b"6" * 100_000,
}
EXECUTABLE = {"a/x", "run"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_ids_are_those_of_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        call = ["git", "-C", str(tmp_path), *arguments]
        done = subprocess.run(call, check=True, capture_output=True, env=os.environ | nothing)
        return done.stdout.decode().strip()

    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
        (tmp_path / path).chmod(0o755 if path in EXECUTABLE else 0o644)
    git("init", "-q")
    git("add", ".")
    assert blob_id(FILES["a/b/c"]).hex() == git("hash-object", "a/b/c")
    files = {path: (path in EXECUTABLE, blob_id(content)) for path, content in FILES.items()}
    assert tree_id(files) == git("write-tree")
    assert tree_id(dict(reversed(files.items()))) == git("write-tree")


def test_well_known_ids() -> None:
    assert blob_id(b"").hex() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert tree_id({}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
