from __future__ import annotations

import json
import runpy
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import VerificationError
from reference.reference_weights import checksum, make_weights


def _one(entry: dict[str, Any], seed: int = 0, name: str = "a.b") -> np.ndarray:
    return make_weights({name: entry}, seed, Path("spec.json"))[name]


def test_each_kind_as_the_fixtures_describe_it() -> None:
    for seed in (0, 5):
        random = np.random.default_rng(zlib.crc32(b"a.b") + seed)
        noise = random.standard_normal((6, 4, 3, 3))
        conv = _one({"shape": [6, 4, 3, 3], "kind": "conv", "gain": 0.5}, seed)
        np.testing.assert_array_equal(conv, (noise * np.sqrt(2 / 36) * 0.5).astype(np.float32))
    uniform = np.random.default_rng(zlib.crc32(b"a.b")).uniform(0.5, 2, 9).astype(np.float32)
    assert _one({"shape": [9], "kind": "running_var", "high": 2}).tolist() == uniform.tolist()
    for kind, mean, std in (
        ("bias", 3.0, 0.5),
        ("norm_weight", 3.0, 1.5),
        ("norm_bias", 0.0, 0.5),
        ("running_mean", 0.0, 0.5),
    ):
        values = _one({"shape": [4000], "kind": kind, "mean": mean, "std": 0.5})
        assert values.mean() == pytest.approx(mean, abs=0.1)
        assert values.std() == pytest.approx(std, rel=0.1)
    assert _one({"shape": [], "kind": "zeros_i64"}).dtype == np.int64


def test_centred_convolutions_have_no_mean_and_first_entries_are_shifted() -> None:
    centred = _one({"shape": [5, 7, 3, 3], "kind": "conv", "center": True})
    assert np.abs(centred.mean((1, 2, 3))).max() < 1e-7
    plain = _one({"shape": [9], "kind": "bias"})
    shifted = _one({"shape": [9], "kind": "bias", "add_first": 2, "period": 3})
    np.testing.assert_allclose(shifted - plain, [2, 0, 0] * 3, atol=1e-6)


@pytest.mark.parametrize(
    "entry",
    [{}, 3, {"shape": [2], "kind": "new"}, {"shape": "x", "kind": "bias"}, {"kind": "bias"},
     {"shape": [-2], "kind": "bias"}, {"shape": [2], "kind": "bias", "std": "x"},
     {"shape": [2], "kind": "bias", "add_first": 1}],
)  # fmt: skip
def test_what_is_no_tensor_is_named(entry: Any) -> None:
    with pytest.raises(VerificationError, match=r"spec\.json: tensor 'a\.b'"):
        _one(entry)


def test_equal_to_the_fixtures_own_maker(reference: Path) -> None:
    make = runpy.run_path(str(reference / "make_weights.py"))
    specs = sorted(reference.glob("*_spec.json"))
    assert specs
    for path in specs:
        spec = json.loads(path.read_text())
        small = {n: e for n, e in spec.items() if np.prod(e["shape"]) < 20_000}
        ours, theirs = make_weights(small, 7, path), make["make_state_dict"](small, 7)
        assert ours.keys() == theirs.keys()
        assert all(
            ours[n].dtype == theirs[n].dtype and np.array_equal(ours[n], theirs[n]) for n in ours
        )
        assert checksum(ours) == make["checksum"](theirs)
