#!/usr/bin/env bash
# onnx 1.23.2 has an evaluator of models in Python (onnx.reference.ReferenceEvaluator), by which others check theirs.
# Of two operators of detection networks it departs from what ONNX says. RoiAlign before opset 16 it reads half a
# feature to the left and above, as since opset 16: there "output_half_pixel" stands for the old way, onnx's own
# converter puts it in, and the evaluator has two answers for one model, before and after. MaxPool of stride 1 takes
# the four pads in another order: 2×2 padded below and to the right, as in tiny YOLO, makes 7×9 pixels of 8×8, where
# onnx's shape inference has 8×8, and with ceil_mode=1 it makes too many also of even pads. MaxPool of stride 2 with
# SAME_LOWER pads the odd row and column at the end, as SAME_UPPER does. onnxruntime 1.32.0 agrees with onnx's shapes
# and with plain loops in all of these. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > show.py <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference, version_converter
from onnx.reference import ReferenceEvaluator


def model(op, inputs, opset, **options):
    """A model of one node, and the shape that onnx infers."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *inputs], ["y"], **options)], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])],
        [numpy_helper.from_array(a, name) for name, a in inputs.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(made, full_check=True)
    inferred = shape_inference.infer_shapes(made, strict_mode=True).graph.output[0].type.tensor_type.shape.dim
    return made, tuple(d.dim_value for d in inferred)


def by_onnxruntime(made):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def by_evaluator(made):
    return ReferenceEvaluator(made).run(None, {"x": x})[0]


def same(a, b):
    return a.shape == b.shape and np.allclose(a, b, atol=1e-5)


print(*(f"{name} {version(name)}" for name in ("onnx", "onnxruntime")))

# RoiAlign. Features that say where they are: the first channel has the column, the second the row.
rows, columns = np.mgrid[:32, :32].astype(np.float32)
x = np.stack([columns, rows])[None]
inputs = {"boxes": np.array([[40, 48, 72, 68]], np.float32), "which": np.zeros(1, np.int64)}
options = dict(output_height=7, output_width=7, sampling_ratio=2, spatial_scale=0.25)
old, shape = model("RoiAlign", inputs, 15, **options)
middle = {who.__name__: [float(c.mean()) for c in who(old)[0]] for who in (by_onnxruntime, by_evaluator)}
print(f"RoiAlign, opset 15, a box whose middle is at 14, 14.5: {middle}")
assert np.allclose(middle["by_onnxruntime"], [14, 14.5], atol=1e-4)
assert np.allclose(middle["by_evaluator"], [13.5, 14], atol=1e-4)
converted = version_converter.convert_version(old, 16)
how = {a.name: helper.get_attribute_value(a) for a in converted.graph.node[0].attribute}
print(f"   converted to opset 16: {how['coordinate_transformation_mode']}, by the evaluator now",
      [float(c.mean()) for c in by_evaluator(converted)[0]])
assert how["coordinate_transformation_mode"] == b"output_half_pixel"
assert same(by_evaluator(converted), by_onnxruntime(converted)) and same(by_onnxruntime(converted), by_onnxruntime(old))
assert not same(by_evaluator(converted), by_evaluator(old))
for mode in ("half_pixel", "output_half_pixel"):
    new, shape = model("RoiAlign", inputs, 16, coordinate_transformation_mode=mode, **options)
    assert same(by_evaluator(new), by_onnxruntime(new))

# MaxPool
x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)


def pooled(kernel, stride, pads, size):
    out = np.empty((1, 1, *size), np.float32)
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * stride - pads[0], j * stride - pads[1]
            out[0, 0, i, j] = x[0, 0, max(top, 0):top + kernel, max(left, 0):left + kernel].max()
    return out


for kernel, stride, pads, ceil, wrong in (
    (2, 1, [0, 0, 1, 1], 0, (7, 9)), (3, 1, [1, 0, 1, 0], 0, (7, 7)), (3, 1, [1, 1, 1, 1], 1, (10, 10)),
    (3, 1, [1, 1, 1, 1], 0, None), (2, 2, [0, 0, 1, 1], 0, None), (3, 2, [1, 1, 1, 1], 1, None),
):
    made, shape = model("MaxPool", {}, 22, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, ceil_mode=ceil)
    right, found = by_onnxruntime(made), by_evaluator(made)
    print(f"MaxPool {kernel}×{kernel}, stride {stride}, pads {pads}, ceil_mode {ceil}: {right.shape[2:]}, "
          f"by the evaluator {found.shape[2:]}")
    assert right.shape == shape and same(right, pooled(kernel, stride, pads, shape[2:]))
    if wrong is None:
        assert same(found, right)
    else:
        assert found.shape[2:] == wrong != shape[2:]
for pad in ("SAME_UPPER", "SAME_LOWER"):
    made, shape = model("MaxPool", {}, 22, kernel_shape=[3, 3], strides=[2, 2], auto_pad=pad)
    begin, end = (0, 1) if pad == "SAME_UPPER" else (1, 0)
    assert same(by_onnxruntime(made), pooled(3, 2, [begin, begin, end, end], (4, 4)))
    at_end = same(by_evaluator(made), pooled(3, 2, [0, 0, 1, 1], (4, 4)))
    print(f"MaxPool 3×3, stride 2, {pad}: the evaluator pads at the {'end' if at_end else 'beginning'}")
    assert at_end
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
