from __future__ import annotations

from b2inst.weights.names import grouped, translate


def test_numbers_in_names() -> None:
    table = (
        ("res{n}.{i}.conv", "layer{n-1}.{i}.c"),
        ("tower.3", "project"),
        ("tower.{i}", "convs.{i}"),
    )
    names = ["res4.12.conv.weight", "tower.3.bias", "tower.11.bias", "res4.1.conv2.weight", "res4"]
    assert translate(names, table) == {
        "res4.12.conv.weight": "layer3.12.c.weight",
        "tower.3.bias": "project.bias",
        "tower.11.bias": "convs.11.bias",
    }


def test_a_dot_is_a_dot() -> None:
    assert translate(["axb.weight", "a.b.weight"], (("a.b", "c"),)) == {"a.b.weight": "c.weight"}


def test_names_of_a_module_are_listed_together() -> None:
    assert grouped(["a.b.weight", "c.bias", "a.b.bias", "d"]) == "a.b.{weight, bias}, c.bias, d"
