"""Running a notebook as a program, with papermill."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import b2inst
from b2inst.experiments import RunError, SpecError
from b2inst.experiments.runs.children import child_environment, environment


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
    """Execute a notebook with parameters; write it with its outputs, and as HTML beside it.

    Args:
        notebook: The ``.ipynb`` to execute.
        out: The ``.ipynb`` to write.
        parameters: Values for names that the cell tagged ``parameters`` assigns.
        folder: Working folder of the kernel.
        inputs: What the outputs depend on besides; if ``out`` was made from the same notebook,
            parameters and inputs, nothing is executed (default: it always is).
        time_limit: Seconds that a cell may take.
        progress: Show a bar over the cells.

    Returns:
        The notebook and the HTML file.

    Raises:
        SpecError: There is no such notebook, or it has no parameter of a given name.
        RunError: A cell failed, or took too long; the notebook is written as far as it came.
    """
    if not notebook.is_file():
        raise SpecError(f"{notebook}: no such notebook")
    source, known = notebook.read_text(encoding="utf-8"), []
    for cell in json.loads(source)["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            known += re.findall(r"^(\w+) *=", "".join(cell["source"]), flags=re.MULTILINE)
    if unknown := [name for name in parameters if name not in known]:
        raise SpecError(
            f"{notebook}: no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )
    made_from = sha256(repr((source, sorted(parameters.items()), inputs)).encode()).hexdigest()
    page = out.with_suffix(".html")
    unchanged = out.is_file() and made_from in out.read_text(encoding="utf-8")
    if inputs is not None and unchanged and page.is_file():
        return out, page
    import papermill

    with TemporaryDirectory() as scratch, environment(child_environment()):
        written = Path(scratch) / "out.ipynb"
        try:
            papermill.execute_notebook(
                str(notebook.resolve()).replace("{", "{{").replace("}", "}}"),  # no parameters
                written,
                dict(parameters),
                kernel_name="python3",
                language="python",
                cwd=folder.resolve(),
                start_timeout=600,
                execution_timeout=time_limit,
                extra_arguments=["--log-level=50"],  # of the kernel, on this terminal
                progress_bar={"desc": notebook.name} if progress else False,
            )
        except Exception as failed:  # of a cell, or of the kernel: it has died or is too slow
            shown = f"; see {out}" if written.is_file() else ""
            _keep(written, out, {})
            kind = getattr(failed, "ename", type(failed).__name__)
            text = " ".join(str(getattr(failed, "evalue", failed)).split())
            raise RunError(f"{notebook}: {kind}: {text}{shown}") from None
        _keep(written, out, {"b2inst": {"made_from": made_from}})
    return out, to_html(out)


def _keep(written: Path, out: Path, metadata: dict[str, Any]) -> None:
    """Write what papermill wrote to ``out``, without paths of this machine."""
    if not written.is_file():
        return
    text = written.read_text(encoding="utf-8")
    content = json.loads(text.replace(f"{Path(b2inst.__file__).parents[1]}{os.sep}", ""))
    content["metadata"] |= metadata
    for key in ("input_path", "output_path"):
        content["metadata"]["papermill"].pop(key, None)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 2em auto; max-width: 72em; padding: 0 1em; font: 15px/1.5 system-ui, sans-serif; }}
pre {{ margin: 0.5em 0; padding: 0.6em; overflow-x: auto; font-size: 13px; }}
.input_area pre {{ background: #f5f5f5; border-radius: 4px; }}
.output_stderr pre {{ background: #fdecea; }}
.anchor-link, .prompt {{ display: none; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ padding: 0.25em 0.7em; border-bottom: 1px solid #ddd; text-align: right; }}
img {{ max-width: 100%; }}
</style>
{body}
</html>
"""


def to_html(notebook: Path) -> Path:
    """Write an executed notebook as one HTML file beside it, which needs no network."""
    from nbconvert import HTMLExporter

    # The full templates bring 280 KB of style sheets into every page.
    body, _ = HTMLExporter(template_name="basic").from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(_PAGE.format(title=notebook.stem, body=body), encoding="utf-8")
    return page
