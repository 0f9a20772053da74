"""What came out: tables of results, and the files that show them."""

from __future__ import annotations
