"""What is captured once is replayed on what is there by then; on a CPU, with graphs of its own.

Such a graph notes every operation with its tensors, and does them again on the same memory: it
finds what is replaced rather than changed in place, and what asks the device for a number.
"""

import contextlib

import pytest
import torch
from tensordict import TensorDict
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torchrl.envs import ObservationNorm

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import account_norm, make_env
from envs.observation import NUM_ACCOUNT
from pipelines import learner, training
from pipelines.config import RunConfig
from pipelines.cuda_graph import CudaGraph
from pipelines.loss_config import LossConfig
from pipelines.model import make_model
from pipelines.non_finite_error import NonFiniteError
from pipelines.rollout_policy import RolloutPolicy
from pipelines.train_config import TrainConfig
from pipelines.training import Training
from small_networks import SHALLOW

ENV = EnvConfig(paths=4, accounts=3, workers=0, window=8, episode_bars=16, tick_size=0.01)
ASKING = ("local_scalar", "lift_fresh", "nonzero", "masked_select")
OTHER_LOSS = LossConfig(clip_value=0.2, mask_unused_heads=False, normalize_value=False)


class Tape(TorchDispatchMode):
    """Operations, with other names for the same memory: shapes may change in place."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.name(), kwargs or {}
        assert not any(word in name for word in ASKING), f"{name} asks the device"
        given = _renamed((args, kwargs))
        out = function(*args, **kwargs)
        self.operations.append((function, *given, _renamed(out)))
        return out


def _renamed(tree):
    return tree_map_only(torch.Tensor, torch.Tensor.detach, tree)


class Graph:
    """In place of a `torch.cuda.CUDAGraph`."""

    made = 0

    @torch.no_grad()
    def replay(self):
        """All operations once more, into the memory that they wrote at first."""
        for function, args, kwargs, out in self.tape.operations:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def capture(graph):
    graph.tape, state = Tape(), torch.get_rng_state()
    with graph.tape:
        yield
    torch.set_rng_state(state)  # a capture computes nothing, and draws nothing
    Graph.made += 1


class Nothing(contextlib.nullcontext):
    """In place of a stream: there is one."""

    def wait_stream(self, _):
        """It has not run ahead."""


@pytest.fixture
def graphs(monkeypatch):
    """Graphs of a CPU for whoever wants one of a GPU."""
    Graph.made = 0
    for name, value in {
        "Stream": Nothing,
        "stream": Nothing,
        "device": Nothing,
        "current_stream": Nothing,
        "CUDAGraph": Graph,
        "graph": capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)

    def graphed(*args, **kwargs):
        return RolloutPolicy(*args, **kwargs | {"is_graphed": True})

    class Graphed(learner.Learner):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            parameters = self.parameters.values()
            self._differentiate = CudaGraph(self.differentiate, self.device, parameters)

    def make(cfg, is_graphed):
        with monkeypatch.context() as patched:
            if is_graphed:
                patched.setattr(training, "RolloutPolicy", graphed)
                patched.setattr(training, "Learner", Graphed)
            torch.manual_seed(0)
            noise = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
            close = 100.0 * (4e-3 * noise).cumsum(0).exp()
            high, low = close * 1.002, close * 0.998
            table = BarTable.from_arrays(torch.stack([close, high, low, close, close], -1))
            market = make_env(table, ENV, record_fills=False)
            return Training(cfg, table, market, make_model(cfg.model, ENV, table))

    return make


def configure(encoder, loss=None, **keys):
    """Five iterations whose last minibatches are smaller than the others."""
    items = 3 * 16 if encoder == "streaming" else 24
    train = TrainConfig(steps=16, epochs=2, minibatch=items * ENV.accounts, **keys)
    frames = 5 * 16 * ENV.lanes
    loss = loss or LossConfig()
    return RunConfig(total_frames=frames, env=ENV, model=SHALLOW[encoder], train=train, loss=loss)


def assert_same(one, two):
    for group, tensors in one.items():
        for name, value in tensors.items():
            assert torch.equal(value, two[group][name]), f"{group} {name}"


@pytest.mark.parametrize("encoder", SHALLOW)
@pytest.mark.parametrize(
    ("loss", "keys"),
    [
        (LossConfig(), {"precision": "bfloat16"}),
        (OTHER_LOSS, {"hindsight_bars": 8, "target_kl": 1e-9, "lr_schedule": "linear"}),
    ],
)
def test_a_replayed_training_is_the_launched_one(encoder, loss, keys, graphs):
    cfg, results = configure(encoder, loss, **keys), []
    for is_graphed in (False, True):
        made = graphs(cfg, is_graphed)
        results.append([float(each.stats["train/loss"]) for each in made])
        results.append(made.snapshot().tensors)
    assert Graph.made == 2
    assert results[0] == results[2]
    assert_same(results[1], results[3])


def test_graphs_go_on_with_what_was_restored(graphs):
    """Weights, moments, the scale of values and hindsight's: those of the checkpoint, in place."""
    cfg, results = configure("mlp", hindsight_bars=8, lr_schedule="cosine"), []
    for is_graphed in (False, True):
        made = graphs(cfg, is_graphed)
        iterations = iter(made)
        next(iterations), next(iterations)
        kept = made.snapshot()
        next(iterations)
        made.restore(kept.tensors, kept.values)
        next(iterations), next(iterations)
        results.append(made.snapshot().tensors)
    assert Graph.made == 2
    assert_same(*results)


