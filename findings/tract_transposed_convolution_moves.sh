#!/usr/bin/env bash
# ONNX's ConvTranspose, which enlarges features in U-Nets and mask heads, can be given the size of its output
# (output_shape). What is too much is then cut off, half at the beginning and half at the end by ONNX's formula.
# tract 0.23.9 cuts all of it off at the end: made twice as large by kernels of 4×4 or 3×3, as is usual, images come
# out one pixel further right and down. After five layers of 4×4, from 4×4 pixels to 128×128, a peak is 31 pixels
# off along both axes. onnxruntime 1.32.0 and OpenVINO 2026.4.1 do as ONNX says. With the same cut given as pads,
# tract is right. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 tract==0.23.9 \
  numpy==2.4.6
cat > show.py <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import tract
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference


def by_onnxruntime(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def by_openvino(model, x):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU",
                                  {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"x": x})[compiled.output(0)]


def by_tract(model, x):
    Path("model.onnx").write_bytes(model.SerializeToString())
    loaded = tract.onnx().load("model.onnx")
    loaded.set_input_fact(0, ",".join(str(n) for n in x.shape) + ",f32")
    loaded.analyse()
    return loaded.into_model().into_runnable().run([x])[0].to_numpy()


def network(kernel, sizes, cut):
    """Transposed convolutions of stride 2, each of which makes an image of a size one of the next size."""
    nodes = []
    for i, (size, larger) in enumerate(zip(sizes, sizes[1:])):
        total = 2 * (size - 1) + len(kernel) - larger
        begin, end = total - total // 2, total // 2
        how = {"output_shape": [larger, larger]} if cut == "output_shape" else {"pads": [begin, begin, end, end]}
        nodes.append(helper.make_node("ConvTranspose", ["x" if i == 0 else f"x{i}", "kernel"],
                                      ["y" if i == len(sizes) - 2 else f"x{i + 1}"], strides=[2, 2], **how))
    shapes = [[1, 1, n, n] for n in (sizes[0], sizes[-1])]
    graph = helper.make_graph(
        nodes, "enlarge", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(kernel[None, None], "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return shape_inference.infer_shapes(model, strict_mode=True)


def by_formula(x, kernel, larger):
    """ONNX's: all that the kernel spreads, less what is too much, half of it at each end."""
    size, width = x.shape[-1], len(kernel)
    spread = np.zeros((2 * (size - 1) + width,) * 2, np.float32)
    for row in range(size):
        for column in range(size):
            spread[2 * row:2 * row + width, 2 * column:2 * column + width] += x[0, 0, row, column] * kernel
    total = len(spread) - larger
    begin = total - total // 2
    return spread[begin:begin + larger, begin:begin + larger]


print(*(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "openvino", "tract")))
x = np.random.default_rng(0).random((1, 1, 4, 4), np.float32)
seen = []
for width in (2, 3, 4):
    kernel = np.arange(1, width * width + 1, dtype=np.float32).reshape(width, width)
    right = by_formula(x, kernel, 8)
    for cut in ("output_shape", "pads"):
        if cut == "pads" and width == 3:
            continue  # one pixel too much: all at the beginning
        model = network(kernel, (4, 8), cut)
        assert np.allclose(by_onnxruntime(model, x)[0, 0], right, atol=1e-4)
        assert np.allclose(by_openvino(model, x)[0, 0], right, atol=1e-4)
        found = by_tract(model, x)[0, 0]
        if np.allclose(found, right, atol=1e-4):
            seen.append("right")
        elif found.shape == right.shape and np.allclose(found[1:, 1:], right[:-1, :-1], atol=1e-4):
            seen.append("one pixel further")
        else:
            seen.append("wrong")
        print(f"   4×4 to 8×8 by a kernel of {width}×{width}, cut by {cut}: by tract {seen[-1]}")
assert seen == ["right", "right", "one pixel further", "one pixel further", "right"]

weights = np.array([1, 3, 3, 1], np.float32) / 4
model = network(np.outer(weights, weights), (4, 8, 16, 32, 64, 128), "output_shape")
peak = np.zeros((1, 1, 4, 4), np.float32)
peak[0, 0, 1, 1] = 1
places = []
for run in (by_onnxruntime, by_openvino, by_tract):
    image = run(model, peak)[0, 0]
    axis = np.arange(128)
    places.append([round(float((image.sum(1 - k) * axis).sum() / image.sum()), 2) for k in (0, 1)])
    print(f"   after five layers, {run.__name__}: the middle of the peak is at {places[-1]}")
assert places[0] == places[1] and [b - a for a, b in zip(places[0], places[2])] == [31, 31]
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
