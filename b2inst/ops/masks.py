"""Conversion of masks between RoIs, images and run-length codes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import roi_align

from b2inst.ops.frame_masks import Window, portions


def sample_rois(probabilities: Tensor, boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample RoI masks (N×R×R), 0 outside their boxes, at N×h rows and N×w columns: N×h×w."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    ys = (rows + 0.5 - y1) / (y2 - y1) * 2 - 1
    xs = (columns + 0.5 - x1) / (x2 - x1) * 2 - 1
    shape = (len(boxes), rows.shape[1], columns.shape[1])
    grid = torch.stack([xs[:, None].expand(shape), ys[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(probabilities[:, None].float(), grid.float(), align_corners=False)[:, 0]


def box_windows(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Find the pixels that boxes touch, with a margin of one, in an image of (height, width).

    N×4 int64 top, left, bottom, right, ends exclusive; zeros for a box without extent (also with
    x2 < x1) or outside the image.
    """
    limits = boxes.new_tensor([*size, *size])
    start, stop = boxes[:, [1, 0]].floor() - 1, boxes[:, [3, 2]].ceil() + 1
    windows = torch.cat([start, stop], 1).clamp(min=0).minimum(limits)
    some = (boxes[:, 2:] > boxes[:, :2]) & (windows[:, 2:] > windows[:, :2])
    return (windows * some.all(1, keepdim=True)).long()


def paste_masks(
    probabilities: Tensor, boxes: Tensor, size: tuple[int, int], *, threshold: float = 0.5
) -> Tensor:
    """Paste RoI masks (N×R×R over N×4 boxes) into an image of (height, width): N×H×W bool."""
    masks = torch.zeros((len(boxes), *size), dtype=torch.bool, device=boxes.device)
    windows = box_windows(boxes, size).tolist()  # a single transfer
    for i, (top, left, bottom, right) in enumerate(windows):
        if bottom > top and right > left:
            rows = torch.arange(top, bottom, device=boxes.device)[None]
            columns = torch.arange(left, right, device=boxes.device)[None]
            soft = sample_rois(probabilities[i, None], boxes[i, None], rows, columns)[0]
            masks[i, top:bottom, left:right] = soft >= threshold
    return masks


def mask_window(mask: NDArray[np.bool_]) -> Window:
    """Bounding box (top, left, bottom, right) of an H×W mask; zeros if it is empty."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return top, left, top + height, left + width


def covered(mask: Tensor) -> tuple[int, int, Tensor]:
    """Crop an H×W mask to its bounding box, if empty to a pixel: first row, first column, crop."""
    top, left, bottom, right = mask_window(mask.cpu().numpy())
    return top, left, mask[top : max(bottom, 1), left : max(right, 1)]


def crop_masks(
    masks: Tensor, boxes: Tensor, roi_size: int, *, index: Tensor | None = None
) -> Tensor:
    """Crop masks (N×H×W) to boxes (P×4) and resample them (RoIAlign, then >= 0.5): P×R×R, 0 or 1.

    ``index`` is the mask of each box, P int64 (default: P = N, one each).
    """
    crops = [masks.new_zeros((0, roi_size, roi_size), dtype=torch.float32)]
    for rows in portions(0, len(boxes), cells=masks.shape[1] * masks.shape[2]):
        chunk = masks[rows if index is None else index[rows]]
        own = torch.arange(len(chunk), device=boxes.device, dtype=boxes.dtype)[:, None]
        rois = torch.cat([own, boxes[rows]], dim=1)
        pooled = roi_align(chunk[:, None].float(), rois, roi_size, 1.0, 0, aligned=True)
        crops.append((pooled[:, 0] >= 0.5).float())
    return torch.cat(crops)


def share_inside(masks: Tensor, boxes: Tensor, index: Tensor) -> Tensor:
    """Compute which part of mask ``index`` (P of N×H×W) is in each box (P×4); 0 if it is empty."""
    height, width = masks.shape[1:]
    down = _overlap(boxes[:, 1], boxes[:, 3], height)
    along = _overlap(boxes[:, 0], boxes[:, 2], width)
    inside = boxes.new_zeros(len(boxes))
    with torch.autocast(boxes.device.type, enabled=False):  # bfloat16 cannot count pixels
        for rows in portions(0, len(boxes), cells=height * width):
            by_column = down[rows, None] @ masks[index[rows]].to(boxes)
            inside[rows] = (by_column[:, 0] * along[rows]).sum(1)
    return inside / masks.sum((1, 2))[index].clamp(min=1)


def _overlap(start: Tensor, stop: Tensor, cells: int) -> Tensor:
    """Length of the part of each cell [c, c + 1) in each of P intervals: P×cells in [0, 1]."""
    left = torch.arange(cells, device=start.device)
    return (stop[:, None] - left).clamp(0, 1) - (start[:, None] - left).clamp(0, 1)


def encode_rle(masks: Tensor) -> list[dict[str, Any]]:
    """Encode N×H×W bool masks as compressed COCO run-length codes with ``counts`` as str."""
    codes = []
    for mask in masks.cpu().contiguous().view(torch.uint8).numpy():
        # COCO's codes run along columns; OpenCV transposes faster than NumPy.
        (code,) = coco_mask.encode(cv2.transpose(mask).reshape(mask.shape[::-1]).T[:, :, None])
        codes.append({"size": list(mask.shape), "counts": code["counts"].decode()})
    return codes


def decode_rle(codes: list[dict[str, Any]], size: tuple[int, int] | None = None) -> Tensor:
    """Decode compressed COCO run-length codes to N×H×W bool; ``size`` is used if N is 0."""
    if not codes:
        return torch.zeros((0, *(size or (0, 0))), dtype=torch.bool)
    return torch.from_numpy(coco_mask.decode(codes)).permute(2, 0, 1).bool()
