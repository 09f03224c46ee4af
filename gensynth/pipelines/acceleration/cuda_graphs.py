"""A function of tensors, recorded once for each of their shapes as a CUDA graph and replayed.

At small batches a GPU computes a model's kernels faster than Python can launch them one by one; a
graph launches all of them together.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

WARM_UPS = 3  # calls before a recording, in which libraries choose and allocate what they need
MOST_GRAPHS = 8  # recordings kept, the latest used


class Recording(NamedTuple):
    """A graph, the tensors it reads and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class Graphed:
    """`function(*tensors) -> tensor` without gradients, replayed on the GPU where the model is.

    Inside are the kernels of the model alone. Outside stay guidance, which works on the output, and
    the scheduler, whose state is in Python.

    Args:
        function: of tensors on that GPU; it waits for nothing there and reads only them and the
            model's weights.
        model: whose weights. They may change in place; where others take their places, or the
            model gets another configuration (`gensynth.linearize`), the graphs are recorded again.
    """

    def __init__(self, function: Callable[..., Tensor], model: ModelMixin):
        self.function, self.model = function, model
        self.recordings: dict[tuple[object, ...], Recording] = {}
        self.weights: list[int] = []
        self.config: dict[str, object] = {}

    def check_weights(self) -> None:
        """Forgets what was recorded of another model, or with weights in other places of memory."""
        weights = [tensor.data_ptr() for tensor in self.model.parameters()]
        weights += [tensor.data_ptr() for tensor in self.model.buffers()]
        config = dict(self.model.config)
        if (weights, config) != (self.weights, self.config):
            self.recordings.clear()
            self.weights, self.config = weights, config

    def __call__(self, *tensors: Tensor) -> Tensor:
        """A new tensor with what `function` gives."""
        # A tensor made in inference mode cannot be written to outside of it.
        key = (torch.is_inference_mode_enabled(), *((t.shape, t.dtype) for t in tensors))
        recording = self.recordings.pop(key, None)
        if recording is None:
            while len(self.recordings) >= MOST_GRAPHS:
                self.recordings.pop(next(iter(self.recordings)))
            recording = self.record(tensors)
        self.recordings[key] = recording  # to the end: the first is the one not used for longest
        for own, given in zip(recording.inputs, tensors, strict=True):
            own.copy_(given)
        recording.graph.replay()
        return recording.output.clone()  # the next replay writes over it

    def record(self, tensors: tuple[Tensor, ...]) -> Recording:
        """The graph of a call with tensors like these."""
        inputs = tuple(tensor.clone() for tensor in tensors)
        device = inputs[0].device
        stream = torch.cuda.Stream(device)  # torch wants warm-ups apart from the main stream
        stream.wait_stream(torch.cuda.current_stream(device))  # the inputs are written there
        with torch.cuda.device(device), torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.function(*inputs)
        torch.cuda.current_stream(device).wait_stream(stream)  # no warm-up inside the recording
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            output = self.function(*inputs)
        return Recording(graph, inputs, output)
