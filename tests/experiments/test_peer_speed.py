"""The script that times the peers beside ours, on stand-ins of them; with checkouts, on them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import typer

import b2inst
from b2inst import models
from b2inst.weights import save_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def speed(load_script: Callable[[str], ModuleType]) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments/peers")
        return load_script("peers/speed")


@pytest.fixture(scope="module")
def peers(speed: ModuleType) -> ModuleType:
    return sys.modules["speed_peers"]


@pytest.fixture(scope="module")
def tiny() -> models.Segmenter:
    """A model that finds something in any image."""
    torch.manual_seed(0)
    model = models.create_model("maskrcnn-tiny", num_classes=3).eval()
    model.detector.score_threshold = 0.0
    torch.nn.init.normal_(model.detector.roi_heads.box_predictor.bbox_pred.weight, std=0.1)
    return model


def test_contenders_take_turns_on_every_input(speed: ModuleType) -> None:
    time, calls = [0.0], []

    def contender(name: str, cost: float) -> Any:
        def work(given: int) -> str:
            calls.append((name, given))
            time[0] += cost * given
            return f"{name}{given}"

        compared = (lambda given: f"other{given}") if name == "b" else None
        return speed.Contender(name, work, str.upper, compared=compared)

    both = [contender("a", 2.0), contender("b", 3.0)]
    seconds, found = speed.interleave(both, [1, 10], rounds=2, clock=lambda: time[0])
    assert seconds == {"a": [2, 20, 2, 20], "b": [3, 30, 3, 30]}
    assert found == {"a": ["A1", "A10"], "b": ["OTHER1", "OTHER10"]}
    assert calls[:2] == [("a", 1), ("b", 1)]  # to warm up
    timed = [name for name, _ in calls[2:]]
    assert timed == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_the_ratio_is_of_pairs_with_an_interval_by_ranks(speed: ModuleType) -> None:
    """Of six pairs the least and the largest ratio bound their median with 1 - 2/2⁶ = 97 %."""
    ours = [1.0, 5.0, 2.0, 4.0, 3.0, 1.0]
    ratios = [1.5, 3.0, 2.0, 1.2, 1.8, 2.2]
    found = speed.ratio([r * o for r, o in zip(ratios, ours, strict=True)], ours)
    assert found == {"ratio": 1.9, "ratio_ci95": [1.2, 3.0]}
    assert speed.ratio([2.0, 3.0], [1.0, 1.0]) == {"ratio": 2.5, "ratio_ci95": None}


def test_masks_agree_by_iou_within_their_class(speed: ModuleType) -> None:
    masks = torch.zeros(4, 4, 8, dtype=torch.bool)
    masks[0, :, :4] = masks[1, :, :2] = masks[2, :, 6:] = True  # the last one is empty
    theirs = torch.tensor([0, 1]), masks[[0, 2]]
    assert speed.agreement(theirs, theirs) == 1
    half = torch.tensor([0, 1, 0]), masks[[1, 2, 3]]
    assert speed.agreement(theirs, half) == pytest.approx((0.5 + 1 + 0.5 + 1) / 4)
    other = torch.tensor([1, 1]), masks[[0, 2]]
    assert speed.agreement(theirs, other) == pytest.approx((0 + 1 + 0 + 1) / 4)
    nothing = torch.zeros(0, dtype=torch.long), masks[:0]
    assert speed.agreement(nothing, (torch.tensor([0]), masks[[3]])) == 1
    assert speed.agreement(theirs, nothing) == 0
    assert speed.difference({"a": 2.0, "b": 4.0}, {"a": 2.2, "b": 4.0, "c": 9.0}) == pytest.approx(
        0.1
    )


def test_ours_are_loaded_as_users_load_them(
    speed: ModuleType, tiny: models.Segmenter, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(tiny, path)
    left_out: dict[str, str] = {}
    found = speed.our_predictors(path, speed.Options(), left_out, least=0.5)
    ours = {contender.name: contender for contender in found}
    kinds = {"float32", "bfloat16"}
    exported = {f"{runtime}, {kind}" for runtime in ("onnx", "openvino") for kind in kinds}
    assert ours.keys() | left_out.keys() == kinds | exported
    assert ours["float32"].least == 0.5
    image = np.random.default_rng(0).integers(256, size=(96, 128, 3), dtype=np.uint8)
    labels, masks = ours["float32"].read(ours["float32"].work(image))
    (expected,) = b2inst.load_model(path).predict([image])
    assert len(masks) > 0
    assert torch.equal(labels, expected.labels)
    assert torch.equal(masks, expected.masks)


def test_a_row_has_ratios_and_refuses_other_masks(
    speed: ModuleType, tiny: models.Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peer(shift: int) -> Any:
        def read(found: Any) -> Any:
            return found.labels, found.masks.roll(shift, dims=2)

        return speed.Contender("peer", lambda image: tiny.predict([image])[0], read)

    options = speed.Options(rounds=2, images=1)
    monkeypatch.setattr(speed, "_export", lambda *_: (_ for _ in ()).throw(ImportError("no extra")))
    row = json.loads(json.dumps(speed.predictions(peer(0), tiny, options)))
    ours = row["ours"]["float32"]
    assert row["pairs"] == 2
    assert ours["agreement"] == pytest.approx(1, abs=0.005)
    assert ours["detections"] == row["peer_detections"] > 0
    assert row["left_out"]["onnx, float32"] == "no extra"
    peers, own = (row["measured"][name] for name in ("peer", "float32"))
    assert ours["ratio"] == pytest.approx(np.median(np.divide(peers, own)), rel=0.02)
    with pytest.raises(RuntimeError, match="float32: masks agree with peer's to only 0"):
        speed.predictions(peer(30), tiny, options)
    nothing = torch.zeros(0, dtype=torch.long), torch.zeros(0, 427, 640, dtype=torch.bool)
    idle = speed.Contender("peer", lambda _: nothing)
    with pytest.raises(RuntimeError, match="peer finds nothing in these images"):
        speed.predictions(idle, tiny, options)


def test_torchvisions_weights_are_all_ours(speed: ModuleType, peers: ModuleType) -> None:
    peer = peers.TorchvisionMaskRCNN()
    peer.model.transform.min_size = (128,)
    model = models.create_model("maskrcnn-r50", num_classes=80, frozen_norm=True, shorter=128)
    model.load_state_dict(peer.own_weights())
    image = np.random.default_rng(0).integers(256, size=(128, 128, 3), dtype=np.uint8)
    (own,) = model.eval().predict([image])
    as_shipped, aligned = (p.read(p.predict(image)) for p in (peer, peer.aligned()))
    assert len(as_shipped[0]) == len(aligned[0]) == 100
    assert speed.agreement(aligned, (own.labels, own.masks)) > 0.9
    assert speed.agreement(as_shipped, (own.labels, own.masks)) < 0.9


def test_what_is_stood_in_for_is_not_called(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "json", json)
    peers.stand_in("json", "no_such_module")
    assert sys.modules["json"] is json
    from no_such_module import function

    monkeypatch.delitem(sys.modules, "no_such_module")
    with pytest.raises(RuntimeError, match=r"no_such_module\.function is only stood in for"):
        function(1)


def test_weights_of_another_model_are_refused(peers: ModuleType) -> None:
    model = torch.nn.Linear(2, 1)
    peers.load(model, model.state_dict())
    with pytest.raises(typer.BadParameter, match=r"\['bias'\] missing, \['other'\] unknown"):
        peers.load(model, {"weight": torch.zeros(1, 2), "other": torch.zeros(1)})


def test_yolact_is_called_as_its_program_does(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout of the same shape, whose network gives the first pixel's channels back."""
    for path, text in {
        "data/config.py": "from types import SimpleNamespace\ncfg = SimpleNamespace(name='')\n"
        "def set_cfg(name): cfg.name = name\n",
        "yolact.py": "import torch\nfrom types import SimpleNamespace\n"
        "from data.config import cfg\n"
        "torch.cuda.current_device()\n"
        "class Yolact(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(1, 1)\n"
        "        assert cfg.name == 'yolact_resnet50_config'\n"
        "        self.detect = SimpleNamespace(use_fast_nms=False)\n"
        "    def train(self, mode=True): super().train(mode)\n"
        "    def forward(self, frames):\n"
        "        assert self.detect.use_fast_nms and not self.training\n"
        "        return frames[0, 0, 0]\n",
        "utils/augmentations.py": "import torch\nclass FastBaseTransform(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.mean = torch.ones(1).cuda()\n"
        "    def forward(self, frames): return frames - self.mean\n",
        "layers/output_utils.py": "import torch\ndef postprocess(found, w, h):\n"
        "    return found.long(), None, None, torch.ones(len(found), h, w)\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("data", "data.config", "yolact", "utils", "utils.augmentations", "layers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        del sys.modules[name]
    weights = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    peer = peers.Yolact(tmp_path, weights=weights)
    image = np.full((6, 8, 3), (11, 21, 31), np.uint8)
    labels, masks = peer.read(peer.predict(image))
    assert labels.tolist() == [30, 20, 10]  # BGR, less the mean
    assert masks.dtype == torch.bool
    assert masks.shape == (3, 6, 8)
    with pytest.raises(typer.BadParameter, match=r"no checkout of yolact; there is no yolact\.py"):
        peers.Yolact(tmp_path / "data", weights=weights)


def test_training_images_have_objects_in_tight_boxes(speed: ModuleType) -> None:
    images, targets = speed.batch(160, 208, count=3)
    assert [image.shape for image in images] == [(3, 160, 208)] * 3
    for target in targets:
        assert len(target) > 0
        assert target.masks.shape[1:] == (160, 208)
        for box, mask, label in zip(target.boxes, target.masks, target.labels, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert box.tolist() == list(ends)
            assert (target.semantic[mask.bool()] == label + 1).all()
        assert torch.equal(target.semantic > 0, target.masks.bool().any(0))


def test_commands_of_two_checkouts(
    speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in {
        "now": "print('fine')",
        "before": "print('so'); raise SystemExit(2)",
    }.items():
        package = tmp_path / name / "b2inst"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "cli.py").write_text(f"def app(): {body}\n")
    monkeypatch.setattr(speed, "_here", lambda: tmp_path / "now")
    for before in ("now", "before"):
        options = speed.Options(before=tmp_path / before, rounds=2)
        if before == "now":
            row = speed.start_up(options, arguments=["--help"], cached=False)
            assert row["measured"].keys() == {"b2inst before", "b2inst now"}
            assert row["pairs"] == 2
            assert not list((tmp_path / "now").rglob("*.pyc"))
        else:
            with pytest.raises(RuntimeError, match="before: b2inst --help: so"):
                speed.start_up(options, arguments=["--help"], cached=False)


def test_a_table_is_made_in_a_new_place_by_each_checkout(
    speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins that write down where they were run, and with what."""
    monkeypatch.setattr(speed, "_here", lambda: tmp_path / "now")
    for name in ("now", "before"):
        for folder in ("b2inst", "experiments", "notebooks"):
            (tmp_path / name / folder).mkdir(parents=True)
        (tmp_path / name / "experiments/table1.yaml").touch()
        (tmp_path / name / "b2inst/__init__.py").touch()
        (tmp_path / name / "b2inst/cli.py").write_text(
            "import sys\nfrom pathlib import Path\n"
            "def app():\n"
            "    there = sorted(str(path) for path in Path().rglob('*'))\n"
            "    Path(__file__).with_name('told').write_text(repr((sys.argv[1:], there)))\n"
        )
    row = speed.table1(speed.Options(before=tmp_path / "before", profile="smoke"))
    assert row["measured"].keys() == {"b2inst before", "b2inst now"}
    assert row["profile"] == "smoke"
    told = ["table", "table1", "--profile", "smoke", "--seeds", "0"]
    there = ["experiments", "experiments/table1.yaml", "notebooks"]
    for name in ("now", "before"):
        assert (tmp_path / name / "b2inst/told").read_text() == repr((told, there))


def test_only_rows_whose_peer_is_given_are_measured_anew(
    speed: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/benchmark.md"
    page.write_text(f"# Speed\n{speed.BEGIN}\nold\n{speed.END}\nmore\n")

    def row(_: Any) -> dict[str, Any]:
        ours = {"median": 2.0, "ratio": 1.5, "ratio_ci95": [1.25, 2.0], "agreement": 0.998}
        return {"peer_median": 3.0, "ours": {"float32": ours}, "left_out": {"onnx": "no extra"}}

    lines = (
        speed.Line("first", "peer", row),
        speed.Line("second", "other", row, ("yolact",), unit="MB"),
    )
    monkeypatch.setattr(speed, "LINES", lines)
    monkeypatch.setattr(speed, "_part", lambda name, options: row(options))
    old = {"second": {"peer": "other", "unit": "MB"} | row(None)}
    (tmp_path / "results").mkdir()
    (tmp_path / "results/peers-speed.json").write_text(json.dumps({"rows": old}))
    speed.main()
    assert "second: left out; give --yolact" in capsys.readouterr().out
    rows = json.loads((tmp_path / "results/peers-speed.json").read_text())["rows"]
    assert rows["second"] == old["second"]
    assert rows["first"]["provenance"]["threads"] == 1
    shown = page.read_text().splitlines()
    assert shown[0] == "# Speed"
    assert shown[-1] == "more"
    assert "old" not in shown
    first = "| first | peer | 3.00 CPU s | float32 | 2.00 CPU s | 1.50 (1.25–2.00) | IoU 0.998 |"
    assert first in shown
    assert "| second | other | 3 MB | float32 | 2 MB | 1.50 (1.25–2.00) | IoU 0.998 |" in shown
    assert "Not measured: onnx (no extra)." in shown


def test_the_page_shows_what_was_measured(speed: ModuleType) -> None:
    rows = json.loads((ROOT / "results/peers-speed.json").read_text())["rows"]
    assert speed.to_markdown(rows) in (ROOT / "docs/benchmark.md").read_text()
    assert set(rows) <= {line.name for line in speed.LINES}


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["adelaidet", "yolact"])
def test_the_peers_themselves_find_the_same(speed: ModuleType, peer: str) -> None:
    """Checkouts are named by B2INST_ADELAIDET, B2INST_DETECTRON2 and B2INST_YOLACT."""
    named = {
        key: Path(os.environ[f"B2INST_{key.upper()}"])
        for key in ("adelaidet", "detectron2", "yolact", "reference")
        if os.environ.get(f"B2INST_{key.upper()}")
    }
    if not {peer, "reference"} <= named.keys():
        pytest.skip(f"B2INST_{peer.upper()} or B2INST_REFERENCE names no folder")
    line = next(line for line in speed.LINES if peer in line.needs)
    row = speed._part(line.name, speed.Options(**named, rounds=1, images=1))
    assert row["ours"]["float32"]["agreement"] > 0.995
