"""An identity model on nvidia-pytriton: HTTP and gRPC ports are the arguments. Runs in its own environment."""

import sys

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def identity(requests):
    """Answer each request with its input."""
    return [{"y": request["x"]} for request in requests]


if __name__ == "__main__":
    http_port, grpc_port = map(int, sys.argv[1:3])
    config = TritonConfig(http_port=http_port, grpc_port=grpc_port, http_address="127.0.0.1", allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="identity",
            infer_func=identity,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(1, 3, 112, 112))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(1, 3, 112, 112))],
            config=ModelConfig(batching=False),
            strict=False,
        )
        triton.serve()
