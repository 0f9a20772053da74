"""Notebooks as programs: limited in time, errors in one line."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import b2inst
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.tables.notebook import execute, to_html

v4 = nbformat.v4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Doubles its parameter, and fails on "bad"."""
    parameters = v4.new_code_cell('word = "one"\ntimes = 2', metadata={"tags": ["parameters"]})
    work = v4.new_code_cell('assert word != "bad", "not this\\nword"\nprint(word * times)')
    path = tmp_path / "in.ipynb"
    nbformat.write(v4.new_notebook(cells=[parameters, work]), path)
    return path


def test_a_notebook_is_executed_with_its_parameters(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(b2inst.__file__).parents[1]
    notebook = nbformat.read(source, as_version=4)
    code = "import b2inst, sys\nprint(b2inst.__file__, file=sys.stderr)"
    notebook.cells.append(v4.new_code_cell(code))
    folder = tmp_path / "{word} {0} {"  # braces stand for parameters in papermill
    folder.mkdir()
    nbformat.write(notebook, folder / "{in}.ipynb")
    word = "📷 photos/: #é 'x\\n\" 1e3"
    out, page = execute(
        folder / "{in}.ipynb", folder / "out/{out}.ipynb", {"word": word}, folder=folder
    )
    assert (out, page) == (folder / "out/{out}.ipynb", folder / "out/{out}.html")
    cells = nbformat.read(out, as_version=4).cells
    assert cells[-2].outputs[0].text == f"{word}{word}\n"
    # What is committed names no folder of this machine, and is read without a network.
    assert cells[-1].outputs[0].text == "b2inst/__init__.py\n"
    assert str(root) not in out.read_text() + page.read_text()
    assert "photos" in page.read_text()
    assert not re.search(r'(src|href)="https?:', page.read_text())
    assert capfd.readouterr().err == ""


def test_a_notebook_of_the_same_inputs_is_not_executed_again(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(inputs: str, word: str = "ab") -> int:
        out, page = execute(
            *(source, tmp_path / "out.ipynb", {"word": word}),
            folder=tmp_path,
            inputs=inputs,
            progress=True,
        )
        assert page.is_file()
        return out.stat().st_mtime_ns

    first = make("a")
    assert "in.ipynb: 100%" in capsys.readouterr().err
    assert make("a") == first
    with pytest.raises(RunError, match=r"in\.ipynb: AssertionError: not this word; see /"):
        make("b", word="bad")
    written = (tmp_path / "out.ipynb").read_text()
    assert "AssertionError" in written
    assert "made_from" not in written  # what failed is tried again


def test_unknown_parameters_are_errors(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no parameter wrod; it has word, times"):
        execute(source, tmp_path / "out.ipynb", {"wrod": "ab"}, folder=tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", "CellTimeoutError: "),
        ("import os; os._exit(3)", "DeadKernel"),
    ],
)
def test_a_kernel_that_hangs_or_dies_is_an_error(code: str, reason: str, tmp_path: Path) -> None:
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(code)]), tmp_path / "in.ipynb")
    with pytest.raises(RunError, match=rf"in\.ipynb: {reason}[^\n]*$"):
        execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {}, folder=tmp_path, time_limit=5)


def test_missing_notebook(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"x\.ipynb: no such notebook"):
        execute(tmp_path / "x.ipynb", tmp_path / "out.ipynb", {}, folder=tmp_path)


def test_html_holds_the_pictures(tmp_path: Path) -> None:
    pixel = "iVBORw0KGgo="
    cell = v4.new_code_cell("1", outputs=[v4.new_output("display_data", {"image/png": pixel})])
    path = tmp_path / "a.ipynb"
    nbformat.write(v4.new_notebook(cells=[cell]), path)
    assert f"data:image/png;base64,{pixel}" in to_html(path).read_text()
