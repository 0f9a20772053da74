"""What is asked: the specs of runs, profiles and tables, read without PyTorch."""

from __future__ import annotations
