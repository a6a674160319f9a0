"""An identity model on LitServe: the port is the argument. Runs in that package's own environment."""

import sys

import litserve
import numpy as np
from fastapi import Request
from starlette.responses import Response


class Identity(litserve.LitAPI):
    """Takes a file of a form, which spares numbers as text, and answers with its bytes."""

    def setup(self, device):
        """Nothing to load."""

    def decode_request(self, request: Request):
        """Return the file as a tensor."""
        return np.frombuffer(request["x"].file.read(), np.float32).reshape(1, 3, 112, 112)

    def predict(self, x):
        """Return the tensor."""
        return x

    def encode_response(self, output):
        """Return its bytes as the body."""
        return Response(content=output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(Identity(), accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
