#!/usr/bin/env bash
# onnx2torch 1.5.15 makes PyTorch modules of ONNX models. ONNX's NonZero, as NumPy's nonzero, has a row for each axis
# and a column for each place; onnx2torch returns torch.nonzero as it is, which has a row for each place: of 5 pixels
# of a mask 5×2 numbers, not 2×5. A network that lists the pixels of its objects, or the anchors above a score, and
# takes the first for the rows and the second for the columns, then has two of the pixels instead: [2, 3] and [2, 4] in
# place of [2, 2, 3, 3, 4] and [3, 4, 3, 4, 4]. And NonMaxSuppression takes boxes whose corners are given in another
# order, which ONNX allows, for empty ones, so that three boxes on one another all stay.
# onnxruntime 1.32.0 and onnx's evaluator do as ONNX says. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 onnx==1.23.2 onnxruntime==1.32.0 \
  onnx2torch==1.5.15 numpy==2.4.6
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import onnx2torch
import onnxruntime
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("error")


def both(nodes, inputs, constants, output):
    """What onnxruntime and onnx2torch return."""
    graph = helper.make_graph(
        nodes, "one", [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.INT64, output)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, inputs)[0]
    assert right.tolist() == ReferenceEvaluator(model).run(None, inputs)[0].tolist()
    module = onnx2torch.convert(model).eval()
    with torch.inference_mode():
        return right.tolist(), module(*(torch.from_numpy(a) for a in inputs.values())).tolist()


print(*(f"{name} {version(name)}" for name in ("onnx2torch", "torch", "onnxruntime", "onnx")))
mask = np.zeros((6, 7), np.float32)
mask[2:4, 3:5] = 1
mask[4, 4] = 1
find = helper.make_node("NonZero", ["mask"], ["y"])
right, found = both([find], {"mask": mask}, {}, ("a", "b"))
print(f"   NonZero of a mask: {found}, right is {right}")
assert right == [[2, 2, 3, 3, 4], [3, 4, 3, 4, 4]] and found == [list(place) for place in zip(*right)]
read = []
for axis in (0, 1):
    nodes = [helper.make_node("NonZero", ["mask"], ["places"]), helper.make_node("Gather", ["places", "axis"], ["y"])]
    read.append(both(nodes, {"mask": mask}, {"axis": np.array(axis, np.int64)}, ("n",)))
print(f"   rows and columns of its pixels: {[found for _, found in read]}, right are {[right for right, _ in read]}")
assert [found for _, found in read] == [[2, 3], [2, 4]]

suppress = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "threshold"], ["y"])
constants = {"most": np.array([10], np.int64), "threshold": np.array([0.5], np.float32)}
scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
kept = {}
for name, order in (("first corner first", (0, 1, 2, 3)), ("last corner first", (2, 3, 0, 1))):
    boxes = np.array([[[10, 10, 30, 30], [10, 11, 30, 31], [11, 10, 31, 30]]], np.float32)[..., order]
    kept[name] = [len(k) for k in both([suppress], {"boxes": boxes, "scores": scores}, constants, ("n", 3))]
    print(f"   NonMaxSuppression of three boxes on one another, {name}: onnxruntime keeps {kept[name][0]}, onnx2torch "
          f"{kept[name][1]}")
assert kept == {"first corner first": [1, 1], "last corner first": [1, 3]}
PY
nice -n 10 venv/bin/python show.py
