"""An identity model on MLServer, a runtime of its own; served by `mlserver start` in that package's own environment."""

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Identity(MLModel):
    """Answers each request with its input."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the input under the output's name."""
        x = payload.inputs[0]
        output = ResponseOutput(name="y", shape=x.shape, datatype=x.datatype, data=x.data, parameters=x.parameters)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
