"""One bar of every lane as a single kernel: ``env.compile``.

A compiled bar gives the bits of an eager one on a CPU. What a compiler would compute otherwise is
kept away from it: `log`.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from envs.checks import require

_LIBRARY = torch.library.Library("pricetaker", "DEF")
_LIBRARY.define("log(Tensor value) -> Tensor")
_LIBRARY.impl("log", torch.log, "CompositeExplicitAutograd")
_LIBRARY.impl("log", torch.empty_like, "Meta")


def log(value: Tensor) -> Tensor:
    """The logarithm of eager torch: a compiler has one of its own, with other last bits."""
    return torch.ops.pricetaker.log(value) if torch.compiler.is_compiling() else value.log()


def require_compiler(key: str, device: torch.device) -> None:
    """Refuse to compile for a CPU where torch would find no C++ compiler.

    Raises:
        ValueError: naming the key that asked for it.
    """
    if device.type == "cpu":
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        name = os.environ.get("CXX", usual)
        allowed = f"false, or a C++ compiler: there is no {name!r} here (CXX names another)"
        require(shutil.which(name) is not None, key, True, allowed)


class CompiledBar:
    """A function of tensors as one kernel, made at the first call for tensors like those alone.

    The function is exported and compiled as a whole: what `torch.compile` does at every call, to
    find out whether what it has compiled still holds, takes longer than a bar of a few lanes.

    Args:
        live: the function, from tensors to tensors by name. All that it reads besides must stay as
            it is, and its tensors' shapes and dtypes too.
        device: where it is going to compute.

    Raises:
        ValueError: if that is a CPU, and there is no C++ compiler.
    """

    def __init__(self, live: Callable[..., dict[str, Tensor]], device: torch.device) -> None:
        require_compiler("env.compile", device)
        self._live = live
        # One loop over the lanes, a lane at a time: vectors of doubles and masks are slower. Around
        # it C++, on a CPU, where Python would take longer than the loop.
        self._options = {
            "max_fusion_size": 2_000,
            "cpp.simdlen": 1,
            "cpp_wrapper": device.type == "cpu",
            # Multiplies and adds one after the other, as eager torch does: fused ones round once.
            "emulate_precision_casts": device.type == "cuda",
        }
        self._like: list[tuple[torch.dtype, torch.Size]] = []
        self._names: tuple[str, ...] = ()
        self._run: Callable[[list[Tensor]], Sequence[Tensor]] | None = None

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The function of contiguous tensors.

        Raises:
            ValueError: for tensors of other dtypes or shapes than the first ones, which a kernel
                would take for what they are not.
        """
        like = [(tensor.dtype, tensor.shape) for tensor in tensors]
        if self._run is None:
            self._like, self._run = like, self._compile(tensors)
        elif like != self._like:
            raise ValueError(f"env.compile: {like} is not allowed: {self._like}, as at first")
        return dict(zip(self._names, self._run(list(tensors)), strict=True))

    def _compile(self, tensors: tuple[Tensor, ...]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
        names: list[str] = []
        live = self._live

        class Bar(nn.Module):
            def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
                fields = live(*tensors)
                names[:] = fields
                return tuple(fields.values())

        graph = torch.export.export(Bar(), tensors).graph_module
        self._names = tuple(names)
        return _compile_graph(graph, list(tensors), self._options)


def _compile_graph(
    graph: fx.GraphModule, tensors: list[Tensor], options: dict[str, Any]
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """The kernel of a graph, without what torch wraps around it for graphs that are not so plain.

    A quarter of the time of a call for a few lanes was spent there.
    """
    # Importing it takes a second, which who does not compile is spared.
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    kept: list[Callable[[list[Tensor]], Sequence[Tensor]]] = []

    def keep(*args: Any, **kwargs: Any) -> Any:
        kept.append(compile_fx_inner(*args, **kwargs))
        return kept[-1]

    # What comes from that cache comes with its wrapping; kernels have another one.
    with torch._functorch.config.patch(enable_autograd_cache=False):
        compile_fx(graph, tensors, inner_compile=keep, config_patches=options)
    (kernel,) = kept
    return kernel
