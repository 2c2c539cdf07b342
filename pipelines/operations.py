"""How much is computed, and how near to what the machine can do.

Operations are those of matrix products, two for each multiply-add, as `FlopCounterMode` counts
them; the peak is that of one large product in the same process, by the library that the network
multiplies with.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchrl.modules import ActorValueOperator

from envs.observation import NUM_ACCOUNT
from modules.cpu_product import product
from modules.path_encoder import PathEncoder
from modules.policy import policy_after_market
from pipelines.precision import is_half

# Width of the product; on a GPU smaller ones are bound by launches.
_WIDTH = {"cpu": 1_024, "cuda": 8_192}
_COUNTED = 2  # rows of bars: what is counted grows with their number


def count_operations(
    model: ActorValueOperator, bars: Tensor, accounts: int, *, backward: bool = True
) -> float:
    """Operations of one pass through a model, forward and, unless told otherwise, backward.

    They are those of a CPU's products on every device: what a GPU multiplies beside them, to have
    rows that it likes, is no work done, and its fused kernels are not counted.

    Args:
        model: of `modules.policy.make_actor_value`, copied if it is not on a CPU; its parameters
            have no gradient afterwards.
        bars: int64 [N, C], pointers, each row C consecutive bars that are encoded together.
        accounts: on every bar.
        backward: whether to go back too.
    """
    counted = bars[:_COUNTED].cpu()
    if next(model.parameters()).device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    # The fused attention of a CPU is not counted, that of plain products is.
    with (
        torch.set_grad_enabled(backward),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        states = PathEncoder(model)(counted).flatten(0, 1)
        lanes = (len(states), accounts)
        account = torch.zeros(*lanes, NUM_ACCOUNT)
        items = TensorDict({"account": account}, lanes)
        items["market_state"] = states[:, None].expand(*lanes, -1)
        out = model.get_value_head()(policy_after_market(model)[:-1](items))
        heads = [value.float().sum() for value in out.values(True, True) if value.requires_grad]
        if backward:
            torch.stack(heads).sum().backward()
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) * len(bars) / len(counted)


def peak_flops(device: torch.device, precision: str, repeats: int = 3) -> float:
    """Operations a second of a large matrix product.

    Args:
        device: where.
        precision: of `pipelines.precision`.
        repeats: timings, of which the median counts.
    """
    multiply, flops = large_products(device, precision, 1)
    return flops / median_seconds(multiply, repeats, device)


def large_products(
    device: torch.device, precision: str, count: int
) -> tuple[Callable[[], None], float]:
    """Matrix products to call and to time, and the operations of one call.

    Args:
        device: where.
        precision: of `pipelines.precision`.
        count: of them in a call. The first finds its operands wherever other work has left them.
    """
    dtype = torch.bfloat16 if is_half(precision, device) else torch.float32
    width = _WIDTH[device.type]
    # Of numbers like those of a network: a GPU multiplies ones faster than it multiplies those.
    draw = torch.Generator(device=device).manual_seed(0)
    a = torch.randn(width, width, device=device, generator=draw).to(dtype)

    def multiply() -> None:
        for _ in range(count):
            product(a, a.t())

    return multiply, 2.0 * width**3 * count


def median_seconds(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Of one call, after one that is not counted."""
    return seconds_in_turns([work], repeats, device)[0]


def seconds_in_turns(
    works: Sequence[Callable[[], Any]], repeats: int, device: torch.device
) -> list[float]:
    """The median seconds of one call of each, after one that is not counted.

    In turns, so that a machine whose speed wanders does so for all of them alike.
    """
    times = [[seconds(work, device) for work in works] for _ in range(repeats + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of one call, with what a GPU has to do for it."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
