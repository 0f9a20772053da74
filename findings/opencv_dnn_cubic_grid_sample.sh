#!/usr/bin/env bash
# ONNX's GridSample, which warps images and masks and reads features at points, has a mode "cubic" since opset 20;
# before, it was "bicubic". OpenCV 5.0.0 computes "cubic" as linear, to the last digit: half a pixel from a pixel of
# 1 it has 0.5 where 0.59 is right, one and a half away 0 where -0.09 is. So does it with "bicubic" at one and a
# half, and of an image of random numbers from 0 to 1 both are off, by up to 0.2 and 0.07. onnxruntime 1.32.0 has
# what the formula of the kernel gives, by either name. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 \
  opencv-python-headless==5.0.0.93
cat > show.py <<'PY'
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

SIZE = 9
A = -0.75  # the constant of ONNX's kernel


def results(x, places, opset, mode):
    """The values at places (rows and columns, in pixels), by onnxruntime and by OpenCV."""
    grid = ((2 * places[..., ::-1] + 1) / SIZE - 1).astype(np.float32)[None]
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("GridSample", ["x", "grid"], ["y"], mode=mode)], "sample",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
             helper.make_tensor_value_info("grid", TensorProto.FLOAT, grid.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *grid.shape[1:3]])],
        ),
        opset_imports=[helper.make_opsetid("", opset)], ir_version=9,
    )
    checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    net = cv2.dnn.readNetFromONNX(np.frombuffer(made.SerializeToString(), np.uint8))
    net.setInput(x, "x")
    net.setInput(grid, "grid")
    return session.run(None, {"x": x, "grid": grid})[0][0, 0], net.forward()[0, 0]


def kernel(distance):
    """The weight of a pixel at that distance, by cubic convolution."""
    d = np.abs(distance)
    near = ((A + 2) * d - (A + 3)) * d * d + 1
    far = ((A * d - 5 * A) * d + 8 * A) * d - 4 * A
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def expected(x, places):
    rows, columns = (kernel(places[..., n, None] - np.arange(SIZE)) for n in (0, 1))
    return np.einsum("...r,...c,rc->...", rows, columns, x[0, 0])


inner = np.random.default_rng(0).uniform(2, SIZE - 3, (20, 20, 2))  # where all of the kernel is inside
image = np.random.default_rng(1).random((1, 1, SIZE, SIZE), np.float32)
row = np.stack([np.full(9, 4.0), np.arange(2, 6.5, 0.5)], axis=1)[None]
point = np.zeros_like(image)
point[..., 4, 4] = 1
linear, _ = results(image, inner, 20, "linear")
print(f"OpenCV {cv2.__version__}, onnxruntime {version('onnxruntime')}; a pixel of 1, seen at -2, -1.5, ..., 2:")
for opset, mode in ((16, "bicubic"), (20, "cubic")):
    right, found = results(point, row, opset, mode)
    assert np.allclose(right, expected(point, row), atol=1e-5)
    for name, values in (("onnxruntime", right), ("OpenCV", found)):
        print(f"   {mode} by {name}:", *(f"{value:.2f}" for value in values[0]))
    assert np.isclose(found[0, 3], 0.5 if mode == "cubic" else 0.59375) and found[0, 1] == 0
    right, found = results(image, inner, opset, mode)
    assert np.allclose(right, expected(image, inner), atol=1e-5)
    off = np.abs(found - right).max()
    print(f"   {mode}, an image at random places: OpenCV is off by up to {off:.2f}")
    assert off > 0.05
    assert np.allclose(found, linear, atol=1e-6) == (mode == "cubic")
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
