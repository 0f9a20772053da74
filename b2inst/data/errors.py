"""The error of everything that reads or writes data."""

from __future__ import annotations

from b2inst.data.wording import DataError as DataError
