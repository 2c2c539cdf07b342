"""The loss against a PPO written out by hand, head by head."""

import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch.nn.functional import log_softmax

from modules.config import ModelConfig
from modules.policy import make_actor_value, make_collection_policy
from pipelines.loss import PolicyLoss
from pipelines.loss_config import LossConfig

HEADS = {"direction": 3, "size": 4, "stop_loss": 5, "take_profit": 4}
ITEMS, ACCOUNTS, WINDOW, NUM_ACCOUNT = 40, 3, 4, 8
SCALE = 2.5
COEFFICIENTS = {"direction": 0.05, "size": 0.01, "stop_loss": 0.02, "take_profit": 0.03}


def make_model():
    torch.manual_seed(0)
    model = make_actor_value(
        ModelConfig(encoder="mlp", d_model=8, ff_dim=8, account_dim=8, features_dim=8, num_heads=1),
        features=torch.randn(60, 3),
        loc=torch.zeros(3),
        scale=torch.ones(3),
        window=WINDOW,
        num_actions=HEADS,
        num_account=NUM_ACCOUNT,
    )
    with torch.no_grad():
        model.get_policy_head()[0].module.linear.weight.mul_(100.0)
        model.get_value_head().module.linear.weight.normal_()
    return model


def make_batch(model):
    """Items as a learner has them, the old policy a little different from the model."""
    torch.manual_seed(1)
    batch = TensorDict(
        {
            "bar": torch.randint(WINDOW, 60, (ITEMS, 1, 1)).expand(ITEMS, ACCOUNTS, 1).clone(),
            "account": torch.randn(ITEMS, ACCOUNTS, NUM_ACCOUNT),
        },
        [ITEMS, ACCOUNTS],
    )
    with torch.no_grad():
        batch = make_collection_policy(model)(batch)
    for head in HEADS:
        batch["action", f"{head}_log_prob"] += 0.15 * torch.randn(ITEMS, ACCOUNTS)
    batch["state_value"] += 0.5 * torch.randn(ITEMS, ACCOUNTS, 1)
    batch["advantage"], batch["value_target"] = torch.randn(2, ITEMS, ACCOUNTS, 1)
    batch["next", "head_used"] = torch.rand(ITEMS, ACCOUNTS, len(HEADS)) < 0.6
    return batch


def by_hand(model, batch, cfg: LossConfig):
    """Every term from logits and values, with sums over heads written as a loop over lanes."""
    agent = model.module[0](batch.clone())["agent_state"].flatten(0, 1)
    flat = batch.flatten(0, 1)
    logits = model.get_policy_head()[0].module.linear(agent).split(list(HEADS.values()), -1)
    log_ratio, bonus = 0.0, 0.0
    for i, (head, scores) in enumerate(zip(HEADS, logits, strict=True)):
        log_p = log_softmax(scores, -1)
        new = log_p.gather(-1, flat["action", head][:, None])[:, 0]
        counts = flat["next", "head_used"][:, i].float() if cfg.mask_unused_heads else 1.0
        log_ratio = log_ratio + counts * (new - flat["action", f"{head}_log_prob"])
        bonus = bonus + cfg.entropy_coeff[head] * counts * -(log_p.exp() * log_p).sum(-1)
    advantage = flat["advantage"][:, 0]
    if cfg.normalize_advantage:
        advantage = (advantage - advantage.mean()) / advantage.std()
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - cfg.clip_epsilon, 1.0 + cfg.clip_epsilon)
    value = model.get_value_head().module(agent)[:, 0] / SCALE
    old, target = flat["state_value"][:, 0] / SCALE, flat["value_target"][:, 0] / SCALE
    miss = (value - target).square()
    if cfg.clip_value is not None:
        near = old + (value - old).clamp(-cfg.clip_value, cfg.clip_value)
        miss = torch.maximum(miss, (near - target).square())
    return {
        "loss_objective": -torch.minimum(ratio * advantage, clipped * advantage).mean(),
        "loss_entropy": -bonus.mean(),
        "loss_critic": cfg.value_coeff * miss.mean(),
    }


