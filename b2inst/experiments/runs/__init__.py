"""Doing it: the run store with its provenance, training and evaluation, and launching."""

from __future__ import annotations
