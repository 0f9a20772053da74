"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("b2inst")
except PackageNotFoundError:  # a copy of the sources on the search path
    __version__ = "unknown"
