from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from b2inst.cli import app
from b2inst.models import create_model
from b2inst.weights import WeightsError, load_model, save_model
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.convert import convert
from b2inst.weights.files import model_card
from b2inst.weights.published import COCO_CATEGORY_IDS, COCO_CLASS_NAMES


@pytest.fixture(scope="module")
def published(
    checkpoint: Callable[..., dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Tensor]]:
    """A file as AdelaiDet's training leaves it, and the weights in it."""
    tensors = checkpoint(attention=7)
    tensors["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    path = tmp_path_factory.mktemp("published") / "R_50_1x.pth"
    torch.save({"model": tensors, "optimizer": {"state": {}}, "iteration": 89999}, path)
    return path, tensors


def test_there_and_back(published: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    """Converted, loaded and saved again the weights are bit for bit the published ones."""
    source, tensors = published
    out = tmp_path / "blendmask.safetensors"
    call = CliRunner().invoke(app, ["convert", str(source), str(out), "--from", "adelaidet"])
    assert call.exit_code == 0, call.output
    count = len(tensors) - 1
    assert f"{source}: {count + 1} tensors\n  renamed: {count}\n" in call.stdout
    assert "not needed: 1 (pixel_mean)" in call.stdout
    assert f"{out}: blendmask-r50, classes: 80 (COCO's), num_bases 4" in call.stdout

    model = load_model(out)
    assert model.class_names == COCO_CLASS_NAMES
    assert model_card(out)["category_ids"] == list(COCO_CATEGORY_IDS)
    own = model.state_dict()
    assert len(own) == count
    assert all(
        own[ours].equal(tensors[theirs]) for theirs, ours in ADELAIDET.own_names(tensors).items()
    )
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    model.preprocessor.shorter = 64
    result = model.predict([picture])[0]
    assert len(result.scores) > 0
    assert result.masks.shape[1:] == (64, 96)


@pytest.mark.parametrize(
    "spoil", [Tensor.int, lambda t: t.to(torch.complex64), lambda t: t / 0, lambda t: t > 0]
)
def test_only_finite_floats_are_weights(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path, spoil: Callable[[Tensor], Tensor]
) -> None:
    name = "basis_module.seg_head.6.weight"
    torch.save(published[1] | {name: spoil(published[1][name])}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"{name} has values that are no finite floats"):
        convert(tmp_path / "a.pth", tmp_path / "a.safetensors", publisher="adelaidet")
    assert not (tmp_path / "a.safetensors").exists()


def test_categories_of_another_data_set_are_counted(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    tensors = dict(published[1])
    for name in ("proposal_generator.fcos_head.cls_logits", "basis_module.seg_head.6"):
        for last in (".weight", ".bias"):
            tensors[name + last] = tensors[name + last][: 4 if "seg_head" in name else 3]
    source, out = tmp_path / "own.pth", tmp_path / "own.safetensors"
    torch.save(tensors, source)
    assert "classes: 3 (--names gives them names)" in str(
        convert(source, out, publisher="adelaidet")
    )
    assert model_card(out)["category_ids"] == [1, 2, 3]
    assert model_card(out)["class_names"] is None


def test_a_refused_checkpoint_leaves_no_file(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    (tmp_path / "cut.pth").write_bytes(published[0].read_bytes()[:100_000])
    torch.save({"model": {"weight": torch.ones(3)}}, tmp_path / "other.pth")
    for name in ("cut.pth", "other.pth", "none.pth"):
        source = str(tmp_path / name)
        result = CliRunner().invoke(app, ["convert", source, str(out), "--from", "adelaidet"])
        assert result.exit_code == 1
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(f"error: {source}: ")
    assert not out.exists()


def test_only_known_publishers(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["convert", "a.pth", "b.safetensors", "--from", "caffe"])
    assert result.exit_code == 2
    assert "adelaidet" in result.stderr


def test_classes_can_be_named(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, out = published[0], tmp_path / "own.safetensors"
    names = [f"part {i}" for i in range(80)]
    Path("names.txt").write_text("\ufeff" + "\r\n".join(names) + "\n\n", "utf-8")
    for given in (",".join(names), "names.txt"):
        call = CliRunner().invoke(
            app,
            [
                "convert",
                str(source),
                str(out),
                "--from",
                "adelaidet",
                "--names",
                given,
                "--overwrite",
            ],
        )
        assert call.exit_code == 0, call.output
        assert load_model(out).class_names == tuple(names)
        assert model_card(out)["category_ids"] == list(range(1, 81))
    with pytest.raises(WeightsError, match="has 80 classes, but 2 names given"):
        convert(source, out, publisher="adelaidet", names=["a", "b"], overwrite=True)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_class_names_in_another_encoding_are_refused(tmp_path: Path, encoding: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Gerät\nStern\n", encoding)
    call = ["convert", "a.pth", str(tmp_path / "b.safetensors"), "--from", "yolact", "--names"]
    result = CliRunner().invoke(app, [*call, str(names)])
    assert result.exit_code == 2, result.output
    assert "not UTF-8 text; save it as UTF-8" in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["b2inst-yolact-tiny", "pointrend-tiny"])
def test_a_model_of_ours_needs_no_conversion(tmp_path: Path, name: str) -> None:
    model, out = create_model(name, num_classes=2), tmp_path / "out.safetensors"
    save_model(model, tmp_path / "m.safetensors")
    torch.save(model.state_dict(), tmp_path / "m.pth")
    for source in ("m.safetensors", "m.pth"):
        with pytest.raises(WeightsError, match=f"{source}: is a model of b2inst already; use it"):
            convert(tmp_path / source, out, publisher="yolact")
    assert not out.exists()


def test_nothing_is_replaced_unless_asked_for(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    out = tmp_path / "there.safetensors"
    out.write_text("mine")
    with pytest.raises(WeightsError, match=r"already exists; .* --overwrite"):
        convert(published[0], out, publisher="adelaidet")
    assert out.read_text() == "mine"


def test_a_checkpoint_is_not_replaced_by_what_is_made_of_it(tmp_path: Path) -> None:
    source = tmp_path / "a.pth"
    source.write_bytes(b"")
    with pytest.raises(WeightsError, match="would replace the checkpoint"):
        convert(source, source, publisher="adelaidet", overwrite=True)
