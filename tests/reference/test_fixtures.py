from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference import VerificationError, list_cases, verify
from reference.fixtures import read_case

NAME = "blendmask_small_seed3"


def _error(folder: Path, name: str = NAME) -> str:
    with pytest.raises(VerificationError) as caught:
        verify(folder, name)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_case_is_read_whole(folder: Path) -> None:
    case = read_case(folder, NAME)
    assert case.seed == 3
    assert case.arrays["p4"].shape[:2] == (2, 256)
    assert case.spec["top_layer.bias"] == {"shape": [16], "kind": "bias"}
    assert list_cases(folder) == [NAME]


def test_unknown_folders_and_cases_are_told_with_the_cases_there(copied: Path) -> None:
    assert "no such folder" in _error(copied / "nowhere")
    assert NAME in _error(copied, "blendmask_small_seed4")
    assert NAME in _error(copied, "nonsense")
    (copied / "empty").mkdir()
    assert "holds no case" in _error(copied / "empty")


def test_a_case_of_another_family_is_told_with_those_that_can_be_compared(copied: Path) -> None:
    for file in list(copied.iterdir()):
        (copied / file.name.replace("blendmask", "other")).write_bytes(file.read_bytes())
    assert NAME in _error(copied, "other_small_seed3")


@pytest.mark.parametrize(
    "file",
    [f"{NAME}.npz", f"{NAME}.json", "blendmask_small_spec.json", "blendmask_inputs.npz",
     "blendmask_inputs.json"],
)  # fmt: skip
def test_missing_and_damaged_files_are_named(copied: Path, file: str) -> None:
    whole = (copied / file).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>not found</html>", b"[1]", b"3"):
        (copied / file).write_bytes(content)
        if not (content == b"[1]" and file == "blendmask_inputs.json"):
            assert file in _error(copied)
    (copied / file).unlink()
    assert file in _error(copied)


def test_an_array_alone_or_pickled_objects_are_no_arrays_file(copied: Path) -> None:
    for values in (np.zeros(3), np.array([{}])):
        with (copied / f"{NAME}.npz").open("wb") as file:
            np.save(file, values)
        assert f"{NAME}.npz: damaged" in _error(copied)
    np.savez(copied / f"{NAME}.npz", p4=np.array([{}]))
    assert f"{NAME}.npz: damaged" in _error(copied)


def test_inputs_without_an_array_or_of_another_form_are_told(copied: Path) -> None:
    inputs = read_case(copied, NAME).inputs
    needed = ("orig_bgr_0", "resized_bgr_1", "gt_boxes_0", "gt_classes_1", "gt_masks_packed_0",
              "basis_sem_1")  # fmt: skip
    for name in needed:
        for other in ({}, {name: inputs[name][..., :-1]}):
            rest = {k: v for k, v in inputs.items() if k != name} | other
            np.savez(copied / "blendmask_inputs.npz", **rest)
            assert "blendmask_inputs.npz: image" in _error(copied)
