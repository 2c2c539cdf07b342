"""What a GPU does again and again, told to it once: a CUDA graph.

A policy's step, or a gradient of few windows, is hundreds of kernels of a few microseconds each,
and telling a GPU to start one takes as long. A graph starts all of them at once.
"""

from collections.abc import Callable, Iterable

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

# Calls before the one that is captured: kernels are compiled and chosen, and memory is laid out.
_WARM_UP = 3


class CudaGraph:
    """A function of a TensorDict, captured once and replayed on what later calls bring.

    Inputs of another batch size or of other shapes than the captured ones are computed as they
    were before. Nothing is read back in a call, so that a host may run ahead of its GPU.

    Args:
        live: from a TensorDict on a GPU to tensors by name. It asks the device for no number, moves
            nothing to it, and all else that it reads is changed in place, if at all.
        device: where it computes, whichever device is the current one.
        parameters: those whose gradients `live` writes.
    """

    def __init__(
        self,
        live: Callable[[TensorDictBase], dict[NestedKey, Tensor]],
        device: torch.device,
        parameters: Iterable[nn.Parameter] = (),
    ) -> None:
        self._live, self._device = live, device
        self._parameters = list(parameters)
        self._calls = 0
        # Not the stream of everything else, whose memory a graph must not know.
        self._stream = torch.cuda.Stream(device)
        self._like: dict[NestedKey, torch.Size] = {}

    def __call__(self, inputs: TensorDictBase) -> dict[NestedKey, Tensor]:
        """The function; its tensors belong to the caller.

        Raises:
            RuntimeError: if it cannot be captured, naming the key that does without.
        """
        like = {key: value.shape for key, value in inputs.items(True, True)}
        if not self._calls:
            self._like = like
        if like != self._like:
            return self._live(inputs)
        self._calls += 1
        # Streams are those of the current device: what runs on another one is not captured.
        with torch.cuda.device(self._device):
            if self._calls <= _WARM_UP:
                return self._warm_up(inputs)
            if self._calls == _WARM_UP + 1:
                self._capture(inputs)
            return self._replay(inputs)

    def _warm_up(self, inputs: TensorDictBase) -> dict[NestedKey, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._live(inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _capture(self, inputs: TensorDictBase) -> None:
        self._inputs = inputs.clone()
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph):
                self._outputs = self._live(self._inputs)
        except RuntimeError as error:
            raise RuntimeError(f"no CUDA graph; train.cuda_graph=false: {error}") from error
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _replay(self, inputs: TensorDictBase) -> dict[NestedKey, Tensor]:
        torch._foreach_copy_(
            [self._inputs[key] for key in self._like], [inputs[key] for key in self._like]
        )
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        outputs = {key: torch.empty_like(value) for key, value in self._outputs.items()}
        torch._foreach_copy_(list(outputs.values()), list(self._outputs.values()))
        return outputs
