from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_START = """
import os, signal
from multiprocessing import forkserver
from pathlib import Path
from b2inst.experiments.runs.children import start_fork_server
from b2inst.experiments.specs.resources import Resources

start_fork_server(Resources())
server = forkserver._forkserver._forkserver_pid
status = Path(f"/proc/{server}/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")))
os.kill(server, signal.SIGKILL)  # instead of waiting for its imports
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")
def test_ctrl_c_does_not_reach_the_server_while_it_imports() -> None:
    blocked = subprocess.run(
        [sys.executable, "-c", _START], capture_output=True, text=True, check=True
    ).stdout
    assert int(blocked, 16) >> 1 & 1  # signal 2, SIGINT
