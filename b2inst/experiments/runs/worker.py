"""A run as a process of its own: ``python -m b2inst.experiments.runs.worker SPEC.json --root DIR``.

It can be started by hand, by torchrun or by srun as well; docs/distributed.md has the commands.
With ``--with-parent`` it stops when its standard input closes or its parent is gone, so that it
never outlives the process that started it, however that process ends.
"""

from __future__ import annotations

import _thread
import argparse
import os
import select
import sys
import threading
import time
import warnings
from pathlib import Path

import lightning.fabric  # noqa: F401 - training needs it; here, runs that are forked share it

from b2inst.experiments.runs.processes import STOPPED
from b2inst.experiments.runs.runner import run
from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import parse_spec

#: How long stopping may take, a checkpoint included.
_GRACE_SECONDS = 120.0


def main(arguments: list[str] | None = None) -> int:
    """Work on one run until it is complete; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m b2inst.experiments.runs.worker")
    parser.add_argument("spec", type=Path, help="RunSpec as JSON")
    parser.add_argument("--root", type=Path, required=True, help="workspace (runs/, data/)")
    parser.add_argument("--split", default=None, choices=["train", "val", "test"])
    parser.add_argument("--machine", type=Path, help="Resources as JSON")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin closes")
    given = parser.parse_args(arguments)
    if given.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # the parent has warned once for all runs
    try:
        spec = parse_spec(RunSpec, read_json(given.spec), source=str(given.spec))
        machine = None
        if given.machine is not None:
            machine = parse_spec(Resources, read_json(given.machine), source=str(given.machine))
        run(
            spec,
            Workspace(given.root),
            split=given.split,
            machine=machine,
            progress=False,
        )
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)  # for torchrun's report
        if not type(error).__module__.startswith("b2inst."):
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _end_with_parent() -> None:
    _stop_with_parent()
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)  # it waits in vain, for other processes that are gone


def _stop_with_parent(descriptor: int = 0) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        # os.read, since a thread that waits in sys.stdin keeps its lock and so the interpreter's
        # end.
        ready, _, _ = select.select([descriptor], [], [], 1.0)
        if ready and not os.read(descriptor, 4096):
            break
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main())
