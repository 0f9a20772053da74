from __future__ import annotations

import io
import os
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.weights import WeightsError
from b2inst.weights.pickles import read_checkpoint

ARRAYS = {
    "conv1_w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "other byte order": np.arange(3, dtype=">f4"),
    "count": np.int64([7]),
}


def assert_same(tensors: dict[str, torch.Tensor]) -> None:
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(tensors[name].numpy(), array)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("wrap", [dict, lambda a: {"model": a, "__author__": "x"}, OrderedDict])
def test_pickled_arrays(tmp_path: Path, protocol: int, wrap: Callable[..., Any]) -> None:
    for name in ("R-50.pkl", "R-50.PKL"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(wrap(ARRAYS), protocol))
        assert_same(read_checkpoint(path))


def test_arrays_that_python_2_pickled(tmp_path: Path) -> None:
    """Byte strings, and NumPy's modules by their old names; written out by hand."""
    values = np.array([1.5, -2.0], "<f4")
    content = (
        b"\x80\x02}U\x05blobs}U\x07conv1_w"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + values.tobytes()
        + b"tbss."
    )
    path = tmp_path / "R-50.pkl"
    path.write_bytes(content)
    (tensor,) = read_checkpoint(path).values()
    assert tensor.tolist() == values.tolist()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("bare", [True, False])
def test_what_torch_saved(tmp_path: Path, new: bool, bare: bool) -> None:
    """With what trainers save beside the weights."""
    model = OrderedDict((k, torch.from_numpy(v.astype(v.dtype.str[1:]))) for k, v in ARRAYS.items())
    beside = {
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{}]},
        "scheduler": {"milestones": Counter([60000]), "base_lrs": [np.float64(0.01)]},
        "iteration": np.int64(89999),
    }
    path = tmp_path / "model_final.pth"
    content = model if bare else {"model": model, **beside}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    assert_same(read_checkpoint(path))


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "_orig_mod.module.", ""])
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_what_training_tools_put_around_the_weights(
    prefix: str, key: str | None, tmp_path: Path
) -> None:
    """DataParallel, Lightning and torch.compile rename; an optimiser's state lies beside."""
    weights = {f"{prefix}{name}": torch.ones(2) for name in ("head.weight", "model_part.bias")}
    content = weights if key is None else {key: weights, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "x.pth")
    assert list(read_checkpoint(tmp_path / "x.pth")) == ["head.weight", "model_part.bias"]


@pytest.mark.parametrize("name", ["a.pkl", "zip.pth", "legacy.pth"])
def test_hidden_code_is_named_and_not_run(tmp_path: Path, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "ran"
    content = {"model": {"weight": Malicious(mark)}}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=name == "zip.pth")
    with pytest.raises(WeightsError, match=rf"{name}: asks for (posix|nt)\.system") as caught:
        read_checkpoint(path)
    assert not mark.exists()
    assert "weights_only" not in str(caught.value)
    pickle.loads(pickle.dumps(content, 2))  # it is a real attack
    assert mark.exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cnumpy\nndarray\n(K\x05tR.",  # memory of its own choice
        b"cnumpy\nfromfile\n.",
        b"cbuiltins\neval\n.",
        b"cbuiltins\ngetattr\n.",
        b"ctorch\nload\n.",
        b"ccollections\nOrderedDict\n(tR(X\x01\x00\x00\x00ac_codecs\nopen\ntu.",
        b"cnumpy\ndtype\n(U\x02O8I00\nI01\ntR.",
        b"\x80\x02\x82\x01.",  # the extension registry
        b"\x80\x02U\x01ap0\nQ.",  # a persistent id
    ],
)
def test_nothing_but_arrays_of_numbers(tmp_path: Path, call: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(call)
    with pytest.raises(WeightsError, match=r"a\.pkl: (asks for|not a readable)"):
        read_checkpoint(path)


def saved(content: object, kind: str) -> bytes:
    if kind == ".pkl":
        return pickle.dumps(content)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize("kind", [".pkl", ".pth"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable checkpoint"),
        (b"<!DOCTYPE html>\n<p>Not found", "an HTML page, not weights; download the file itself"),
        (b"\r\n <html>", "an HTML page, not weights; download the file itself"),
        (b"PK\x03\x04", "not a readable checkpoint"),
        ([1, 2], "holds a list in place of tensors by name"),
        ({}, "holds a dict in place of tensors by name"),
        ({"model": {"a": 1.0}}, "'a' is a float in place of a tensor"),
        ({"model": {"a": None}}, "'a' is a NoneType in place of a tensor"),
        ({"a": {"b": 1}}, "'a' is a dict in place of a tensor"),
    ],
)
def test_files_that_are_no_checkpoints(
    tmp_path: Path, kind: str, content: object, message: str
) -> None:
    path = tmp_path / f"model{kind}"
    path.write_bytes(content if isinstance(content, bytes) else saved(content, kind))
    with pytest.raises(WeightsError, match=rf"model\{kind}: {message}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth: no such weights file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="is a folder; name a checkpoint in it"):
        read_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_sparse_tensors_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.eye(3).to_sparse()}, path)
    with pytest.raises(WeightsError, match="'a' is a Tensor in place of a tensor of numbers"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", [".pkl", ".pth"])
@given(data=st.data())
def test_a_file_cut_short_or_changed_is_told_in_a_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    values: dict[str, Any] = {"a": np.arange(4, dtype=np.float32)}
    if kind == ".pth":
        values = {"a": torch.arange(4.0)}
    whole = saved({"model": values}, kind)
    end = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole[:end] if data.draw(st.booleans()) else whole)
    for place in data.draw(st.lists(st.integers(0, max(len(changed) - 1, 0)), max_size=3)):
        changed[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    path = tmp_path_factory.mktemp("cut") / f"a{kind}"
    path.write_bytes(changed)
    tensors, message = {}, f"{path}: "
    try:
        tensors = read_checkpoint(path)
    except WeightsError as error:
        message = str(error)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not tensors or len(changed) == len(whole)


def test_what_a_pickle_says_of_memory_is_not_believed(tmp_path: Path) -> None:
    """Flags by which numpy would take the numbers for pointers, and may crash."""
    whole = pickle.dumps({"a": np.arange(4, dtype=np.float32)}, 4)
    flags = b"K\x00t\x94b"
    assert whole.count(flags) == 1
    path = tmp_path / "a.pkl"
    path.write_bytes(whole.replace(flags, b"K\x3ft\x94b"))
    assert read_checkpoint(path)["a"].tolist() == [0, 1, 2, 3]


def test_a_name_of_several_lines_is_told_in_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04\x8c\x03o\ns\x8c\x06system\x93.")
    with pytest.raises(WeightsError, match=r"asks for o\\ns\.system, which") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + (10**13).to_bytes(8, "little") + b"x.",  # bytes of that length
        b"\x80\x02}r\xf0\xff\xff\x7f.",  # a place in the memo
    ],
)
def test_lengths_that_are_only_claimed_cost_no_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pkl: "):
        read_checkpoint(path)
