"""The state of an environment as flat tensors, in workers or not."""

from collections.abc import Mapping
from typing import Any

from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import ParallelEnv, TransformedEnv

from envs.workers import limit_answering

_SEPARATOR = "/"


def get_env_state(env: TransformedEnv) -> dict[str, Tensor]:
    """Clocks and generators of the market, by name; those of workers by ``worker0/...``.

    Raises:
        WorkerLostError: if a worker has died or does not answer.
    """
    with limit_answering(env.base_env):
        return _flatten(env.base_env.state_dict())


def set_env_state(env: TransformedEnv, state: Mapping[str, Tensor]) -> None:
    """Restore what `get_env_state` gave; the next step must get the tensordict of that moment.

    Raises:
        KeyError: if it is the state of another number of workers.
        RuntimeError: if it is the state of another environment.
    """
    base = env.base_env
    nested = _unflatten(state)
    if not isinstance(base, ParallelEnv):
        base.load_state_dict(nested)
        return
    if len(nested) != base.num_workers:
        raise KeyError(f"the state of {len(nested)} workers does not fit {base.num_workers}")
    base.load_state_dict(nested)
    # torchrl 0.14 leaves the flags up, and the next step would return the step before
    # (pytorch/rl#4341).
    for i in range(base.num_workers):
        base._shm_done_flags[i] = 0


def get_carrier(carrier: TensorDict) -> dict[str, Tensor]:
    """The tensors of what a collector carries from one step to the next, by their path."""
    flat = carrier.clone().flatten_keys(_SEPARATOR)
    return {str(name): value for name, value in flat.items() if isinstance(value, Tensor)}


def set_carrier(carrier: TensorDict, tensors: Mapping[str, Tensor]) -> None:
    """Write what `get_carrier` gave into a carrier of the same shape."""
    flat = TensorDict(dict(tensors), carrier.batch_size).unflatten_keys(_SEPARATOR)
    carrier.update(flat.to(carrier.device) if carrier.device is not None else flat)


def _flatten(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}{_SEPARATOR}")
        else:
            flat[prefix + name] = value.detach().cpu().clone()
    return flat


def _unflatten(state: Mapping[str, Tensor]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in state.items():
        *parents, name = path.split(_SEPARATOR)
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return nested
