from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from reference.comparison import compare, dense, described, each, exact, within


def test_dense_errors_are_relative_to_the_largest_published_value() -> None:
    found = dense(np.array([1.0, -8.0]), 1e-1)("a", np.array([2.0, -10.0]))
    assert found.error == pytest.approx(0.2)
    assert not found.passed
    assert dense(np.array([1.0, -8.0]), 0.2)("a", np.array([2.0, -10.0])).passed
    assert dense(np.zeros(2), 1e-4)("a", np.zeros(2)).error == 0
    assert dense(np.ones(2), 1e-4)("a", np.zeros(2)).error == math.inf
    assert dense(np.zeros((0, 4)), 1e-4)("a", np.zeros((0, 4))).passed


def test_absolute_errors() -> None:
    assert within(np.array([500.0]), 1e-2, "px")("a", np.array([500.009])).passed
    assert not within(np.array([500.0]), 1e-2, "px")("a", np.array([500.011])).passed


@pytest.mark.parametrize("published", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_passes(published: float) -> None:
    for value in (np.array([1.0, published]), np.array([published, published])):
        assert not dense(np.ones(2), 1e9)("a", value).passed
        assert not within(np.ones(2), 1e9, "")("a", value).passed
        assert not dense(np.array([1.0, published]), 1e9)("a", np.ones(2)).passed


@pytest.mark.parametrize("published", ["x", None, {}, [[1.0]], [1.0, 2.0], np.ones((1, 1))])
def test_values_of_another_form_fail(published: Any) -> None:
    for check in (dense(np.ones(1), 9), within(np.ones(1), 9, ""), exact(np.ones(1))):
        found = check("a", published)
        assert not found.passed
        assert found.note


def test_exact_counts_what_differs() -> None:
    assert exact(np.array([1, 2, 3]))("a", np.array([1, 0, 0], np.int8)).error == 2
    assert exact([2, 3])("a", [2, 3]).passed
    assert not exact([2, 3])("a", [2, 3, 4]).passed
    assert exact("abc")("a", "abc").passed
    assert not exact("abc")("a", "abd").passed
    assert not exact(3)("a", "3").passed
    assert exact({"3": 1})("a", {"3": 1}).passed
    assert not exact({"3": 1})("a", {"3": 2}).passed


def test_each_names_the_worst_and_odd_names() -> None:
    check = each({"a": 1.0, "b": 2.0}, 1e-3)
    assert check("norms", {"a": 1.0, "b": 2.0}).passed
    assert "b" in check("norms", {"a": 1.0001, "b": 2.1}).note
    assert "a" in check("norms", {"a": np.nan, "b": 2.1}).note
    for odd in ({"a": 1.0}, {"a": 1.0, "b": 2.0, "c": 3.0}, 3, None):
        assert not check("norms", odd).passed
    assert "c" in check("norms", {"a": 1.0, "c": 2.0}).note


def test_nothing_is_left_out() -> None:
    checks = {"a": exact(1), "b.x": exact(2), "c[0].y": exact(3), "c[1]": exact(4)}
    good = {"a": 1, "b": {"x": 2}, "c": [{"y": 3}, 4]}
    assert [c.name for c in compare(good, checks)] == ["a", "b.x", "c[0].y", "c[1]"]
    assert all(c.passed for c in compare(good, checks))
    for other, named in (
        ({"b": {"x": 2, "z": 2}}, "b.z"),
        ({"b": {}}, "b.x"),
        ({"c": [{"y": 3}]}, "c[1]"),
        ({"c": [{"y": 3}, 4, 5]}, "c[2]"),
        ({"d": {"e": 1}}, "d"),
        ({"a": {"e": 1}}, "a"),
    ):
        assert named in [c.name for c in compare(good | other, checks) if not c.passed]


def test_descriptions_are_listed_but_not_judged() -> None:
    (found,) = compare({"id": 3}, {"id": described})
    assert found.passed
    assert math.isinf(found.tolerance)
    assert "not compared" in found.note