def make_loss(model, cfg):
    loss = PolicyLoss(model.get_policy_operator(), model.get_value_head(), cfg)
    loss.value_scale.fill_(SCALE)
    return loss


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("clip_value", [0.2, None])
def test_losses_and_gradients_equal_those_written_by_hand(mask, clip_value):
    cfg = LossConfig(mask_unused_heads=mask, clip_value=clip_value, entropy_coeff=COEFFICIENTS)
    model = make_model()
    batch = make_batch(model)
    gradients = {}
    for name, terms in {
        "hand": lambda: by_hand(model, batch, cfg),
        "ours": lambda: make_loss(model, cfg)(batch),
    }.items():
        model.zero_grad()
        values = terms()
        losses = {key: values[key] for key in ("loss_objective", "loss_entropy", "loss_critic")}
        sum(losses.values()).backward()
        gradients[name] = losses, {n: p.grad.clone() for n, p in model.named_parameters()}
    (hand, hand_grad), (ours, ours_grad) = gradients["hand"], gradients["ours"]
    for key, value in hand.items():
        torch.testing.assert_close(ours[key], value, atol=1e-6, rtol=1e-6)
    for key, value in hand_grad.items():
        torch.testing.assert_close(ours_grad[key], value, atol=1e-6, rtol=1e-5)
        assert value.abs().sum() > 0, f"{key} is not tested: its gradient is 0"


def test_a_critic_that_sees_the_future_is_trained_beside_the_models_own():
    """A replay has no future: its value is the model's own, which the baseline must not stop."""
    model, cfg = make_model(), LossConfig(clip_value=None)
    batch = make_batch(model)
    torch.manual_seed(2)
    seer = TensorDictModule(torch.nn.Linear(NUM_ACCOUNT, 1), ["account"], ["hindsight_value"])
    batch["hindsight_value"] = seer(batch.clone())["hindsight_value"].detach()
    actor, head = model.get_policy_operator(), model.get_value_head()
    loss = PolicyLoss(actor, head, cfg, seer)
    loss.value_scale.fill_(SCALE)
    own = by_hand(model, batch, cfg)["loss_critic"]
    seen = (seer(batch.clone())["hindsight_value"] - batch["value_target"]) / SCALE
    hand = own + cfg.value_coeff * seen.square().mean()
    parameters = [*head.parameters(), *seer.parameters()]
    want = torch.autograd.grad(hand, parameters)
    ours = loss(batch)["loss_critic"]
    torch.testing.assert_close(ours, hand, atol=1e-6, rtol=1e-6)
    for got, expected in zip(torch.autograd.grad(ours, parameters), want, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_a_head_that_was_never_used_gets_no_gradient_and_the_others_do():
    model = make_model()
    batch = make_batch(model)
    batch["next", "head_used"][..., 1:] = False
    out = make_loss(model, LossConfig(mask_unused_heads=True))(batch)
    (out["loss_objective"] + out["loss_entropy"]).backward()
    gradient = model.get_policy_head()[0].module.linear.weight.grad
    assert gradient[:3].abs().sum() > 0
    assert gradient[3:].abs().sum() == 0


def test_what_an_unused_head_chose_changes_nothing():
    model = make_model()
    batch = make_batch(model)
    other = batch.clone()
    unused = ~batch["next", "head_used"]
    for i, head in enumerate(HEADS):
        drawn = torch.randint(HEADS[head], (ITEMS, ACCOUNTS))
        other["action", head] = torch.where(unused[..., i], drawn, batch["action", head])
        other["action", f"{head}_log_prob"][unused[..., i]] = -math.log(7.0)
    loss = make_loss(model, LossConfig(mask_unused_heads=True))
    one, two = loss(batch), loss(other)
    for key in ("loss_objective", "loss_entropy", "loss_critic"):
        torch.testing.assert_close(one[key], two[key], atol=0, rtol=0)


def test_the_entropies_reported_are_those_of_the_used_heads():
    model = make_model()
    batch = make_batch(model)
    loss = make_loss(model, LossConfig(mask_unused_heads=True))
    reported = loss.entropies(loss(batch), batch)
    plain = make_loss(model, LossConfig(mask_unused_heads=False))(batch)["composite_entropy"]
    for i, head in enumerate(HEADS):
        used = batch["next", "head_used"][..., i]
        expected = plain["action", f"{head}_entropy"][..., 0][used].mean()
        torch.testing.assert_close(reported[f"entropy_{head}"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip_epsilon": 0.0}, "loss.clip_epsilon=0.0"),
        ({"clip_value": -1.0}, "loss.clip_value=-1.0"),
        ({"value_coeff": -0.1}, "loss.value_coeff=-0.1"),
        ({"entropy_coeff": COEFFICIENTS | {"size": float("nan")}}, "loss.entropy_coeff.size=nan"),
        ({"entropy_coeff": {"size": 0.1}}, "one number for each of direction, size, stop_loss, "),
        ({"entropy_coeff": COEFFICIENTS | {"stop": 0.1}}, "'stop': 0.1} is not allowed"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        LossConfig(**changes)
