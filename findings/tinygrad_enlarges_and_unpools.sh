#!/usr/bin/env bash
# tinygrad 0.14.0 runs ONNX models (tinygrad.nn.onnx.OnnxRunner). In operators by which networks make feature maps
# smaller and enlarge them again it departs from ONNX. MaxPool counts the places that it returns in each channel from
# 0, ONNX through all channels, and MaxUnpool, given ONNX's, leaves all channels but the first empty. ConvTranspose with
# auto_pad VALID, which is without padding, cuts the borders off: 16×16 pixels of 8×8 by a kernel of 4×4, not 18×18.
# Resize of the columns alone (axes) takes the height for the width: of an image of 4×16 pixels it reads the first four
# columns, stretched over the whole. Of an image in 8 bits (uint8) by "linear" it is wrong where neighbours differ by
# more than 127: at the border of a cell of 240 on 20 it has 249 and 11 for 185 and 75. Split into 3 of 7 rows has 3, 2
# and 2, ONNX 3, 3 and 1. onnxruntime 1.32.0 and onnx's evaluator agree in all of these. With both axes, in float32 and
# without auto_pad tinygrad is right. Nothing is said. Exits 1 if that changes. (On the device PYTHON, which needs no
# compiler.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check tinygrad==0.14.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > show.py <<'PY'
import itertools
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tinygrad import Device, Tensor
from tinygrad.nn.onnx import OnnxRunner

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}
names = (f"models/{n}.onnx" for n in itertools.count())
Path("models").mkdir()


def results(op, given, outputs, constants=(), inputs=None, **options):
    """The outputs of one node by onnxruntime, checked by onnx's evaluator, and by tinygrad."""
    constants = dict(constants)
    graph = helper.make_graph(
        [helper.make_node(op, inputs or [*given, *constants], [f"y{n}" for n in range(len(outputs))], **options)],
        "one", [helper.make_tensor_value_info(n, TYPES[str(a.dtype)], a.shape) for n, a in given.items()],
        [helper.make_tensor_value_info(f"y{n}", TYPES[t], [f"{n}_{k}" for k in range(rank)])
         for n, (t, rank) in enumerate(outputs)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, given)
    for a, b in zip(right, ReferenceEvaluator(made).run(None, given)):
        assert a.shape == b.shape and np.abs(a.astype(float) - b).max() <= (1 if a.dtype == np.uint8 else 1e-4)
    path = Path(next(names))
    path.write_bytes(made.SerializeToString())
    found = OnnxRunner(path)({n: Tensor(a) for n, a in given.items()})
    return right, [a.numpy() for a in found.values()]


def same(a, b):
    return all(p.shape == q.shape and np.allclose(p, q, atol=1e-4) for p, q in zip(a, b))


print(*(f"{name} {version(name)}" for name in ("tinygrad", "onnx", "onnxruntime")), "device", Device.DEFAULT)
rng = np.random.default_rng(0)
x = rng.random((1, 2, 4, 6), np.float32)

right, found = results("MaxPool", {"x": x}, [("float32", 4), ("int64", 4)], kernel_shape=[2, 2], strides=[2, 2])
assert np.array_equal(x.reshape(-1)[right[1]], right[0])  # ONNX's places, in all of x
assert np.array_equal(found[0], right[0])
print("MaxPool, places in channel 1:", right[1][0, 1, 0], "by tinygrad", found[1][0, 1, 0])
assert np.array_equal(found[1][0, 0], right[1][0, 0]) and np.array_equal(found[1][0, 1], right[1][0, 1] - 24)
pooled, places = right
right, found = results("MaxUnpool", {"x": pooled, "places": places}, [("float32", 4)], kernel_shape=[2, 2],
                       strides=[2, 2])
print("MaxUnpool of these, pixels above 0 in each channel:", (right[0][0] > 0).sum((1, 2)), "by tinygrad",
      (found[0][0] > 0).sum((1, 2)))
assert np.array_equal(np.sort(right[0][0, 1].reshape(-1))[-6:], np.sort(pooled[0, 1].reshape(-1)))
assert same([right[0][:, :1]], [found[0][:, :1]]) and not found[0][0, 1].any()

x = rng.random((1, 1, 8, 8), np.float32)
kernel = rng.random((1, 1, 4, 4), np.float32)
for pad in ("NOTSET", "SAME_UPPER", "VALID"):
    right, found = results("ConvTranspose", {"x": x}, [("float32", 4)], {"kernel": kernel}, strides=[2, 2],
                           auto_pad=pad)
    print(f"ConvTranspose {pad}: {right[0].shape[2:]}, by tinygrad {found[0].shape[2:]}")
    assert same(right, found) == (pad != "VALID")
assert right[0].shape[2:] == (18, 18) and same([right[0][..., 1:-1, 1:-1]], found)

x = np.tile(np.arange(16, dtype=np.float32), (1, 1, 4, 1))  # each pixel is the number of its column
for axes, sizes in (([2, 3], [4, 32]), ([3], [32])):
    right, found = results("Resize", {"x": x}, [("float32", 4)], {"sizes": np.array(sizes, np.int64)},
                           ["x", "", "", "sizes"], mode="linear", axes=axes)
    assert np.allclose(right[0], np.clip((np.arange(32) + 0.5) / 2 - 0.5, 0, 15))
    print(f"Resize of 16 columns to 32, axes {axes}: columns {right[0].min():.0f} to {right[0].max():.0f}, "
          f"by tinygrad {found[0].min():.0f} to {found[0].max():.0f}")
    assert same(right, found) == (len(axes) == 2) and found[0].max() == (15 if len(axes) == 2 else 3)

for kind, cell in (("float32", 240), ("uint8", 140), ("uint8", 240)):
    x = np.tile(np.array([20, cell, cell, 20], kind), (1, 1, 4, 1))
    right, found = results("Resize", {"x": x}, [(kind, 4)], {"sizes": np.array([1, 1, 8, 8], np.int64)},
                           ["x", "", "", "sizes"], mode="linear")
    print(f"Resize of a cell of {cell} on 20, {kind}: {right[0][0, 0, 0]}, by tinygrad {found[0][0, 0, 0]}")
    assert same(right, found) == ((kind, cell) != ("uint8", 240))
assert right[0][0, 0, 0].tolist() == [20, 75, 185, 240, 240, 185, 75, 20]
assert found[0][0, 0, 0].tolist() == [20, 11, 249, 240, 240, 249, 11, 20]

x = rng.random((7, 2), np.float32)
right, found = results("Split", {"x": x}, [("float32", 2)] * 3, num_outputs=3)
print("Split of 7 rows into 3:", [len(a) for a in right], "by tinygrad", [len(a) for a in found])
assert [len(a) for a in right] == [3, 3, 1] and [len(a) for a in found] == [3, 2, 2]
PY
DEV=PYTHON nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
