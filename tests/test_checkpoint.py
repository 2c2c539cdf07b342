"""Checkpoints: what comes back is what was saved, or an error that names the damaged file."""

import dataclasses
import hashlib
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.bar_table import BarTable
from envs.observation import NUM_ACCOUNT
from forged_checkpoint import rehash
from modules.policy import make_actor_value
from pipelines.checkpoint import describe, load_checkpoint, save_checkpoint
from pipelines.config import compose_config
from pipelines.initial_weights import bar_notes, find_initial_weights
from pipelines.number_text import duration
from pipelines.snapshot import join_optimizer, split_optimizer

FILES = ["manifest.json", "manifest.sha256", "model.safetensors", "optimizer.safetensors"]


@pytest.fixture(scope="module")
def cfg():
    return compose_config("ppo_transformer", ["model=tiny", "env.window=8"])


@pytest.fixture(scope="module")
def table():
    close = 100 + np.arange(100) / 10
    features = np.random.default_rng(0).normal(3, 2, (100, 5))
    return BarTable.from_arrays(np.stack([close] * 4 + [close], 1), features=features)


def make_model(cfg, table, seed):
    torch.manual_seed(seed)
    return make_actor_value(
        cfg.model,
        features=table.features,
        loc=table.loc,
        scale=table.scale,
        window=cfg.env.window,
        num_actions=cfg.env.num_actions,
        num_account=NUM_ACCOUNT,
    )


def trained(cfg, table, seed=0):
    """A model and its optimiser after one step."""
    model = make_model(cfg, table, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum((p**2).sum() for p in model.parameters()).backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory, cfg, table):
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    model, optimizer = trained(cfg, table)
    tensors, groups = split_optimizer(optimizer)
    save_checkpoint(
        folder,
        about=describe(cfg, table),
        tensors={"model": model.state_dict(), "optimizer": tensors},
        values={"frames": 4096, "optimizer": groups},
    )
    return folder, model, optimizer


def same(a, b):
    return a.dtype == b.dtype and torch.equal(a, b)


def test_weights_normaliser_and_optimiser_come_back_bit_for_bit(saved, cfg, table):
    folder, model, optimizer = saved
    checkpoint = load_checkpoint(folder)
    other = make_model(cfg, table, seed=1)
    for name, buffer in other.named_buffers():
        if name.endswith(("loc", "scale")):
            buffer.fill_(7.0)
    checkpoint.load_model_state(other)
    for (name, value), (_, got) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert same(value, got), name
    assert any(same(value, table.loc) for value in checkpoint.model.values())
    fresh = torch.optim.AdamW(other.parameters(), lr=1.0)
    join_optimizer(fresh, checkpoint.tensors["optimizer"], checkpoint.values["optimizer"])
    assert fresh.param_groups[0]["lr"] == 1e-3
    for key, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert same(value, fresh.state_dict()["state"][key][name])


def test_the_manifest_says_what_was_trained_on_what_by_which_code(saved, cfg, table):
    folder, _, _ = saved
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config == cfg
    m = checkpoint.manifest
    assert m["values"]["frames"] == 4096
    assert m["features"] == table.meta.feature_names
    assert m["actions"]["stop_loss"][:2] == [25.0, 50.0]
    assert m["data"]["sha256"] == table.meta.source_sha256
    assert m["versions"]["torch"] == torch.__version__
    assert "git_revision" in m
    for name, digest in m["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_folder_holds_nothing_else_and_nothing_unfinished_lies_beside_it(saved):
    folder, _, _ = saved
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]
    assert subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=folder).returncode == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "missing"])
