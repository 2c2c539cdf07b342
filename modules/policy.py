"""The policy as a graph of TensorDict modules.

Printed, it reads::

    bar -> window -> tokens -> market_state
    account -> account_state
    market_state, account_state -> agent_state -> logits of every head, state_value

Every TensorDict has a batch [..., K], K accounts on one path in the last dimension; see
:class:`modules.sharing.PerPath`.
"""

from collections import OrderedDict

from tensordict.nn import (
    CompositeDistribution,
    TensorDictModule,
    TensorDictModuleBase,
    TensorDictSequential,
)
from torch import Tensor
from torch.distributions import Categorical
from torchrl.modules import ActorValueOperator, ProbabilisticActor, ValueOperator
from torchrl.modules.tensordict_module import SafeProbabilisticTensorDictSequential

from modules.config import ModelConfig
from modules.context import ContextAttention
from modules.encoder import MarketEncoder
from modules.fusion import AccountProjection, Fusion
from modules.heads import ActionHeads, ValueHead
from modules.mlp import MlpEncoder
from modules.sharing import PerPath
from modules.streaming import StreamingContext, StreamingEncoder, split_lookback
from modules.window import BarWindow


def make_market_encoder(
    cfg: ModelConfig, *, num_features: int, window: int
) -> TensorDictSequential:
    """The market's half of the network, for windows of one's own.

    Args:
        cfg: the sizes.
        num_features: features of a bar.
        window: bars of a window.

    Returns:
        ``window`` float32 [B, window, num_features], normalised, to ``tokens``
        [B, window + 1, d_model] to ``market_state`` [B, d_model].
    """
    return TensorDictSequential(_encoder_modules(cfg, num_features, window))


def make_actor_value(
    cfg: ModelConfig,
    *,
    features: Tensor,
    loc: Tensor,
    scale: Tensor,
    window: int,
    num_actions: dict[str, int],
    num_account: int,
) -> ActorValueOperator:
    """Actor and critic on one trunk, which encodes a window once for all accounts of its path.

    Args:
        cfg: the sizes.
        features: float32 [bars, features], the table that ``bar`` points into.
        loc: float32 [features], the normaliser's mean.
        scale: float32 [features], the normaliser's standard deviation.
        window: bars that the network sees, the pointer's own the last.
        num_actions: categories of each action head, by name.
        num_account: columns of ``account``.

    Returns:
        From ``bar`` int64 [..., K, 1] and ``account`` float32 [..., K, num_account] to
        ``("action", head)`` int64 [..., K], ``("action", head + "_log_prob")`` float32 [..., K]
        and ``state_value`` float32 [..., K, 1]. `get_policy_operator`, `get_value_operator` and
        `get_value_head` are parts that share its parameters.

    Raises:
        ValueError: if the table, the normaliser and the window do not fit each other.
    """
    gather = BarWindow(features, loc, scale, window=window, clip=cfg.feature_clip)
    market = TensorDictSequential(
        OrderedDict(
            window=TensorDictModule(gather, ["bar"], ["window"]),
            **_encoder_modules(cfg, features.shape[1], window),
        )
    )
    trunk = TensorDictSequential(
        OrderedDict(
            market=PerPath(market, ["market_state"]),
            account=TensorDictModule(
                AccountProjection(num_account, cfg.account_dim), ["account"], ["account_state"]
            ),
            fusion=TensorDictModule(
                Fusion(cfg.d_model, cfg.account_dim, cfg.features_dim),
                ["market_state", "account_state"],
                ["agent_state"],
            ),
        )
    )
    actor = _make_actor(cfg.features_dim, num_actions)
    value = ValueOperator(ValueHead(cfg.features_dim), in_keys=["agent_state"])
    return ActorValueOperator(trunk, actor, value)


def make_collection_policy(
    model: ActorValueOperator,
    hindsight: TensorDictModuleBase | None = None,
    market: TensorDictModuleBase | None = None,
    *,
    with_logits: bool = False,
) -> TensorDictModuleBase:
    """What a rollout runs: actions, their log-probabilities and the value from one trunk forward.

    Nothing else is written, so that nothing else is stored; the parameters are the model's.

    Args:
        model: actor and critic.
        hindsight: a critic to run beside them, see :mod:`modules.hindsight`.
        market: writes ``market_state`` instead of the model's own encoder, if the model is one of
            `make_actor_value`.
        with_logits: write ``("params", head, "logits")`` too.
    """
    trunk, actor, value_head = model.module
    states = [trunk] if market is None else [market, *_after_market(trunk)]
    critics = [value_head] if hindsight is None else [value_head, hindsight]
    policy = SafeProbabilisticTensorDictSequential(*states, *critics, *actor.module)
    values = [key for critic in critics for key in critic.out_keys if str(key).endswith("_value")]
    values += ["params"] if with_logits else []
    return policy.select_out_keys(*policy.dist_sample_keys, *policy.log_prob_keys, *values)


