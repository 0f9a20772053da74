from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from b2inst.data import DataError
from b2inst.data.files import locked, replacing


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError), replacing(path) as partial:
        partial.write_text("ne\ud800", "utf-8")
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


def test_writers_do_not_share_their_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the last to end


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from b2inst.data.files import locked
with locked(Path({str(tmp_path)!r}), RuntimeError("busy")):
    pass
"""
    call = [sys.executable, "-c", program]
    with locked(tmp_path, RuntimeError("not reached")):
        refused = subprocess.run(call, capture_output=True, text=True)
    assert refused.stderr.endswith("RuntimeError: busy\n")
    subprocess.run(call, check=True)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a/b"):
        refused = pytest.raises(DataError, match=rf"^{path}: cannot be written \(.*choose another")
        with refused, locked(path, RuntimeError("busy")):
            pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # as root, who runs tests in containers, may write anywhere
    refused = pytest.raises(DataError, match=rf"^{tmp_path}/.lock: cannot be written .*another")
    with refused, locked(tmp_path, RuntimeError("busy")):
        pass
