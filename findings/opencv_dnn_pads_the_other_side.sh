#!/usr/bin/env bash
# In ONNX, auto_pad of SAME_UPPER, which is how networks of TensorFlow come, adds the odd row and column of padding
# at the end, SAME_LOWER at the beginning. OpenCV 5.0.0 adds it at the beginning for both, OpenCV 4.14.0 at the end
# for both. At stride 2 on images of even sizes, SAME_UPPER's outputs in 5.0.0 are those one pixel to the left and
# above, in Conv, MaxPool and AveragePool; after five such layers they are 31 pixels off. ConvTranspose with either
# makes 15×15 pixels of 8×8, not 16×16. onnxruntime 1.32.0 does as ONNX says. Nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > show.py <<'PY'
import sys

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

MIDDLE = np.zeros((1, 1, 3, 3), np.float32)
MIDDLE[0, 0, 1, 1] = 1  # a convolution with it picks pixels


def model(op, pad, size, output, layers=1):
    options = {} if op.startswith("Conv") else {"kernel_shape": [3, 3]}
    weights = ["w"] if op.startswith("Conv") else []
    nodes = [helper.make_node(op, [f"x{n}", *weights], [f"x{n + 1}"], strides=[2, 2], auto_pad=pad, **options)
             for n in range(layers)]
    made = helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 1, size, size])],
            [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [1, 1, output, output])],
            [numpy_helper.from_array(MIDDLE, "w")] if weights else [],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    checker.check_model(made, full_check=True)
    return made


def opencv(made, x):
    net = cv2.dnn.readNetFromONNX(np.frombuffer(made.SerializeToString(), np.uint8))
    net.setInput(x)
    return net.forward()


def runtime(made, x):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x0": x})[0]


def expected(op, pad, x):
    """By the formula in ONNX's description of auto_pad."""
    size = x.shape[-1]
    total = max(0, (-(-size // 2) - 1) * 2 + 3 - size)
    before = total // 2 if pad == "SAME_UPPER" else total - total // 2
    windows = [[x[0, 0, max(0, y) : y + 3, max(0, c) : c + 3] for c in range(-before, size - before, 2)]
               for y in range(-before, size - before, 2)]
    if op == "Conv":
        padded = np.pad(x[0, 0], before)
        return padded[1 : 1 + size : 2, 1 : 1 + size : 2]
    reduce = np.max if op == "MaxPool" else np.mean
    return np.array([[reduce(window) for window in row] for row in windows])


differ = set()
for size in (8, 9):
    x = np.arange(size * size, dtype=np.float32).reshape(1, 1, size, size)
    for op in ("Conv", "MaxPool", "AveragePool"):
        for pad in ("SAME_UPPER", "SAME_LOWER"):
            made = model(op, pad, size, -(-size // 2))
            right, found = runtime(made, x), opencv(made, x)
            assert np.allclose(right[0, 0], expected(op, pad, x)), (op, pad, size)
            if not np.allclose(right, found):
                differ.add((op, pad, size))
            if op == "Conv" and size == 8:
                print(f"   Conv, {pad}: columns taken of 8: {right[0, 0, 0] % 8}, by OpenCV {found[0, 0, 0] % 8}")
print("   others than by onnxruntime:", ", ".join(f"{op} {pad} of {size}" for op, pad, size in sorted(differ)))
x = np.arange(256, dtype=np.float32)[None].repeat(256, 0)[None, None]
made = model("Conv", "SAME_UPPER", 256, 8, layers=5)
right, found = runtime(made, x), opencv(made, x)
off = int(np.abs(right - found).max())
print(f"   five layers of SAME_UPPER: columns taken of 256: {right[0, 0, 0]}, by OpenCV {found[0, 0, 0]}")
sizes = []
for pad in ("SAME_UPPER", "SAME_LOWER"):
    made, x = model("ConvTranspose", pad, 8, 16), np.ones((1, 1, 8, 8), np.float32)
    sizes.append((runtime(made, x).shape[-1], opencv(made, x).shape[-1]))
print("   columns of ConvTranspose, by onnxruntime and by OpenCV:", *sizes)
pad = sys.argv[1]
assert differ == {(op, pad, 8) for op in ("Conv", "MaxPool", "AveragePool")}
assert off == (31 if pad == "SAME_UPPER" else 0)
assert sizes == [(16, 15)] * 2
PY
while read -r version pad; do
  venv/bin/pip install -q --disable-pip-version-check "opencv-python-headless==$version"
  echo "OpenCV $version"
  nice -n 10 venv/bin/python show.py "$pad" 2> said || { cat said; exit 1; }
  [ ! -s said ] || { echo "said: $(cat said)"; exit 1; }
done <<END
4.14.0.94 SAME_LOWER
5.0.0.93 SAME_UPPER
END
