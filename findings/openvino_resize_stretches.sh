#!/usr/bin/env bash
# ONNX's Resize, since opset 18, can keep the proportions of an image and can smooth what it makes smaller, as a
# model does that has its letterbox inside. OpenVINO 2026.4.1 leaves out both: told to fit 40×64 pixels into
# 32×32 it stretches them to 32×32 where 20×32 is right ("not_larger"; 32×51 with "not_smaller"), so that cells
# come out 1.6 times as high, and with antialias=1 an image of lines one pixel wide, made four times smaller, is
# empty. onnxruntime 1.32.0, onnx's evaluator and its shape inference agree. Nothing is said. (That antialias is
# left out is openvino issue 35893.) Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
cat > show.py <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator


def results(x, size, **options):
    """What onnxruntime and OpenVINO make of it, the first checked by what onnx has."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="linear", axes=[2, 3], **options)],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"])],
        [numpy_helper.from_array(np.array(size, np.int64), "size")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    right, = session.run(None, {"x": x})
    evaluated, = ReferenceEvaluator(made).run(None, {"x": x})
    inferred = shape_inference.infer_shapes(made, strict_mode=True, data_prop=True).graph.output[0].type.tensor_type
    assert [d.dim_value for d in inferred.shape.dim] == list(right.shape) == list(evaluated.shape)
    assert np.allclose(right, evaluated, atol=1e-5)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(made.SerializeToString()), "CPU")
    return right[0, 0], compiled({"x": x})[compiled.output(0)][0, 0]


def cell(image):
    rows, columns = np.nonzero(image > 0.5)
    return f"{np.ptp(rows) + 1}×{np.ptp(columns) + 1}"


image = np.zeros((1, 1, 40, 64), np.float32)
image[..., 10:30, 20:40] = 1  # a cell of 20×20
shapes = []
for policy in ("stretch", "not_larger", "not_smaller"):
    right, found = results(image, [32, 32], keep_aspect_ratio_policy=policy)
    shapes.append((right.shape, found.shape))
    print(f"   {policy}: by onnxruntime {right.shape}, the cell {cell(right)}; by OpenVINO {found.shape}, "
          f"{cell(found)}")
lines = np.zeros((1, 1, 64, 64), np.float32)
lines[..., ::4] = 1
sums = []
for antialias in (0, 1):
    right, found = results(lines, [16, 16], antialias=antialias)
    sums.append((round(float(right.mean()), 2), round(float(found.mean()), 2)))
    print(f"   lines of mean {lines.mean()}, antialias={antialias}: by onnxruntime {sums[-1][0]}, "
          f"by OpenVINO {sums[-1][1]}")
print(*(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "openvino")))
same = (32, 32)
sys.exit(shapes != [(same, same), ((20, 32), same), ((32, 51), same)] or sums[0] != (0, 0) or sums[1][0] < 0.2
         or sums[1][1] != 0)
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