def test_a_replayed_gradient_that_is_none_is_found_and_takes_no_step(graphs):
    cfg = configure("mlp")
    replayed = graphs(cfg, True)
    rollout = next(iter(replayed)).rollout.clone()
    before = replayed.snapshot().tensors["model"]
    teacher = replayed.learner
    advantage = teacher.advantage

    def overflow(batch):
        advantage(batch)
        batch["advantage"].fill_(1e30)
        batch["value_target"].fill_(1e30)

    teacher.advantage = overflow
    teacher.value_heads = []
    assert Graph.made == 2
    with pytest.raises(NonFiniteError):
        teacher.update(rollout)
    for name, value in replayed.snapshot().tensors["model"].items():
        assert torch.equal(value, before[name]), name


def test_everything_happens_on_the_device_of_the_tensors(graphs, monkeypatch):
    """On cuda:1 the streams of the current device, cuda:0, would capture nothing."""
    entered = []

    class Device(Nothing):
        def __enter__(self):
            entered.append(self.enter_result)

    monkeypatch.setattr(torch.cuda, "device", Device)
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or Nothing())
    there = torch.device("cuda", 1)
    graph = CudaGraph(lambda inputs: {"sum": inputs["x"].sum()}, there)
    for i in range(6):
        out = graph(TensorDict({"x": torch.full((3,), float(i))}, [3]))
        assert out["sum"] == 3 * i
    assert graph(TensorDict({"x": torch.ones(2)}, [2]))["sum"] == 2  # smaller: not from the graph
    assert made == [there]
    assert entered == [there] * 6


def test_what_cannot_be_captured_names_the_key_that_does_without(graphs, monkeypatch):
    @contextlib.contextmanager
    def refuse(_):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run = CudaGraph(lambda inputs: {"twice": 2 * inputs["x"]}, torch.device("cpu"))
    inputs = TensorDict({"x": torch.ones(3)}, [3])
    for _ in range(3):
        assert torch.equal(run(inputs)["twice"], torch.full((3,), 2.0))
    with pytest.raises(RuntimeError, match=r"train\.cuda_graph=false: operation not permitted"):
        run(inputs)


def test_an_account_is_scaled_without_asking_the_device():
    """Though torchrl's transform asks at every step which of two formulas it is."""
    state = TensorDict({"account": torch.randn(2, 3, NUM_ACCOUNT)}, [2, 3])
    norm = account_norm(ENV)
    with Tape():
        scaled = norm(state.clone())["account"]
    theirs = ObservationNorm(
        loc=norm.loc, scale=norm.scale, in_keys=["account"], standard_normal=True
    )
    assert torch.equal(scaled, theirs(state.clone())["account"])
    with pytest.raises(AssertionError, match="asks the device"), Tape():
        theirs(state.clone())
