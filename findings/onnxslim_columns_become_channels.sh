#!/usr/bin/env bash
# onnxslim 0.1.98 folds a multiplication by a constant into the convolution before it if the constant is as
# long as the convolution has channels, whatever axis it lies along. A window over the columns, as one that
# fades a tile out towards its sides, is then applied to the channels if there are as many: of 16 channels and
# 16 columns the first and the last channel are 0, and no column fades. So is one over the rows, and after a
# transposed convolution. With 12 channels, or added, it is right. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 numpy==2.4.6
cat > show.py <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime
import onnxslim
from onnx import TensorProto, checker, helper, numpy_helper

SIDE = 16
random = np.random.default_rng(0)
image = random.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
window = np.hanning(SIDE).astype(np.float32)  # 0 at both ends
AXES = {"channels": (1, SIDE, 1, 1), "rows": (1, 1, SIDE, 1), "columns": (1, 1, 1, SIDE)}


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def error(layer, channels, operation, axis):
    """How far the model and the slimmed model are from what is meant."""
    weight = random.normal(size=(channels, 3)).astype(np.float32)
    factor = window.reshape(AXES[axis])
    meant = np.einsum("oc,bcyx->boyx", weight, image)  # a convolution of 1×1
    meant = meant * factor if operation == "Mul" else meant + factor
    stored = weight[..., None, None] if layer == "Conv" else weight.T[..., None, None]
    graph = helper.make_graph(
        [
            helper.make_node(layer, ["image", "weight"], ["features"], name="head"),
            helper.make_node(operation, ["features", "window"], ["out"], name="fade"),
        ],
        "tile",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image.shape))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, channels, SIDE, SIDE])],
        [numpy_helper.from_array(np.ascontiguousarray(stored), "weight"), numpy_helper.from_array(factor, "window")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    before = np.abs(run(model) - meant).max()
    slim = run(onnxslim.slim(model))
    return before, np.abs(slim - meant).max(), slim


print("onnxslim", version("onnxslim"), "onnxruntime", version("onnxruntime"))
found = {}
for layer, channels, operation, axis in [
    ("Conv", 16, "Mul", "channels"),
    ("Conv", 16, "Mul", "rows"),
    ("Conv", 16, "Mul", "columns"),
    ("ConvTranspose", 16, "Mul", "columns"),
    ("Conv", 12, "Mul", "columns"),
    ("Conv", 16, "Add", "columns"),
]:
    before, after, slim = error(layer, channels, operation, axis)
    assert before < 1e-5
    found[layer, channels, operation, axis] = bool(after < 1e-5)
    print(f"{layer} of {channels} channels, {operation} by {SIDE} {axis}: off by {before:.1g}, slimmed by {after:.1g}")
    if (layer, channels, operation, axis) == ("Conv", 16, "Mul", "columns"):
        # the window lies along the channels
        lost = [c for c in range(channels) if not slim[0, c].any()]
        print("  channels that are 0 everywhere:", lost, "columns:", int((~slim.any((0, 1, 2))).sum()))
        assert lost == [0, 15] and slim[0, 1:15].all()
sys.exit(list(found.values()) != [True, False, False, False, True, True])
PY
venv/bin/python show.py
