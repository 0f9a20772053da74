"""Running a notebook as a program: papermill, with the strictness it lacks."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import dropwhile
from pathlib import Path
from typing import Any

import yaml
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

    What takes long belongs into the run store, where it can be continued: a notebook cannot.

    Args:
        out: the ``.ipynb`` to write.
        parameters: values for names that the cell tagged ``parameters`` assigns.
        folder: working folder of the kernel.
        inputs: what its outputs depend on besides itself and the parameters. If it is given, and
            ``out`` was made from the same of all three, nothing is executed.
        time_limit: seconds for the whole of it, past which the kernel is ended; papermill's own
            limits are for a cell each and do not catch a kernel that hangs.
        progress: show a bar over the cells.

    Returns:
        The notebook and the HTML file.

    Raises:
        SpecError: no such notebook, or it has no parameter of a given name.
        RunError: a cell failed, or the time is over; the notebook as far as it came is written.
    """
    _check_parameters(notebook, parameters)
    source = notebook.read_text(encoding="utf-8")
    made_from = sha256(repr((source, sorted(parameters.items()), inputs)).encode()).hexdigest()
    page = out.with_suffix(".html")
    if inputs is not None and page.is_file() and _made_from(out) == made_from:
        return out, page
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}")
    command = [
        *(sys.executable, "-m", "papermill", _literal(notebook), _literal(partial)),
        *("--parameters_base64", _encoded(parameters)),
        *("--kernel", "python3", "--language", "python", "--cwd", str(folder.resolve())),
        *("--no-progress-bar", "--start-timeout", "600"),
    ]
    try:
        with _progress(notebook, partial, enabled=progress):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=time_limit,
                env={**os.environ, **child_environment()},
                check=False,
            )
    except subprocess.TimeoutExpired:
        _keep(partial, out, None)
        raise RunError(
            f"{notebook}: not done after {time_limit:g} s, so it was ended; see {out} for how far "
            "it came, and run again (finished runs are read back)"
        ) from None
    written = _keep(partial, out, made_from if done.returncode == 0 else None)
    if done.returncode != 0 or not written:
        reason = _error_in(out) if written else None
        reason = reason or _last_error(done.stderr)
        raise RunError(f"{notebook}: {reason}" + (f"; see {out}" if written else ""))
    return out, to_html(out)


@contextmanager
def _progress(notebook: Path, partial: Path, *, enabled: bool) -> Iterator[None]:
    """A bar over the cells, by what papermill writes after each of them."""
    over = threading.Event()

    def watch() -> None:
        cells = len(json.loads(notebook.read_text(encoding="utf-8"))["cells"])
        with tqdm(total=cells, desc=notebook.name, unit="cell") as bar:
            while not over.wait(0.5):
                try:
                    written = json.loads(partial.read_text(encoding="utf-8"))["cells"]
                except (OSError, ValueError, KeyError):
                    continue  # not there yet, or half written
                states = [cell["metadata"].get("papermill", {}).get("status") for cell in written]
                bar.update(min(states.count("completed"), cells) - bar.n)
            bar.update(cells - bar.n)

    thread = threading.Thread(target=watch, daemon=True)
    if enabled:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if enabled:
            thread.join()


def _literal(path: Path) -> str:
    """A path as papermill takes it, which fills in parameters for names in braces."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


def _last_error(text: str) -> str:
    """The exception that a printed traceback ends with, in one line; else the last line."""
    _, traceback, rest = text.rpartition("Traceback (most recent call last):\n")
    lines = rest.strip("\n").splitlines()
    raised = dropwhile(lambda line: line.startswith(" "), lines) if traceback else lines[-1:]
    return " ".join(" ".join(raised).split()) or "no message"


def _encoded(parameters: Mapping[str, Any]) -> str:
    """Parameters as papermill reads them. YAML's own escapes: JSON's of an emoji are not YAML."""
    return base64.b64encode(yaml.safe_dump(dict(parameters)).encode()).decode()


def _made_from(out: Path) -> str | None:
    """What a written notebook says it was made from; None where it does not, or is damaged."""
    try:
        found = json.loads(out.read_text(encoding="utf-8"))["metadata"].get("b2inst", {})
    except (OSError, ValueError, KeyError):
        return None
    return str(found.get("made_from"))


def _keep(partial: Path, out: Path, made_from: str | None) -> bool:
    """Give a notebook that papermill wrote its name, without paths of this machine.

    Those of warnings go, too: results are committed. What papermill did not write whole goes.
    """
    try:
        text = partial.read_text(encoding="utf-8")
        content = json.loads(text.replace(f"{Path(b2inst.__file__).parents[1]}{os.sep}", ""))
        for key in ("input_path", "output_path"):
            content["metadata"].get("papermill", {}).pop(key, None)
        if made_from is not None:
            content["metadata"]["b2inst"] = {"made_from": made_from}
    except (OSError, ValueError):
        partial.unlink(missing_ok=True)
        return False
    out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.unlink()
    return True


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
    # papermill itself only warns of a name that nothing reads.
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


def _error_in(notebook: Path) -> str | None:
    """The error that a written notebook stopped at, in one line."""
    for cell in json.loads(notebook.read_text(encoding="utf-8")).get("cells", []):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                text = " ".join(str(output["evalue"]).split())
                return f"{output['ename']}: {text}"
    return None
