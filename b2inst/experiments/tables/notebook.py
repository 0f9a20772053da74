"""Running a notebook as a program: nbclient, with strict parameters and a time limit."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

import b2inst
from b2inst.experiments.runs.environment import child_environment
from b2inst.experiments.specs.errors import RunError, SpecError


def execute(
    notebook: Path,
    out: Path,
    parameters: Mapping[str, Any],
    *,
    folder: Path,
    inputs: str | None = None,
    time_limit: float = 3600.0,
    progress: bool = False,
) -> tuple[Path, Path]:
    """Execute a notebook with parameters; write it with its outputs, and as HTML beside.

    What takes long belongs into the run store, where it can be resumed: a notebook cannot.

    Args:
        notebook: The ``.ipynb`` to execute.
        out: The ``.ipynb`` to write.
        parameters: Values for names that the cell tagged ``parameters`` assigns.
        folder: Working folder of the kernel.
        inputs: What its outputs depend on besides itself and the parameters. If it is given, and
            ``out`` was made from the same of all three, nothing is executed.
        time_limit: Seconds for the whole of it, after which the kernel is ended.
        progress: Show a bar over the cells.

    Returns:
        The notebook and the HTML file.

    Raises:
        SpecError: if there is no such notebook, or it has no parameter of a given name.
        RunError: if a cell failed or the time is over; the notebook is written as far as it came.
    """
    _check_parameters(notebook, parameters)
    source = notebook.read_text(encoding="utf-8")
    made_from = sha256(repr((source, sorted(parameters.items()), inputs)).encode()).hexdigest()
    page = out.with_suffix(".html")
    if inputs is not None and page.is_file() and _made_from(out) == made_from:
        return out, page

    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    kernel = {"kernel_name": "python3", "language": "python"}
    content = parameterize_notebook(load_notebook_node(str(notebook)), dict(parameters), **kernel)
    client = NotebookClient(content, kernel_name="python3", startup_timeout=600)
    reason = None
    with tqdm(
        total=len(content.cells), desc=notebook.name, unit="cell", disable=not progress
    ) as bar:
        client.on_cell_complete = lambda **_: bar.update()
        environment = {**os.environ, **child_environment()}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        work = client.async_execute(cwd=str(folder.resolve()), env=environment, **quiet)
        began = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(work, time_limit))
        except CellExecutionError as error:
            reason = f"{error.ename}: {' '.join(error.evalue.split())}"
        except (DeadKernelError, TimeoutError) as error:  # a kernel that is ended has died as well
            over = time.monotonic() - began >= time_limit
            reason = f"not done after {time_limit:g} s, so it was ended" if over else str(error)
            reason += "; rerun to resume: finished runs are read back"
    # Without the paths of this machine, such as those of warnings: results are committed.
    text = nbformat.writes(content).replace(f"{Path(b2inst.__file__).parents[1]}{os.sep}", "")
    written = json.loads(text)
    if reason is None:
        written["metadata"]["b2inst"] = {"made_from": made_from}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if reason is not None:
        raise RunError(f"{notebook}: {reason}; see {out}")
    return out, to_html(out)


def _made_from(out: Path) -> str | None:
    """What a written notebook says it was made from; None where it does not, or is damaged."""
    try:
        found = json.loads(out.read_text(encoding="utf-8"))["metadata"].get("b2inst", {})
    except (OSError, ValueError, KeyError):
        return None
    return str(found.get("made_from"))


def to_html(notebook: Path) -> Path:
    """Write an executed notebook as one HTML file beside it, pictures inside.

    It loads nothing from elsewhere, so that it can be read without a network.
    """
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(notebook))
    body = re.sub(r'<script[^>]* src="https://[^"]*"[^>]*>\s*</script>', "", body)
    page = notebook.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


def _check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    if not notebook.is_file():
        raise SpecError(f"{notebook}: no such notebook")
    known = _parameters_of(notebook)
    if unknown := [name for name in parameters if name not in known]:
        raise SpecError(
            f"{notebook}: no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )


def _parameters_of(notebook: Path) -> list[str]:
    """Names that the cell tagged ``parameters`` assigns."""
    names = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            for statement in ast.parse("".join(cell["source"])).body:
                if isinstance(statement, ast.Assign):
                    names += [name.id for name in statement.targets if isinstance(name, ast.Name)]
    return names
