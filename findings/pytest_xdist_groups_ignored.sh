#!/usr/bin/env bash
# With pytest 9.2.0, pytest-xdist 3.8.0 (the newest of both) ignores the marks xdist_group: 20 tests of one
# group, which `--dist loadgroup` promises to run in one process, run in two. pytest-xdist writes the group to
# an item's private _nodeid, which pytest 9.2 no longer reads. With pytest 9.1.1 the promise holds. Tests that
# share a port, a GPU or a folder then run at the same time; nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test_group.py <<'PY'
import os
from pathlib import Path

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(20))
def test_process(number):
    name = os.environ["PYTEST_XDIST_WORKER"]
    Path(os.environ["SEEN"], name).touch()
PY
for version in 9.1.1 9.2.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install -q --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
    mkdir "seen-$version"
    SEEN="$folder/seen-$version" "venv-$version/bin/pytest" -q -n 2 --dist loadgroup test_group.py
    echo "pytest $version: processes of the group: $(ls "seen-$version" | xargs)"
done
[ "$(ls seen-9.1.1 | wc -l)" = 1 ] && [ "$(ls seen-9.2.0 | wc -l)" = 2 ]