def test_every_damage_is_refused_with_the_file(saved, tmp_path, name, damage):
    folder, _, _ = saved
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    data = bytearray((copy / name).read_bytes())
    rng = np.random.default_rng(0)
    spots = rng.integers(0, len(data), 5) if damage == "flip" else [0]
    for spot in spots:
        hurt = bytearray(data)
        hurt[spot] ^= 1 << int(rng.integers(8))
        changed = {"flip": hurt, "cut": data[:-1], "grow": data + b" ", "empty": b""}
        if damage == "missing":
            (copy / name).unlink()
            with pytest.raises(FileNotFoundError, match=name):
                load_checkpoint(copy)
        else:
            (copy / name).write_bytes(changed[damage])
            with pytest.raises(ValueError, match=rf"{name}: damaged|{name} is"):
                load_checkpoint(copy)


def rewrite(folder, copy, change):
    """A checkpoint whose hashes are right and whose manifest is another."""
    shutil.copytree(folder, copy)
    rehash(copy, change)
    return copy


def test_what_does_not_fit_is_refused(saved, tmp_path, cfg, table):
    folder, _, _ = saved

    def refused(name, change):
        return load_checkpoint(rewrite(folder, tmp_path / name, change))

    with pytest.raises(ValueError, match="format 99"):
        refused("a", lambda m: m.update(format=99))
    with pytest.raises(ValueError, match=r"env\.taker_fee_bps=0\.01"):
        refused("b", lambda m: m["config"]["env"].update(taker_fee_bps=0.01))
    with pytest.raises(ValueError, match=r"c: its configuration is not of this version: unk"):
        refused("c", lambda m: m["config"]["env"].update(new=1))
    with pytest.raises(ValueError, match="the actions meant something else"):
        refused("d", lambda m: m["actions"].update(stop_loss=[1.0]))
    with pytest.raises(ValueError, match=r"\$\{oc\.env:HOME\}"):
        refused("e", lambda m: m["config"].update(tag="${oc.env:HOME}"))
    with pytest.raises(ValueError, match=r"f: not a checkpoint.*'files'"):
        refused("f", lambda m: m.pop("files"))
    with pytest.raises(ValueError, match="g: not a checkpoint"):
        refused("g", lambda m: m.update(config=[]))
    spans = [
        None,
        "x",
        {},
        *({"trained": [times], "chosen": []} for times in (3, ["1"], ["a", "b"])),
    ]
    for number, seen in enumerate(spans):
        with pytest.raises(ValueError, match=r"not a checkpoint.*seen: .* spans of times"):
            refused(f"seen{number}", lambda m, seen=seen: m.update(seen=seen))
    checkpoint = load_checkpoint(folder)
    checkpoint.require_features(table.meta.feature_names)
    *known, last = table.meta.feature_names
    with pytest.raises(ValueError, match=f"features: missing are {last}; unknown to it are rsi$"):
        checkpoint.require_features([*known, "rsi"])
    with pytest.raises(ValueError, match=r"features: they stand in another order$"):
        checkpoint.require_features([last, *known])
    wide = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, features_dim=64))
    with pytest.raises(ValueError, match="holds another network: size mismatch") as told:
        checkpoint.load_model_state(make_model(wide, table, 0))
    assert "\n" not in str(told.value)
    for key in ("data", "features", "values"):
        with pytest.raises(ValueError, match="not a checkpoint"):
            refused(f"without {key}", lambda m, key=key: m.pop(key))
    with pytest.raises(ValueError, match=r"not a checkpoint.*'interval_s'"):
        refused("without length", lambda m: m["data"].pop("interval_s"))


