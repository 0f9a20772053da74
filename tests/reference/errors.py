"""The one error of the verification package."""

from __future__ import annotations


class VerificationError(ValueError):
    """Reference fixtures that cannot be compared with; says which file, and what to do."""
