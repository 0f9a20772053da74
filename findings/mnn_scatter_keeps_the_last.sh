#!/usr/bin/env bash
# In ONNX, ScatterElements and ScatterND can add, multiply or take the greatest or least of what meets in one place
# (reduction); as such PyTorch's scatter_add, index_add and scatter_reduce are exported, with which a network counts
# votes for centres, sums features over the pixels of each object, or adds up overlapping tiles. MNN 3.6.1 leaves the
# reduction out of ScatterElements, and of ScatterND too, and keeps the last value: four objects of 40, 60, 100 and 200
# pixels have 1 pixel each, their greatest features are those of their last pixels, and of overlapping tiles, whose sum
# is 2 where two lie, the last one remains. Without reduction, and with no place named twice in an image of zeros, it
# is right. onnxruntime 1.32.0 and onnx's evaluator do as ONNX says. mnnconvert and MNN say nothing. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 numpy==2.4.6
cat > show.py <<'PY'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from MNN import expr, nn
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def both(operator, base, places, values, **attributes):
    """What onnxruntime and MNN have, of base with values written at places."""
    node = helper.make_node(operator, ["base", "places", "values"], ["y"], **attributes)
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("values", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, base.shape)],
        [numpy_helper.from_array(base, "base"), numpy_helper.from_array(places, "places")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, {"values": values})[0]
    assert np.allclose(right, ReferenceEvaluator(model).run(None, {"values": values})[0], atol=1e-4)

    Path("model.onnx").write_bytes(model.SerializeToString())
    command = [str(Path(sys.executable).parent / "mnnconvert"), "-f", "ONNX", "--modelFile", "model.onnx",
               "--MNNModel", "model.mnn", "--bizCode", "test"]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Converted Success" in said.stdout
    assert not any(word in (said.stdout + said.stderr).lower() for word in ("reduction", "scatter", "not support"))
    network = nn.load_module_from_file("model.mnn", ["values"], ["y"])
    result, = network.forward([expr.const(values, list(values.shape), expr.NCHW, expr.float)])
    return right, np.array(result.read()).reshape(result.shape)


def rounded(values):
    return [round(float(v), 2) for v in values]


print(*(f"{name} {version(name)}" for name in ("MNN", "onnxruntime", "onnx")))
labels = np.repeat(np.arange(4), (40, 60, 100, 200)).astype(np.int64)
labels = np.random.default_rng(0).permutation(labels)
ones = np.ones(labels.size, np.float32)
features = np.random.default_rng(1).random(labels.size).astype(np.float32)
nothing = np.zeros(4, np.float32)
for operator, places, axis in (("ScatterElements", labels, {"axis": 0}), ("ScatterND", labels[:, None], {})):
    right, found = both(operator, nothing, places, ones, reduction="add", **axis)
    print(f"   {operator}, add: pixels of four objects by MNN {found.tolist()}, right is {right.tolist()}")
    assert right.tolist() == [40, 60, 100, 200] and found.tolist() == [1, 1, 1, 1]

right, found = both("ScatterElements", nothing, labels, features, axis=0, reduction="max")
last = [float(features[np.flatnonzero(labels == k)[-1]]) for k in range(4)]
print(f"   ScatterElements, max: greatest features {rounded(found)}, right is {rounded(right)}; those of the last "
      f"pixels {rounded(last)}")
assert np.allclose(found, last) and (right > found + 0.01).any()

tiles = np.concatenate([np.arange(0, 6), np.arange(4, 10)])[:, None].astype(np.int64)
right, found = both("ScatterND", np.zeros(10, np.float32), tiles, np.ones(12, np.float32), reduction="add")
print(f"   ScatterND, add: two tiles that overlap {found.tolist()}, right is {right.tolist()}")
assert right.tolist() == [1, 1, 1, 1, 2, 2, 1, 1, 1, 1] and found.tolist() == [1] * 10

once = np.array([3, 1, 0, 2], np.int64)
right, found = both("ScatterElements", nothing, once, features[:4], axis=0)
assert np.allclose(right, found)
right, found = both("ScatterElements", nothing, once, features[:4], axis=0, reduction="add")
assert np.allclose(right, found)
right, found = both("ScatterElements", nothing + 10, once, features[:4], axis=0, reduction="add")
print(f"   ScatterElements, add to tens, each place once: {rounded(found)}, right is {rounded(right)}")
assert np.allclose(right, found + 10)
PY
nice -n 10 venv/bin/python show.py > seen 2> said || { cat seen said; exit 1; }
grep -v "The device supports" seen
[ ! -s said ] || { cat said; exit 1; }
