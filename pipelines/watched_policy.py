"""A policy whose failure on bad input is blamed on the input."""

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from modules.window import BarWindow
from pipelines.non_finite import find_non_finite, tensors_of
from pipelines.non_finite_error import NonFiniteError


class WatchedPolicy(TensorDictModuleBase):
    """Calls a policy; if that fails, looks for the number that is none.

    A sampler fails on a NaN without a word about where it came from. The look costs nothing as
    long as nothing fails.

    Args:
        module: the policy.
    """

    def __init__(self, module: TensorDictModuleBase) -> None:
        super().__init__()
        self.module = module
        self.in_keys, self.out_keys = module.in_keys, module.out_keys

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """As the policy.

        Raises:
            NonFiniteError: naming the observation or the parameter.
        """
        try:
            return self.module(tensordict)
        except (RuntimeError, ValueError) as error:
            inputs = tensors_of(tensordict)
            suspects = {f"observation {name}": inputs[name] for name in ("account", "ledger")}
            for module in self.module.modules():
                if isinstance(module, BarWindow):
                    suspects["observation window"] = module(inputs["bar"])
            suspects |= {name: value.detach() for name, value in self.module.named_parameters()}
            place = find_non_finite(suspects)
            if place is None:
                raise
            raise NonFiniteError(place, suspects) from error
