"""COCO-format data read, checked and fetched, procedural scenes, and batches for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.data.check import Report, SplitReport, check_coco, verify_images
    from b2inst.data.coco import CocoIndex
    from b2inst.data.coco_fetch import fetch_coco, fetch_coco_subset
    from b2inst.data.conversion import Conversion
    from b2inst.data.dataset import CocoDataset
    from b2inst.data.errors import DataError
    from b2inst.data.holdout import hold_out
    from b2inst.data.images import read_image
    from b2inst.data.label_maps import convert_label_maps
    from b2inst.data.layout import find_annotations, find_split, find_splits
    from b2inst.data.loader import collate, eval_images, train_loader
    from b2inst.data.nuclei import fetch_nuclei
    from b2inst.data.records import Annotation, ImageRecord
    from b2inst.data.scene_files import write_scenes
    from b2inst.data.scenes import SCENE_CLASSES, SCENES_VERSION, Scene, make_scene
    from b2inst.data.transforms import (
        RandomCentreCrop,
        RandomColours,
        RandomTranspose,
        ResizeShorterSide,
        ResizeTo,
        test_transforms,
        train_transforms,
    )
    from b2inst.data.yolo import convert_yolo

__all__ = [
    "SCENES_VERSION",
    "SCENE_CLASSES",
    "Annotation",
    "CocoDataset",
    "CocoIndex",
    "Conversion",
    "DataError",
    "ImageRecord",
    "RandomCentreCrop",
    "RandomColours",
    "RandomTranspose",
    "Report",
    "ResizeShorterSide",
    "ResizeTo",
    "Scene",
    "SplitReport",
    "check_coco",
    "collate",
    "convert_label_maps",
    "convert_yolo",
    "eval_images",
    "fetch_coco",
    "fetch_coco_subset",
    "fetch_nuclei",
    "find_annotations",
    "find_split",
    "find_splits",
    "hold_out",
    "make_scene",
    "read_image",
    "test_transforms",
    "train_loader",
    "train_transforms",
    "verify_images",
    "write_scenes",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
