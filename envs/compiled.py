"""One bar of every lane as a single kernel: ``env.compile``.

A compiled bar gives the bits of an eager one on a CPU. What a compiler would compute otherwise is
kept away from it: `log`.
"""

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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


def compile_bar(live: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Compile a function of tensors whose shapes never change, when it is first called.

    Args:
        live: the function; whatever else it reads must stay as it is.
        device: where it is going to compute.

    Raises:
        ValueError: if that is a CPU, and there is no C++ compiler.
    """
    require_compiler("env.compile", device)

    def bar(*tensors: Tensor) -> Any:
        return live(*tensors)

    # torch keeps what it compiles with the code object, and at most eight forms of each.
    bar.__code__ = bar.__code__.replace()
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe,
        # One loop over the lanes, a lane at a time: vectors of doubles and masks are slower.
        "max_fusion_size": 2_000,
        "cpp.simdlen": 1,
    }
    return torch.compile(bar, fullgraph=True, dynamic=False, options=options)
