"""The peers of speed.py as their users call them: weights in, callables out.

A peer is imported from the user's own checkout; nothing of it is here. What it imports and never
calls on these ways is stood in for: compiled operators, and scikit-image in AdelaiDet. All
arithmetic is the peer's own, and that of the detectron2 that AdelaiDet stands on.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from reference.reference_weights import make_weights
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from b2inst.modules.layers import RoIPooler
from b2inst.structures import Targets

Image = NDArray[np.uint8]  #: H×W×3 RGB
Found = tuple[Tensor, Tensor]  #: labels N, counted from 0, and masks N×H×W bool
Predictor = Callable[[Image], Any]
Step = Callable[[], Mapping[str, Tensor]]  #: one training step, which gives its losses by name

#: Of training steps: too small to move weights, so that all steps do the same work.
LEARNING_RATE = 1e-12

#: What detectron2 needs beside PyTorch.
PACKAGES = "fvcore iopath yacs omegaconf hydra-core portalocker termcolor tabulate"


class Unused(ModuleType):
    """A module that is imported and whose functions are not called."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def called(*_: Any, **__: Any) -> None:
            raise RuntimeError(f"{self.__name__}.{name} is only stood in for, but was called")

        return called


def stand_in(*modules: str) -> None:
    """Stand-ins for those of the modules that cannot be imported."""
    for name in modules:
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = Unused(name)


def import_adelaidet(checkout: Path, detectron2: Path | None) -> None:
    """From the user's checkouts; the rest is as ``AdelaiDet``'s.

    Raises:
        typer.BadParameter: a package is missing.
    """
    sys.path[:0] = [str(path.resolve()) for path in (checkout, detectron2) if path is not None]
    sys.modules["adet._C"] = Unused("adet._C")  # of other models
    try:
        stand_in("detectron2._C", "skimage")
        for name in ("adet.modeling", "detectron2.data", "detectron2.solver"):
            importlib.import_module(name)
    except ImportError as error:
        raise typer.BadParameter(
            f"{checkout}: cannot be imported ({error}); AdelaiDet needs detectron2, give its "
            f"checkout with --detectron2 and `pip install {PACKAGES}`, to a folder on "
            "PYTHONPATH if not here"
        ) from error


