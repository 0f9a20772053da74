from __future__ import annotations

import importlib
import sys

import pytest


def test_without_detectron2_the_error_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)  # what cannot be imported
    for name in [n for n in sys.modules if n.startswith("b2inst.integrations.detectron2")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"conda-forge.*github\.com/facebookresearch/detectron2"):
        importlib.import_module("b2inst.integrations.detectron2")
