#!/usr/bin/env bash
# `import torchvision` (0.29.2) imports torch's compiler: torch._dynamo, torch._inductor, sympy and FSDP, of
# which `import torch` (2.15.0) needs nothing. About a thousand modules are loaded besides, as many as by torch, in
# every process: each command, worker and notebook that only wants NMS or RoIAlign. Two lines do it:
# ops/roi_align.py imports is_compile_supported from torch._dynamo, below a comment that says that dynamo is
# not imported eagerly, and tv_tensors decorates a function with torch.compiler.disable. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > show.py <<'PY'
import sys
import time
from pathlib import Path

COMPILER = ("torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "sympy")


def loaded():
    return [name for name in COMPILER if name in sys.modules]


before, start = set(sys.modules), time.process_time()
import torch

by_torch, half, compiler_of_torch = set(sys.modules) - before, time.process_time(), loaded()
import torchvision

by_torchvision = set(sys.modules) - before - by_torch
own = [name for name in by_torchvision if name.startswith("torchvision")]
print(f"torch: {len(by_torch)} modules, {half - start:.1f} s of CPU time; of the compiler: {compiler_of_torch}")
print(
    f"torchvision: {len(by_torchvision)} more, {len(own)} of them its own, "
    f"{time.process_time() - half:.1f} s of CPU time; of the compiler: {loaded()}"
)
root = Path(torchvision.__file__).parent
eager = "from torch._dynamo.utils import is_compile_supported" in (root / "ops/roi_align.py").read_text()
disabled = "@torch.compiler.disable" in (root / "tv_tensors/__init__.py").read_text()
print(f"ops/roi_align.py imports torch._dynamo: {eager}; tv_tensors uses torch.compiler.disable: {disabled}")
same = not compiler_of_torch and loaded() == list(COMPILER) and len(by_torchvision) - len(own) > 900
sys.exit(not (same and eager))
PY
venv/bin/python show.py