class AdelaiDet:
    """BlendMask of AdelaiDet's ``configs/BlendMask/R_50_1x.yaml``.

    Args:
        checkout: of AdelaiDet.
        detectron2: a checkout of detectron2, whose compiled part is not called; None for the
            installed one.
        weights: by AdelaiDet's names.
        attention_size: A.
    """

    def __init__(
        self,
        checkout: Path,
        *,
        detectron2: Path | None,
        weights: Mapping[str, Tensor],
        attention_size: int,
    ) -> None:
        import_adelaidet(checkout, detectron2)
        from adet.config import get_cfg
        from detectron2.data import transforms
        from detectron2.modeling import build_model

        self.cfg = get_cfg()
        self.cfg.merge_from_file(str(checkout / "configs/BlendMask/R_50_1x.yaml"))
        self.cfg.MODEL.DEVICE = "cpu"
        self.cfg.MODEL.WEIGHTS = ""
        self.cfg.MODEL.BLENDMASK.ATTN_SIZE = attention_size
        self.cfg.SOLVER.BASE_LR = LEARNING_RATE
        self.model: nn.Module = build_model(self.cfg)
        load(self.model, weights)
        side, longest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        self.resize = transforms.ResizeShortestEdge([side, side], longest)

    @torch.no_grad()
    def predict(self, image: Image) -> Any:
        """As detectron2's ``DefaultPredictor``."""
        self.model.eval()
        height, width = image.shape[:2]
        bgr = image[:, :, ::-1]
        bgr = self.resize.get_transform(bgr).apply_image(bgr)
        pixels = torch.as_tensor(bgr.astype("float32").transpose(2, 0, 1))
        (found,) = self.model([{"image": pixels, "height": height, "width": width}])
        return found["instances"]

    @staticmethod
    def read(instances: Any) -> Found:
        """What was predicted."""
        return instances.pred_classes, instances.pred_masks

    def training_step(self, images: Sequence[Tensor], targets: Sequence[Targets]) -> Step:
        """As detectron2's ``SimpleTrainer``; targets are bitmaps, as ours."""
        from detectron2.solver import build_optimizer
        from detectron2.structures import BitMasks, Boxes, Instances

        self.model.train()
        optimizer = build_optimizer(self.cfg, self.model)
        batch = []
        for image, target in zip(images, targets, strict=True):
            instances = Instances(tuple(image.shape[1:]))
            instances.gt_boxes = Boxes(target.boxes)
            instances.gt_classes = target.labels
            instances.gt_masks = BitMasks(target.masks.bool())
            item = {"image": image.flip(0), "instances": instances}
            batch.append(item | {"basis_sem": target.semantic.long()})

        def step() -> Mapping[str, Tensor]:
            losses: dict[str, Tensor] = self.model(batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
            optimizer.step()
            return losses

        return step


class Yolact:
    """YOLACT R-50 of dbolya/yolact, as its ``eval.py --image`` runs it.

    Args:
        checkout: of yolact.
        weights: by its names.
    """

    def __init__(self, checkout: Path, *, weights: Mapping[str, Tensor]) -> None:
        if not (checkout / "yolact.py").is_file():
            raise typer.BadParameter(f"{checkout}: no checkout of yolact; there is no yolact.py")
        sys.path.insert(0, str(checkout))
        with _without_cuda():
            self._config = importlib.import_module("data.config")
            self._config.set_cfg("yolact_resnet50_config")
            self._config.cfg.mask_proto_debug = False
            self.model: nn.Module = importlib.import_module("yolact").Yolact()
            self._resize = importlib.import_module("utils.augmentations").FastBaseTransform()
        self._finish = importlib.import_module("layers.output_utils").postprocess
        load(self.model, weights)
        self.model.eval()  # which returns nothing
        self.model.detect.use_fast_nms = True
        self.model.detect.use_cross_class_nms = False

    @torch.no_grad()
    def predict(self, image: Image) -> Any:
        """Classes, scores, boxes and masks."""
        height, width = image.shape[:2]
        frame = torch.from_numpy(image[:, :, ::-1].copy()).float()
        return self._finish(self.model(self._resize(frame[None])), width, height)

    @staticmethod
    def read(found: Any) -> Found:
        """What was predicted."""
        return found[0], found[3].bool()


class TorchvisionMaskRCNN:
    """torchvision's Mask R-CNN R-50 of 80 classes, its norms fixed as with published weights.

    Its weights are made as the reference's are, so that it finds about a hundred objects.
    """

    def __init__(self) -> None:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
        self.model = MaskRCNN(backbone, num_classes=81).eval()
        spec = {name: _entry(name, value) for name, value in self.model.state_dict().items()}
        weights = make_weights(spec, 0, Path("Mask R-CNN"))
        load(self.model, {name: torch.from_numpy(value) for name, value in weights.items()})

    @torch.no_grad()
    def predict(self, image: Image) -> Any:
        """As its documentation has it, with the masks thresholded."""
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        (found,) = self.model([pixels])
        return found["labels"], found["masks"][:, 0] >= 0.5

    @staticmethod
    def read(found: Any) -> Found:
        """What was predicted."""
        return found[0] - 1, found[1]

    def aligned(self) -> TorchvisionMaskRCNN:
        """A copy without what ours has otherwise on purpose: for comparison, not for times.

        torchvision pools half a cell off, and pads to 32 where P6 has no whole number of cells.
        """
        other = copy.deepcopy(self)
        other.model.transform.size_divisible = 64
        other.model.roi_heads.box_roi_pool = _AlignedPool(7)
        other.model.roi_heads.mask_roi_pool = _AlignedPool(14)
        return other

    def own_weights(self) -> dict[str, Tensor]:
        """By the names of our ``maskrcnn-r50``, which has no mask of background."""
        parts = {
            "backbone.": "backbone.",
            "rpn.": "detector.rpn.",
            "roi_heads.box": "detector.roi_heads.box",
            "roi_heads.mask_head.": "mask_head.convs.",
            "roi_heads.mask_predictor.": "mask_head.predictor.",
        }
        weights = {}
        for name, value in self.model.state_dict().items():
            theirs = next(part for part in parts if name.startswith(part))
            background = name.startswith("roi_heads.mask_predictor.mask_fcn_logits.")
            own = parts[theirs] + name.removeprefix(theirs)
            weights[own] = value[1:] if background else value
        return weights


class _AlignedPool(RoIPooler):
    """Ours, called as torchvision's."""

    def __init__(self, size: int) -> None:
        super().__init__(strides=(4, 8, 16, 32), size=size)

    def forward(self, features: Mapping[str, Tensor], boxes: list[Tensor], _: Any) -> Tensor:
        return super().forward({4 << i: features[str(i)] for i in range(4)}, boxes)


#: How a tensor of Mask R-CNN is drawn, by the first part that its name has; gains are such that
#: maps and logits have the deviations of a trained model's.
_KINDS: dict[str, dict[str, Any]] = {
    "running_mean": {"kind": "running_mean"},
    "running_var": {"kind": "running_var"},
    "bn3.weight": {"kind": "norm_weight", "mean": 0.2},
    "bn": {"kind": "norm_weight"},
    "downsample.1": {"kind": "norm_weight"},
    "fpn.inner": {"kind": "conv", "gain": 0.8},
    "fpn.layer": {"kind": "conv", "gain": 0.7},
    "rpn.head.bbox_pred": {"kind": "conv", "gain": 0.12},
    "cls_score": {"kind": "linear", "gain": 0.25},
    "box_predictor.bbox_pred": {"kind": "linear", "gain": 0.35},
    "mask_fcn_logits": {"kind": "conv", "gain": 0.3},
    "": {"kind": "conv"},
}


def _entry(name: str, value: Tensor) -> dict[str, Any]:
    """Of the spec that ``make_weights`` takes."""
    drawn = next(kind for part, kind in _KINDS.items() if part in name)
    if name.endswith("bias"):
        if drawn["kind"] == "norm_weight":
            drawn = {"kind": "norm_bias"}
        else:  # of varied classes, and of masks that fill most of their box
            std = 1.0 if "cls_score" in name else 0.02
            drawn = {"kind": "bias", "std": std, "mean": float("mask_fcn_logits" in name)}
    elif drawn["kind"] in ("conv", "linear"):
        drawn = drawn | {"center": "body.conv1" not in name}
    return drawn | {"shape": list(value.shape)}


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load all that was made; only constants may be missing of what the model has.

    Raises:
        typer.BadParameter: weights of another model.
    """
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    missing = set(missing) & {name for name, _ in model.named_parameters()}
    if missing or unexpected:
        raise typer.BadParameter(
            f"the reference's weights do not fit this checkout: {sorted(missing)[:3]} missing, "
            f"{sorted(unexpected)[:3]} unknown; check out the commit that docs/benchmark.md names"
        )


@contextmanager
def _without_cuda() -> Any:
    """yolact asks for a CUDA device when it is imported, also where there is none."""
    if torch.cuda.is_available():
        yield
        return
    with (
        patch.object(torch.cuda, "current_device", lambda: 0),
        patch.object(Tensor, "cuda", lambda self, *_, **__: self),
    ):
        yield
