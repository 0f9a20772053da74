"""Notebooks as programs: strict about names, limited in time, errors in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from papermill.parameterize import parameterize_notebook

import b2inst
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.tables.notebook import execute, to_html


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Doubles its parameter, and fails on "bad"."""
    v4 = nbformat.v4
    parameters = v4.new_code_cell('word = "one"\ntimes = 2', metadata={"tags": ["parameters"]})
    work = v4.new_code_cell('assert word != "bad", "not this\\nword"\nprint(word * times)')
    path = tmp_path / "in.ipynb"
    nbformat.write(v4.new_notebook(cells=[parameters, work]), path)
    return path


def test_a_notebook_is_executed_with_its_parameters(source: Path, tmp_path: Path) -> None:
    out, page = execute(source, tmp_path / "out/done.ipynb", {"word": "ab"}, folder=tmp_path)
    cells = nbformat.read(out, as_version=4).cells
    assert cells[-1].outputs[0].text == "abab\n"
    assert page == tmp_path / "out/done.html"
    assert "abab" in page.read_text()
    assert not re.search(r'(src|href)="https?:', page.read_text())  # it is read without a network


def test_a_notebook_of_the_same_inputs_is_not_executed_again(source: Path, tmp_path: Path) -> None:
    def make(inputs: str | None, word: str = "ab") -> int:
        out, page = execute(
            source, tmp_path / "out.ipynb", {"word": word}, folder=tmp_path, inputs=inputs
        )
        assert page.is_file()
        return out.stat().st_mtime_ns

    first = make("a")
    assert make("a") == first
    changed = make("b")
    assert changed > first
    assert make("b", word="cd") > changed
    assert make(None) > changed
    with pytest.raises(RunError):
        make("b", word="bad")
    with pytest.raises(RunError):  # what failed is tried again
        make("b", word="bad")


def test_progress_is_by_cell(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(source, tmp_path / "out.ipynb", {}, folder=tmp_path, progress=True)
    assert "in.ipynb: 100%" in capsys.readouterr().err
    execute(source, tmp_path / "quiet.ipynb", {}, folder=tmp_path)
    assert capsys.readouterr().err == ""


def test_a_warning_from_the_package_names_no_folder_of_this_machine(
    source: Path, tmp_path: Path
) -> None:
    root = Path(b2inst.__file__).parents[1]
    code = nbformat.v4.new_code_cell("import b2inst, sys\nprint(b2inst.__file__, file=sys.stderr)")
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.append(code)
    nbformat.write(notebook, source)
    out, page = execute(source, tmp_path / "out.ipynb", {}, folder=tmp_path)
    assert nbformat.read(out, as_version=4).cells[-1].outputs[0].text == "b2inst/__init__.py\n"
    assert str(root) not in out.read_text() + page.read_text()


def test_unknown_parameters_are_errors(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no parameter wrod; it has word, times"):
        execute(source, tmp_path / "out.ipynb", {"wrod": "ab"}, folder=tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


def test_missing_notebook(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"x\.ipynb: no such notebook"):
        execute(tmp_path / "x.ipynb", tmp_path / "out.ipynb", {}, folder=tmp_path)


def test_a_failing_cell_is_told_with_the_notebook_that_shows_it(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.ipynb"
    with pytest.raises(RunError, match=rf"in\.ipynb: AssertionError: not this word; see {out}"):
        execute(source, out, {"word": "bad"}, folder=tmp_path)
    (shown,) = nbformat.read(out, as_version=4).cells[-1].outputs
    assert shown.ename == "AssertionError"


def test_a_kernel_that_dies_is_told(source: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import os; os._exit(1)"))
    nbformat.write(notebook, source)
    with pytest.raises(RunError, match="Kernel died"):
        execute(source, tmp_path / "out.ipynb", {}, folder=tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(st.sampled_from("abc"), texts | st.integers() | st.floats() | st.booleans()))
@example({"a": "📷 photos/: #é", "b": " 'x\\n\" ", "c": "1e3"})
def test_parameters_arrive_as_they_are(parameters: dict[str, Any]) -> None:
    cell = nbformat.v4.new_code_cell("a = b = c = 0", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {}})
    filled = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
    namespace: dict[str, Any] = {}
    for each in filled.cells:
        exec(each.source, namespace)
    for name, value in parameters.items():
        assert namespace[name] == value or (value != value and namespace[name] != namespace[name])


def test_paths_may_have_braces(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "{word} {0} {"
    folder.mkdir()
    notebook = source.rename(folder / "{in}.ipynb")
    out, _ = execute(notebook, folder / "{out}.ipynb", {"word": "ab"}, folder=folder)
    assert out == folder / "{out}.ipynb"
    assert nbformat.read(out, as_version=4).cells[-1].outputs[0].text == "abab\n"


def test_time_is_limited(source: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import time; time.sleep(600)"))
    nbformat.write(notebook, source)
    out = tmp_path / "out.ipynb"
    with pytest.raises(RunError, match="not done after 20 s"):
        execute(source, out, {"word": "ab"}, folder=tmp_path, time_limit=20)
    assert "made_from" not in out.read_text()


def test_html_holds_the_pictures(tmp_path: Path) -> None:
    v4 = nbformat.v4
    pixel = "iVBORw0KGgo="
    cell = v4.new_code_cell("1", outputs=[v4.new_output("display_data", {"image/png": pixel})])
    path = tmp_path / "a.ipynb"
    nbformat.write(v4.new_notebook(cells=[cell]), path)
    assert f"data:image/png;base64,{pixel}" in to_html(path).read_text()