def policy_after_market(model: ActorValueOperator) -> SafeProbabilisticTensorDictSequential:
    """The policy operator of `make_actor_value` without its encoder, from ``market_state`` on."""
    trunk, actor, _ = model.module
    return SafeProbabilisticTensorDictSequential(*_after_market(trunk), *actor.module)


def _after_market(trunk: TensorDictSequential) -> list[TensorDictModuleBase]:
    return [trunk.module["account"], trunk.module["fusion"]]


def market_encoder(model: ActorValueOperator) -> TensorDictSequential:
    """The model's own encoder, with its parameters: bar -> window -> tokens -> market_state.

    It takes a batch of paths, ``bar`` int64 [paths, 1]. Its
    ``select_subsequence(in_keys=["window"])`` starts at windows of one's own, which
    ``module["window"].module.normalise`` brings to the scale that the encoder was trained on.
    """
    return model.module[0].module["market"].module


def _encoder_modules(
    cfg: ModelConfig, num_features: int, window: int
) -> OrderedDict[str, TensorDictModule]:
    if cfg.encoder == "mlp":
        mlp = MlpEncoder(
            num_features,
            window,
            d_model=cfg.d_model,
            ff_dim=cfg.ff_dim,
            num_layers=cfg.num_layers,
        )
        return OrderedDict(encoder=TensorDictModule(mlp, ["window"], ["market_state"]))
    make = _streaming_parts if cfg.encoder == "streaming" else _windowed_parts
    encoder, context = make(cfg, num_features, window)
    return OrderedDict(
        encoder=TensorDictModule(encoder, ["window"], ["tokens"]),
        context=TensorDictModule(context, ["tokens"], ["market_state"]),
    )


def _windowed_parts(
    cfg: ModelConfig, num_features: int, window: int
) -> tuple[MarketEncoder, ContextAttention]:
    encoder = MarketEncoder(
        num_features,
        window,
        d_model=cfg.d_model,
        num_layers=cfg.num_layers,
        num_heads=cfg.num_heads,
        ff_dim=cfg.ff_dim,
    )
    context = ContextAttention(
        cfg.d_model,
        num_blocks=cfg.num_context_blocks,
        num_heads=cfg.num_heads,
        ff_dim=cfg.context_ff_dim,
    )
    return encoder, context


def _streaming_parts(
    cfg: ModelConfig, num_features: int, window: int
) -> tuple[StreamingEncoder, StreamingContext]:
    block, context = split_lookback(window, cfg.num_layers, cfg.num_context_blocks)
    if context and not cfg.num_context_blocks:
        raise ValueError(
            f"model.num_layers={cfg.num_layers!r} is not allowed: without context blocks a divisor "
            f"of {window - 1}, the bars of a window before its last; else not all of them are seen"
        )
    return StreamingEncoder(
        num_features,
        d_model=cfg.d_model,
        num_layers=cfg.num_layers,
        num_heads=cfg.num_heads,
        ff_dim=cfg.ff_dim,
        lookback=block,
    ), StreamingContext(
        cfg.d_model,
        num_blocks=cfg.num_context_blocks,
        num_heads=cfg.num_heads,
        ff_dim=cfg.context_ff_dim,
        lookback=context,
    )


def _make_actor(features_dim: int, num_actions: dict[str, int]) -> ProbabilisticActor:
    return ProbabilisticActor(
        TensorDictModule(ActionHeads(features_dim, num_actions), ["agent_state"], ["params"]),
        in_keys=["params"],
        distribution_class=CompositeDistribution,
        distribution_kwargs={
            "distribution_map": dict.fromkeys(num_actions, Categorical),
            "name_map": {head: ("action", head) for head in num_actions},
            # The checks read every tensor back to the host, which stalls an accelerator a dozen
            # times a forward; sampling from logits that are not finite still raises.
            "extra_kwargs": {head: {"validate_args": False} for head in num_actions},
        },
        return_log_prob=True,
    )
