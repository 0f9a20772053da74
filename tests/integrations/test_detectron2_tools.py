"""detectron2's own trainer, predictor, evaluator and visualiser, unchanged, on our models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils.visualizer import Visualizer

from b2inst.data import find_split
from b2inst.evaluation import Prediction, evaluate, to_records
from b2inst.integrations.detectron2 import add_b2inst_config, config_file, export
from b2inst.models import BasisSegmenter, create_model
from b2inst.ops.masks import encode_rle
from b2inst.weights import load_model, save_model, start_from

Finder = Callable[..., BasisSegmenter]
Picture = Callable[..., np.ndarray]

CONFIGS = ["b2inst_blendmask_r50_1x", "b2inst_yolact_r50_1x", "blendmask_r50_1x"]
PROFILE = Path(__file__).parents[2] / "experiments/profiles/coco-1x.yaml"


def config(file: str | Path, *changes: Any) -> CfgNode:
    cfg = get_cfg()
    add_b2inst_config(cfg)
    cfg.merge_from_file(str(file))
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.merge_from_list(list(changes))
    return cfg


@pytest.fixture
def data(coco_folder: Path) -> Iterator[str]:
    """Name of the folder's images in detectron2's catalogs."""
    register_coco_instances(
        "b2inst_train",
        {},
        str(coco_folder / "annotations" / "instances_train.json"),
        str(coco_folder / "train"),
    )
    yield "b2inst_train"
    DatasetCatalog.remove("b2inst_train")
    MetadataCatalog.remove("b2inst_train")


class TestConfigs:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_they_build_the_named_model(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # Finished weights are to come: nothing is fetched.
        monkeypatch.delattr("b2inst.models.building.load_imagenet")
        cfg = config(config_file(name), "MODEL.WEIGHTS", "model.pth")
        model = build_model(cfg).segmenter
        assert model.recipe["name"].replace("-", "_") == name.removesuffix("_1x")
        assert model.recipe["options"] == {"frozen_norm": True}
        resized = not model.preprocessor.fixed_size
        assert (800 if resized else 0) == cfg.INPUT.MIN_SIZE_TEST
        assert ((800,) if resized else (0,)) == cfg.INPUT.MIN_SIZE_TRAIN

    @pytest.mark.parametrize("name", CONFIGS)
    def test_their_schedule_is_that_of_our_profile(self, name: str) -> None:
        profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
        solver = config(config_file(name)).SOLVER
        assert (
            profile["schedule"]
            | {
                "iterations": solver.MAX_ITER,
                "batch_size": solver.IMS_PER_BATCH,
                "learning_rate": solver.BASE_LR,
                "momentum": solver.MOMENTUM,
                "weight_decay": solver.WEIGHT_DECAY,
                "milestones": list(solver.STEPS),
                "gamma": solver.GAMMA,
                "warmup_iterations": solver.WARMUP_ITERS,
                "warmup_factor": solver.WARMUP_FACTOR,
            }
            == profile["schedule"]
        )
        assert solver.WEIGHT_DECAY_NORM == 0
        assert not solver.CLIP_GRADIENTS.ENABLED

    def test_options_reach_the_model_and_survive_a_dump(self, tmp_path: Path) -> None:
        cfg = config(config_file("b2inst_blendmask_tiny"), "MODEL.B2INST.NUM_CLASSES", 3)
        cfg.MODEL.B2INST.OPTIONS.boundary = CfgNode({"fused": True})
        cfg.MODEL.B2INST.OPTIONS.scoring = ["iou"]
        (tmp_path / "dump.yaml").write_text(cfg.dump())
        recipe = build_model(config(tmp_path / "dump.yaml")).segmenter.recipe
        assert recipe["num_classes"] == 3
        assert recipe["options"] == {
            "boundary": {"fused": True},
            "scoring": ["iou"],
            "shorter": 128,
            "longer_max": 224,
        }

    def test_a_training_can_start_from_a_baseline(self, finder: Finder, tmp_path: Path) -> None:
        save_model(finder("blendmask-tiny"), tmp_path / "baseline.safetensors")
        start = ["MODEL.B2INST.NUM_CLASSES", 3]
        start += ["MODEL.B2INST.START", str(tmp_path / "baseline.safetensors")]
        torch.manual_seed(5)
        built = build_model(config(config_file("b2inst_blendmask_tiny"), *start)).segmenter
        torch.manual_seed(5)
        expected = create_model("b2inst-blendmask-tiny", num_classes=3)
        start_from(expected, tmp_path / "baseline.safetensors")
        for name, value in expected.state_dict().items():
            assert value.equal(built.state_dict()[name]), name


class TestPredictor:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("b2inst-blendmask-tiny", {"shorter": 64, "longer_max": 90}),
            ("yolact-tiny", {"size": 128}),
            ("condinst-tiny", {}),
        ],
    )
    def test_exported_weights_predict_the_same(
        self, finder: Finder, picture: Picture, tmp_path: Path, name: str, options: dict[str, int]
    ) -> None:
        save_model(finder(name, **options), tmp_path / "model.safetensors")
        exported = export(tmp_path / "model.safetensors", tmp_path / "exported")
        predictor = DefaultPredictor(config(exported))
        image = picture(120, 75)
        found = predictor(image[:, :, ::-1])["instances"]
        model = load_model(tmp_path / "model.safetensors")
        (expected,) = model.predict([image])
        assert len(found) > 5
        assert found.scores.equal(expected.scores)
        assert found.pred_masks.equal(expected.masks)
        assert predictor.model.segmenter.recipe == model.recipe
        assert predictor.model.segmenter.class_names == ("star", "gear", "leaf")

    def test_the_visualizer_draws_its_results(
        self, finder: Finder, picture: Picture, tmp_path: Path
    ) -> None:
        save_model(finder("b2inst-blendmask-tiny"), tmp_path / "model.safetensors")
        predictor = DefaultPredictor(config(export(tmp_path / "model.safetensors", tmp_path)))
        image = picture(120, 150)
        found = predictor(image[:, :, ::-1])["instances"]
        drawn = Visualizer(image).draw_instance_predictions(found[:3]).get_image()
        assert drawn.shape == image.shape
        changed = (drawn != image).any(2)
        assert changed[found.pred_masks[:3].any(0).numpy()].mean() > 0.9


class TestTrainer:
    def test_it_trains_and_its_checkpoint_goes_on(self, data: str, tmp_path: Path) -> None:
        changes = ["DATASETS.TRAIN", (data,), "DATASETS.TEST", (), "OUTPUT_DIR", str(tmp_path)]
        changes += ["MODEL.B2INST.NUM_CLASSES", 3, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3]
        changes += ["SOLVER.STEPS", (), "INPUT.MIN_SIZE_TRAIN", (64,), "SEED", 1]
        cfg = config(config_file("b2inst_blendmask_tiny"), *changes)
        trainer = DefaultTrainer(cfg)
        before = {n: p.clone() for n, p in trainer.model.named_parameters()}
        trainer.resume_or_load(resume=False)
        trainer.train()
        trained = trainer.model.state_dict()
        assert sum(not before[n].equal(trained[n]) for n in before) > 0.9 * len(before)
        written = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
        assert {"loss_class", "loss_mask", "loss_boundary_dice", "loss_iou_score"} <= written.keys()
        latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
        parts = [value for name, value in latest.items() if name.startswith("loss_")]
        assert latest["total_loss"] == pytest.approx(sum(parts))

        cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
        loaded = build_model(cfg)
        DetectionCheckpointer(loaded).load(cfg.MODEL.WEIGHTS)
        for name, value in loaded.state_dict().items():
            assert value.equal(trained[name]), name
        save_model(loaded.segmenter, tmp_path / "ours.safetensors")
        ours = load_model(tmp_path / "ours.safetensors")
        assert ours.state_dict().keys() == loaded.segmenter.state_dict().keys()

        cfg.SOLVER.MAX_ITER = 5
        again = DefaultTrainer(cfg)
        again.resume_or_load(resume=True)
        assert again.start_iter == 3
        again.train()
        assert again.iter == 5


class TestEvaluator:
    @pytest.mark.parametrize("name", ["b2inst-blendmask-tiny", "b2inst-yolact-tiny"])
    @pytest.mark.parametrize("fast", [True, False])
    def test_ap_is_ours(
        self, finder: Finder, picture: Picture, tmp_path: Path, name: str, fast: bool
    ) -> None:
        model = finder(name)
        folder = truth_near_predictions(model, picture, tmp_path)
        file, images = find_split(folder, "val")
        save_model(model, tmp_path / "model.safetensors")
        dataset = f"b2inst_val_{name}_{fast}"
        register_coco_instances(dataset, {}, str(file), str(images))
        cfg = config(export(tmp_path / "model.safetensors", tmp_path), "DATASETS.TEST", (dataset,))
        loaded = DefaultPredictor(cfg).model
        evaluator = COCOEvaluator(dataset, output_dir=str(tmp_path), use_fast_impl=fast)
        theirs = inference_on_dataset(loaded, build_detection_test_loader(cfg, dataset), evaluator)

        ours = evaluate(one_score_records(model, images), file)
        assert 5 < ours["AP"] < 95  # type: ignore[operator]
        for task, prefix in (("segm", ""), ("bbox", "box_")):
            for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
                expected = ours[prefix + metric]
                assert theirs[task][metric] == pytest.approx(
                    float("nan") if expected is None else expected, abs=1e-6, nan_ok=True
                ), (task, metric)


def one_score_records(model: BasisSegmenter, images: Path) -> list[Prediction]:
    """Our predictions as detectron2 has them: one score, also for boxes; boxes not rounded."""
    records = []
    for i in range(4):
        (found,) = model.predict([images / f"{i}.png"])
        boxes = torch.cat([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], dim=1)
        for record, box in zip(to_records(i + 1, found, (2, 5, 9)), boxes.tolist(), strict=True):
            records.append(record | {"bbox": box, "class_score": record["score"]})
    return records


def truth_near_predictions(model: BasisSegmenter, picture: Picture, root: Path) -> Path:
    """Images whose truth is every other object that the model finds, some of them moved."""
    (root / "val").mkdir()
    (root / "annotations").mkdir()
    records, annotations = [], []
    for i in range(4):
        image = picture(100, 130, 20 + i)
        Image.fromarray(image).save(root / "val" / f"{i}.png")
        records.append({"id": i + 1, "file_name": f"{i}.png", "height": 100, "width": 130})
        (found,) = model.predict([image])
        for k in range(0, len(found), 2):
            mask = found.masks[k].roll(k % 12, 1)
            if not mask.any():
                continue
            ys, xs = mask.nonzero(as_tuple=True)
            x, y = int(xs.min()), int(ys.min())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": (2, 5, 9)[int(found.labels[k])],
                    "bbox": [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": encode_rle(mask[None])[0],
                }
            )
    categories = [{"id": i, "name": str(i)} for i in (2, 5, 9)]
    content = {"images": records, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root
