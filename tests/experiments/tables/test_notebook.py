"""Notebooks as programs: strict about names, limited in time, errors in one line."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from papermill.cli import NoDatesSafeLoader
from papermill.translators import PythonTranslator

import b2inst
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.tables import notebook as module
from b2inst.experiments.tables.notebook import execute, to_html


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _notebook(tmp_path / "in.ipynb")


def _notebook(path: Path) -> Path:
    """A notebook that repeats its parameter, and fails on "bad"."""
    v4 = nbformat.v4
    parameters = v4.new_code_cell('word = "one"\ntimes = 2', metadata={"tags": ["parameters"]})
    work = v4.new_code_cell('assert word != "bad", "not this\\nword"\nprint(word * times)')
    nbformat.write(v4.new_notebook(cells=[parameters, work]), path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A notebook as papermill really executes it, its page, and what was printed meanwhile.

    The paths have braces, which to papermill stand for parameters. The last cell prints a path of
    the package.
    """
    folder = tmp_path_factory.mktemp("executed") / "{word} {0} {"
    folder.mkdir()
    path = _notebook(folder / "{in}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    code = "import b2inst, sys\nprint(b2inst.__file__, file=sys.stderr)"
    notebook.cells.append(nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, path)
    with redirect_stderr(StringIO()) as printed:
        out, page = execute(
            path, folder / "out/{out}.ipynb", {"word": "ab"}, folder=folder, progress=True
        )
    return out, page, printed.getvalue()


def test_a_notebook_is_executed_with_its_parameters(executed: tuple[Path, Path, str]) -> None:
    out, page, _ = executed
    assert (out.name, page) == ("{out}.ipynb", out.with_name("{out}.html"))
    assert nbformat.read(out, as_version=4).cells[-2].outputs[0].text == "abab\n"
    assert "abab" in page.read_text()
    assert not re.search(r'(src|href)="https?:', page.read_text())  # it is read without a network


def test_progress_is_by_cell(executed: tuple[Path, Path, str]) -> None:
    assert "{in}.ipynb: 100%" in executed[2]


def test_a_warning_from_the_package_names_no_folder_of_this_machine(
    executed: tuple[Path, Path, str],
) -> None:
    out, page, _ = executed
    root = Path(b2inst.__file__).parents[1]
    assert nbformat.read(out, as_version=4).cells[-1].outputs[0].text == "b2inst/__init__.py\n"
    assert str(root) not in out.read_text() + page.read_text()


def test_a_notebook_of_the_same_inputs_is_not_executed_again(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    papermill = Papermill(0, json.loads(source.read_text()))
    monkeypatch.setattr(subprocess, "run", papermill)

    def executions(inputs: str | None, word: str = "ab") -> int:
        before = papermill.calls
        _, page = execute(
            source, tmp_path / "out.ipynb", {"word": word}, folder=tmp_path, inputs=inputs
        )
        assert page.is_file()
        return papermill.calls - before

    assert [executions("a"), executions("a")] == [1, 0]
    assert [executions("b"), executions("b", word="cd")] == [1, 1]
    assert [executions(None), executions(None)] == [1, 1]
    assert capsys.readouterr().err == ""
    papermill.returncode = 1
    for _ in range(2):  # what failed is tried again
        with pytest.raises(RunError):
            executions("b")
    assert papermill.calls == 7


def test_unknown_parameters_are_errors(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no parameter wrod; it has word, times"):
        execute(source, tmp_path / "out.ipynb", {"wrod": "ab"}, folder=tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


def test_missing_notebook(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"x\.ipynb: no such notebook"):
        execute(tmp_path / "x.ipynb", tmp_path / "out.ipynb", {}, folder=tmp_path)


class Papermill:
    """Stands in for the process: writes ``written`` and ends with ``returncode``."""

    def __init__(self, returncode: int, written: dict[str, Any] | None = None) -> None:
        self.returncode = returncode
        self.written = written
        self.stderr = "Traceback …\nKeyError: kernel\n"
        self.calls = 0

    def __call__(self, command: list[str], **arguments: Any) -> Any:
        self.calls += 1
        if self.written is not None:
            Path(command[4]).write_text(json.dumps(self.written))
        return self


def test_a_failing_cell_is_told_with_the_notebook_that_shows_it(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.ipynb"
    with pytest.raises(RunError, match=rf"AssertionError: not this word; see {out}"):
        execute(source, out, {"word": "bad"}, folder=tmp_path)
    assert "not this" in out.read_text()


@pytest.mark.parametrize("written", [None, "", "{"])
def test_papermill_itself_fails(
    written: str | None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], **_: Any) -> Any:
        if written is not None:
            Path(command[4]).write_text(written)
        return Papermill(1)

    monkeypatch.setattr(subprocess, "run", fails)
    out = tmp_path / "out.ipynb"
    out.write_text("of an earlier call")
    with pytest.raises(RunError, match=r"KeyError: kernel$"):
        execute(source, out, {}, folder=tmp_path)
    assert out.read_text() == "of an earlier call"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ipynb", "out.ipynb"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(st.sampled_from("abc"), texts | st.integers() | st.floats() | st.booleans()))
@example({"a": "📷 photos/: #é", "b": " 'x\\n\" ", "c": "1e3"})
def test_parameters_arrive_as_they_are(parameters: dict[str, Any]) -> None:
    """By papermill's own reading and writing of them."""
    read = yaml.load(base64.b64decode(module._encoded(parameters)), NoDatesSafeLoader) or {}
    namespace: dict[str, Any] = {}
    exec(PythonTranslator.codify(read), namespace)
    for name, value in parameters.items():
        assert namespace[name] == value or (value != value and namespace[name] != namespace[name])


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (
            "INFO: x\nTraceback (most recent call last):\n  File a\n    b\nKeyError: 1\n"
            "\nDuring handling of it:\n\nTraceback (most recent call last):\n  File c\n"
            '    d()\n    ^^^\na.b.ReaderError: special characters\n  in "x", position 9\n',
            'a.b.ReaderError: special characters in "x", position 9',
        ),
        ("Usage: papermill\n\nError: No such option\n", "Error: No such option"),
        ("", "no message"),
    ],
)
def test_the_exception_of_papermill_is_told_whole(
    printed: str, reason: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    papermill = Papermill(1)
    papermill.stderr = printed
    monkeypatch.setattr(subprocess, "run", papermill)
    with pytest.raises(RunError) as error:
        execute(source, tmp_path / "out.ipynb", {}, folder=tmp_path)
    assert str(error.value) == f"{source}: {reason}"


def test_time_is_limited(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], *, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(module.subprocess, "run", hangs)
    with pytest.raises(RunError, match="not done after 5 s"):
        execute(source, tmp_path / "out.ipynb", {}, folder=tmp_path, time_limit=5)


def test_html_holds_the_pictures(tmp_path: Path) -> None:
    v4 = nbformat.v4
    pixel = "iVBORw0KGgo="
    cell = v4.new_code_cell("1", outputs=[v4.new_output("display_data", {"image/png": pixel})])
    path = tmp_path / "a.ipynb"
    nbformat.write(v4.new_notebook(cells=[cell]), path)
    assert f"data:image/png;base64,{pixel}" in to_html(path).read_text()