def test_weights_of_another_network_begin_no_training(saved, cfg, table):
    """Heads that share out the same width otherwise have weights of the same shapes."""
    for section, key, value in (("model", "num_heads", 1), ("env", "window", 5)):
        part = getattr(cfg, section)
        changed = dataclasses.replace(part, **{key: value})
        then = f"another network: {section}.{key}: {getattr(part, key)} then, {value} now$"
        with pytest.raises(ValueError, match=then):
            find_initial_weights(saved[0], table, dataclasses.replace(cfg, **{section: changed}))
    env = dataclasses.replace(cfg.env, stop_steps=3, take_profit_r=[0.0, 1.0])
    then = r"env\.stop_steps: \d+ then, 3 now; number of env\.take_profit_r: \d then, 2 now$"
    with pytest.raises(ValueError, match=then):
        find_initial_weights(saved[0], table, dataclasses.replace(cfg, env=env))
    env = dataclasses.replace(cfg.env, take_profit_r=[r + 0.5 for r in cfg.env.take_profit_r])
    find_initial_weights(saved[0], table, dataclasses.replace(cfg, env=env))
    clipped = dataclasses.replace(cfg.model, feature_clip=3.0)
    find_initial_weights(saved[0], table, dataclasses.replace(cfg, model=clipped))


def test_weights_of_bars_of_another_length_are_said_to_be(saved, cfg, table):
    initial = find_initial_weights(saved[0], table, cfg)
    assert bar_notes(initial, table) == []
    hourly = dataclasses.replace(table.meta, interval_s=3_600.0)
    (told,) = bar_notes(initial, dataclasses.replace(table, meta=hourly))
    own = duration(table.meta.interval_s)
    assert told == f"! they were trained on bars of {own}, and these are of 1 h"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["window.module.scale", "bar_projection.weight"])
def test_numbers_that_are_none_are_no_policy(saved, tmp_path, cfg, table, name, value):
    """Their logits are none, of which the most likely index is said to be 0: a short."""
    known = load_checkpoint(saved[0])
    (key,) = (each for each in known.model if each.endswith(name))
    tensors = known.model | {key: known.model[key].clone()}
    tensors[key].view(-1)[1] = value
    save_checkpoint(tmp_path / "c", about=describe(cfg, table), tensors={"model": tensors})
    model = make_model(cfg, table, 1)
    before = {each: tensor.clone() for each, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"c: module.*{name} holds numbers that are none"):
        load_checkpoint(tmp_path / "c").load_model_state(model)
    assert all(same(tensor, before[each]) for each, tensor in model.state_dict().items())


def test_a_pickle_in_the_place_of_weights_is_not_run(saved, tmp_path):
    folder, _, _ = saved
    bomb = pickle.dumps(_Bomb(str(tmp_path / "ran")))

    def plant(manifest):
        (tmp_path / "copy" / "model.safetensors").write_bytes(bomb)
        manifest["files"]["model.safetensors"] = hashlib.sha256(bomb).hexdigest()

    with pytest.raises(ValueError, match="copy: not a checkpoint"):
        load_checkpoint(rewrite(folder, tmp_path / "copy", plant))
    assert not (tmp_path / "ran").exists()


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_is_never_overwritten(saved, cfg, table):
    folder, model, _ = saved
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError, match="checkpoint already"):
        save_checkpoint(folder, about=describe(cfg, table), tensors={"model": model.state_dict()})
    assert (folder / "manifest.json").read_bytes() == before


def test_a_full_disk_leaves_nothing_behind(saved, tmp_path, cfg, table):
    _, model, _ = saved
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(
                tmp_path / "checkpoint",
                about=describe(cfg, table),
                tensors={"model": model.state_dict()},
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# Writes a folder three times, and dies at the first, second and third file or folder it syncs.
KILLED = """
import os, sys, envs.durable
from pathlib import Path

blobs = {"a": b"x" * 1000, "manifest.json": b"y" * 1000}
sync = os.fsync
for last in (1, 2, 3):
    if os.fork() == 0:
        calls = []
        os.fsync = lambda descriptor: (
            os._exit(9) if len(calls) + 1 == last else calls.append(sync(descriptor))
        )
        envs.durable.write_folder(Path(sys.argv[1], str(last)), blobs)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
"""


def test_a_kill_at_any_sync_leaves_no_checkpoint_by_that_name(tmp_path):
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    subprocess.run(command, cwd=root, check=True)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 3
    assert all(name.endswith(".unfinished") for name in left)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "1")
