from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import b2inst
from b2inst.benchmark import Benchmark, BenchmarkError, Sample, benchmark, to_text
from b2inst.benchmark.measure import gflops, peak_memory_mb
from b2inst.benchmark.stages import STAGES, TimedModel, Timing

PAIR = ("blendmask-tiny", "b2inst-blendmask-tiny")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who predicted, in order. Each prediction takes the milliseconds told by ``_took``."""
    order: list[str] = []

    def predict(self: TimedModel, sample: Sample) -> Timing:
        name = str(self.model.recipe["name"])
        order.append(name)
        taken = _took(name, int(sample.image[0, 0, 0]))
        seconds = dict.fromkeys(STAGES, 0.0) | {"backbone": taken, "RLE": 0.5 * taken}
        return Timing(seconds, detections=7, network_size=(96, 128))

    monkeypatch.setattr(TimedModel, "predict", predict)
    return order


def _took(name: str, i: int) -> float:
    """A drifting machine; the B2Inst takes 10 to 21 % more, image by image."""
    return 0.01 * (1 + i) * (1 + (0.10 + 0.01 * i) * name.startswith("b2inst"))


@pytest.fixture
def samples(sample: Callable[..., Sample]) -> list[Sample]:
    made = [sample(seed=i) for i in range(12)]
    for i, one in enumerate(made):
        one.image[0, 0, 0] = i
    return made


def test_models_take_turns_and_are_compared_image_by_image(
    calls: list[str], samples: list[Sample]
) -> None:
    result = benchmark(PAIR, samples=samples, detections=5, progress=False)
    timed = calls[2 + 2 * 3 :]  # after counting operations and three images of warm-up each
    pairs = [tuple(timed[i : i + 2]) for i in range(0, 24, 2)]
    assert pairs == [PAIR, PAIR[::-1]] * 6
    base, ours = (result.speed(name) for name in PAIR)
    expected = np.array([1.5e3 * _took(PAIR[0], i) for i in range(12)])
    assert base.median_ms == pytest.approx(np.median(expected))
    assert base.fps == pytest.approx(1e3 / np.median(expected))
    assert base.p90_ms == pytest.approx(np.percentile(expected, 90))
    assert base.stages_ms == pytest.approx(
        {"backbone": np.median(expected) / 1.5, "RLE": np.median(expected) / 3}
    )
    assert (ours.detections, ours.network_size) == (7, (96, 128))
    (overhead,) = result.overheads
    assert (overhead.baseline, overhead.model) == PAIR
    assert overhead.percent == pytest.approx(15.5)
    assert overhead.ratio == pytest.approx(1 / 1.155)
    # Ranks 3 and 10 of 12: a binomial of 12 fair coins is below 3 with probability 0.019.
    assert overhead.percent_ci95 == pytest.approx((12.0, 19.0))


def test_few_images_give_no_interval(calls: list[str], samples: list[Sample]) -> None:
    result = benchmark(PAIR, samples=samples[:4], detections=5, progress=False)
    (overhead,) = result.overheads
    assert overhead.percent_ci95 is None
    assert "too few images" in to_text(result)
    assert benchmark(PAIR[1:], samples=samples[:2], progress=False).overheads == []


@pytest.mark.parametrize(
    ("options", "compared"),
    [
        ({"attention_size": 5}, True),
        ({"scoring": []}, True),  # a baseline has none
        ({"scoring": ["iou"]}, False),
        ({"boundary": {}}, False),
        ({"refine": {"diffusion": {}}}, False),
    ],
)
def test_a_baseline_that_has_parts_of_b2inst_too_is_none(
    calls: list[str], samples: list[Sample], options: dict[str, Any], compared: bool
) -> None:
    result = benchmark(PAIR, samples=samples[:2], options=options, progress=False)
    assert [one.baseline for one in result.overheads] == [PAIR[0]] * compared
    text = to_text(result)
    assert text.splitlines()[1].endswith(f"own objects replace theirs; options: {options}")
    assert ("times its images/s" in text) == compared


def test_a_model_is_compared_with_each_weights_of_its_baseline(
    calls: list[str], samples: list[Sample], tmp_path: Path
) -> None:
    files = [str(tmp_path / f"{name}.safetensors") for name in ("short", "long")]
    for file in files:
        b2inst.save_model(b2inst.create_model(PAIR[0], num_classes=2), Path(file))
    result = benchmark([*files, PAIR[1]], samples=samples[:2], progress=False)
    pairs = [(one.model, one.baseline) for one in result.overheads]
    assert pairs == [(PAIR[1], file) for file in files]


def test_pairs_may_be_chosen(calls: list[str], samples: list[Sample]) -> None:
    result = benchmark(PAIR, samples=samples, pairs=[PAIR], progress=False)
    (overhead,) = result.overheads
    assert (overhead.model, overhead.baseline) == PAIR
    assert overhead.percent == pytest.approx(100 * (1 / 1.155 - 1), abs=0.01)


def test_more_and_less_time(calls: list[str], samples: list[Sample]) -> None:
    result = benchmark(PAIR, samples=samples, progress=False)
    assert "b2inst-blendmask-tiny takes 15.5 % more time than blendmask-tiny (" in to_text(result)
    (overhead,) = result.overheads
    faster = replace(overhead, percent=-0.14, percent_ci95=(-0.5, 0.2))
    text = to_text(replace(result, overheads=[faster]))
    assert "takes 0.1 % less time than blendmask-tiny (95 % interval -0.5 to +0.2): " in text


@pytest.fixture(scope="module")
def real() -> Benchmark:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    one = Sample(pixels, np.array([[8, 8, 40, 40]], np.float32))
    return benchmark(PAIR, samples=[one] * 2, size=(64, 96), detections=6, progress=False)


def test_what_is_measured_of_real_models(real: Benchmark) -> None:
    base, ours = (real.speed(name) for name in PAIR)
    for speed, name in ((base, PAIR[0]), (ours, PAIR[1])):
        model = b2inst.create_model(name, num_classes=80)
        assert speed.parameters == sum(p.numel() for p in model.parameters())
        assert speed.detections == 6
        assert speed.network_size == (64, 96)
        assert sum(speed.stages_ms.values()) == pytest.approx(speed.median_ms, rel=0.5)
        assert 0 < speed.gflops < 2
        assert 1 < speed.peak_memory_mb < 500
    assert set(ours.stages_ms) - set(base.stages_ms) == {"scoring"}
    # The boundary's branch, the wider coefficients and the scoring head cost operations.
    assert ours.gflops > 1.02 * base.gflops
    assert (real.device, real.dtype, real.images) == ("cpu", "float32", 2)
    assert real.stand_in_detections == 6


def test_text_and_json(real: Benchmark) -> None:
    text = to_text(real)
    lines = text.splitlines()
    assert "images: 2 (procedural scenes), one at a time; cpu, float32" in lines[0]
    assert "6 detections" in lines[1]
    assert all(name in lines[2] for name in PAIR)
    (scoring,) = (line for line in lines if line.startswith("  scoring"))
    assert scoring.split()[1] == "–"
    content = real.to_json()
    assert [entry["fps"] for entry in content["speeds"]] == [s.fps for s in real.speeds]
    assert content["overheads"][0]["baseline"] == PAIR[0]


def test_trained_weights_are_taken_as_they_are(
    tmp_path: Path, sample: Callable[..., Sample]
) -> None:
    torch.manual_seed(0)
    path = str(tmp_path / "model.safetensors")
    b2inst.save_model(b2inst.create_model("blendmask-tiny", num_classes=3), path)
    result = benchmark([path], samples=[sample()], options={"attention_size": 5}, progress=False)
    assert result.speed(path).detections == 0  # fresh weights find nothing
    assert result.stand_in_detections is None


def test_what_cannot_be_measured(sample: Callable[..., Sample]) -> None:
    one = [sample()]
    with pytest.raises(BenchmarkError, match="unknown model 'blendmask-huge'"):
        benchmark(["blendmask-huge"], samples=one)
    with pytest.raises(BenchmarkError, match="blendmask-tiny has no option wings"):
        benchmark(["blendmask-tiny"], options={"wings": 2}, samples=one)
    for name in ("m.onnx", "m.XML"):
        with pytest.raises(BenchmarkError, match=f"{name}: exported models cannot be timed by"):
            benchmark([f"runs/{name}"], samples=one)
    with pytest.raises(ValueError, match="device gpu: choose auto, cpu or cuda"):
        benchmark(["blendmask-tiny"], samples=one, device="gpu")


def test_operations_of_a_convolution_and_a_linear_layer() -> None:
    conv, linear = nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.Linear(100, 50)
    image, row = torch.zeros(2, 8, 32, 64), torch.zeros(7, 100)

    @torch.inference_mode()
    def work() -> None:
        conv(image)
        linear(row)

    multiply_adds = 2 * (16 * 16 * 32) * (8 * 9) + 7 * 50 * 100
    assert gflops(work) == pytest.approx(2e-9 * multiply_adds)


def test_peak_is_of_what_is_held_together() -> None:
    def work() -> None:
        one = torch.zeros(1_000_000)  # 4 MB
        two = torch.zeros(500_000)
        del one
        three = torch.zeros(1_000_000)
        del two, three

    assert peak_memory_mb(work, torch.device("cpu")) == pytest.approx(6.0, rel=0.01)


def test_the_profiler_prints_nothing() -> None:
    program = (
        "import torch; from b2inst.benchmark.measure import peak_memory_mb; "
        "peak_memory_mb(lambda: torch.zeros(9), torch.device('cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""
