"""Ids of git objects: they tell the content of an archive, whatever the bytes of the archive."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def blob_id(content: bytes) -> bytes:
    """The id of a file's content, 20 bytes."""
    return _object_id(b"blob", content)


def tree_id(files: Mapping[str, tuple[bool, bytes]]) -> str:
    """The id of a folder, as ``git write-tree`` prints it.

    Args:
        files: for each path, with ``/`` between its parts, whether the file is executable, and
            its ``blob_id``. Links and submodules are not supported.

    Returns:
        40 hexadecimal digits.
    """
    root: dict[str, Any] = {}
    for path, file in files.items():
        *parents, name = path.split("/")
        folder = root
        for parent in parents:
            folder = folder.setdefault(parent, {})
        folder[name] = file
    return _tree_id(root).hex()


def _tree_id(folder: Mapping[str, Any]) -> bytes:
    rows = []
    for name, entry in folder.items():
        key = name.encode()
        if isinstance(entry, dict):  # git sorts the name of a folder as if it ended with a slash
            rows.append((key + b"/", b"40000 " + key + b"\0" + _tree_id(entry)))
        else:
            executable, digest = entry
            mode = b"100755 " if executable else b"100644 "
            rows.append((key, mode + key + b"\0" + digest))
    return _object_id(b"tree", b"".join(row for _, row in sorted(rows)))


def _object_id(kind: bytes, content: bytes) -> bytes:
    header = kind + b" %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).digest()
