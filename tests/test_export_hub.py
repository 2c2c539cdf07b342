"""A model pushed to a hub by the hub's own client: nothing private, and the same actions back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from carried_run import SECRET, export, make_card, make_run
from envs.data_config import DataConfig
from pipelines.checkpoint import load_checkpoint
from pipelines.config import compose_config
from pipelines.evaluate import evaluate
from pipelines.export import main
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.held_out.rollout import play_tiles
from pipelines.refusal import plain_failures
from random_walk import write_bars

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def run(carried):
    return carried[0]


@pytest.fixture(scope="module")
def hub(local_hub):
    with local_hub.LocalHub().running() as running:
        yield running


@pytest.fixture
def environment(hub, local_hub, tmp_path):
    """Of a process whose hub is the local one, and that has no account but its own."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()
    }
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": local_hub.TOKEN}
    plain = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    return kept | ours | plain | {"PYTHONPATH": str(ROOT)}


# After the lines of the card: play the test bars, and keep what was done.
PLAYED = """
import torch
from pipelines.held_out.rollout import play_tiles
played = play_tiles(table, inputs.cfg, inputs.bounds, policy)
torch.save({k: v for k, v in played.batch["action"].items()}, "actions.pt")
"""


def test_pushed_and_loaded_by_the_lines_of_its_card_it_acts_as_before(
    run, hub, local_hub, environment, tmp_path
):
    done = export(f"run={run}", "hub=me/mine", env=environment)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/mine/commit/" in done.stdout
    assert local_hub.TOKEN not in done.stdout + done.stderr
    repository = hub.repositories["me/mine"]
    assert repository.visibility == "private"
    assert repository.messages == ["mine, checkpoint 000000002"]
    names = ("manifest.json", "manifest.sha256", "model.safetensors")
    best = {f"checkpoints/000000002/{name}" for name in names}
    assert set(repository.files) - {".gitattributes"} == {"README.md", *best}
    everything = b"".join(repository.files.values()).decode("utf-8", "replace")
    for private in (local_hub.TOKEN, SECRET, str(run.parent), "somebody", "0.step"):
        assert private not in everything

    lines = BLOCK.search(repository.files["README.md"].decode())[1]
    (tmp_path / "load.py").write_text(lines + PLAYED)
    (tmp_path / "bars.parquet").symlink_to(run.parent / "bars.parquet")
    command = [sys.executable, "load.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    there = torch.load(tmp_path / "actions.pt")
    inputs = load_inputs(
        run, data_path=None, split="test", episodes=None, device="cpu", checkpoint="best"
    )
    here = play_tiles(inputs.table, inputs.cfg, inputs.bounds, inputs.policy).batch["action"]
    assert set(there) == set(here.keys())
    for name, action in there.items():
        assert torch.equal(action, here[name]), name
    assert (tmp_path / "policy" / "checkpoints" / "000000002").is_dir()
    loaded = load_checkpoint(tmp_path / "policy" / "checkpoints" / "000000002")
    known = load_checkpoint(run / "checkpoints" / "000000002")
    assert all(torch.equal(loaded.model[name], value) for name, value in known.model.items())


# Each word: a token or nothing, a repository, and a checkpoint.
PUSHES = """
import os, sys
from pipelines.config import compose_config
from pipelines.export import main
from pipelines.refusal import plain_failures
run, *pushes = sys.argv[1:]
for push in pushes:
    token, repository, which = push.split(",")
    os.environ["HF_TOKEN"] = token
    words = [f"run={run}", f"hub={repository}", "public=true", f"checkpoints={which}"]
    try:
        with plain_failures():
            main(compose_config("export", words))
        print("pushed")
    except SystemExit as ended:
        print(ended.code)
"""


def test_pushed_twice_one_checkpoint_is_there_and_a_refusal_is_one_line(
    run, hub, local_hub, environment
):
    good, wrong = local_hub.TOKEN, "hf_WrongWrongWrong"
    pushes = [
        *(f"{good},me/twice,last", f"{good},me/twice,best", f"{wrong},me/other,best"),
        *(",me/other,best", f"{good},me/broken,best"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", PUSHES, str(run), *pushes],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    ended = [line for line in done.stdout.splitlines() if not line.startswith("http")]
    assert ended == ["pushed", "pushed", "2", "2", "6"], done.stderr
    repository = hub.repositories["me/twice"]
    iterations = {name.split("/")[1] for name in repository.files if name.count("/") == 2}
    assert iterations == {"000000002"}
    assert repository.visibility == "public"
    assert set(hub.repositories) <= {"me/mine", "me/twice"}
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert all("not allowed to write there: `hf auth login`" in line for line in errors[:2])
    assert errors[2].startswith("error: hub=me/broken: ")
    assert "Traceback" not in done.stderr
    assert not [token for token in (good, wrong) if token in done.stdout + done.stderr]


def test_without_the_client_it_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SystemExit) as ended, plain_failures():
        main(compose_config("export", [f"run={run}", "hub=me/mine"]))
    assert ended.value.code == 2
    assert "pip install -e '.[hub]'" in capsys.readouterr().err


def test_the_card_of_what_was_never_judged_says_so(run, tmp_path):
    text = make_card(run, tmp_path / "model")
    assert "**No verdict.** This policy was not evaluated" in text
    assert "Nothing follows from this for the future" in text
    manifest = load_checkpoint(run / "checkpoints" / "000000002").manifest
    for known in (manifest["data"]["sha256"], manifest["config_sha256"], "2025-01-01T00:00:00"):
        assert known in text
    assert "bars.parquet" in text
    assert "the TensorDicts of `envs.factory.make_env`, whose accounts are on the scale" in text
    assert str(run.parent) not in text
    with pytest.raises(SystemExit):
        make_card(run, tmp_path / "model")


def test_the_card_of_a_made_market_promises_no_file_of_bars(tmp_path):
    text = make_card(make_run(tmp_path / "made", None), tmp_path / "model")
    assert "`init_from=policy` begins a training on such a market" in text
    assert "data.path" not in text


def test_the_card_holds_the_verdict_of_this_checkpoint_and_of_no_other(tmp_path, capsys):
    run = make_run(tmp_path / "r|un*", write_bars(tmp_path / "b.parquet"))
    evaluate([run], draws=20, registry=tmp_path / "openings.jsonl")
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    text = make_card(run, tmp_path / "best")
    assert f"**Verdict: {found['verdict']['word']}.**" in text
    assert "# r\\|un\\*" in text
    total = found["accounts"]["policy"]["equity"]["total_return_fraction"]
    row = next(line for line in text.splitlines() if line.startswith("| policy |"))
    assert f"{100 * total:+,.2f} %" in row
    assert ": 1 look at these bars, 0 before this one, and 1 trial." in text
    assert "is another checkpoint" in make_card(run, tmp_path / "last", "checkpoints=last")
    assert "Verdict" not in make_card(run, tmp_path / "again", "checkpoints=last")

    hostile = "</td><script>alert(1)</script>|**x**\n# Buy"
    found["verdict"]["word"] = hostile
    found["bars"]["first_bar"] = hostile
    found["bars"]["days"] = 4_388.0
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(found))
    text = make_card(run, tmp_path / "hostile")
    assert "<script>" not in text
    assert "\n# Buy" not in text
    assert " UTC, 4,388 days; counted since" in text  # as its reasons have it
    found["looks"] = None
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit):
        make_card(run, tmp_path / "broken")
    assert "not an evaluation" in capsys.readouterr().err


def test_the_card_of_a_policy_that_never_traded_says_nothing_of_its_trades(tmp_path):
    run = make_run(tmp_path / "r", write_bars(tmp_path / "b.parquet"))
    evaluate([run], draws=20, registry=tmp_path / "openings.jsonl")
    told = "Its own trades at times that it did not choose"
    for moved in (True, False):
        found = json.loads((run / "evaluation" / "evaluation.json").read_text())
        found["verdict"]["findings"]["moved"] = moved
        found["verdict"]["reasons"] = []
        (run / "evaluation" / "evaluation.json").write_text(json.dumps(found))
        assert (told in make_card(run, tmp_path / f"{moved}")) == moved


def test_a_model_is_a_run_without_bars_that_others_begin_with(run, tmp_path):
    make_card(run, tmp_path / "model")
    inputs = load_inputs(
        tmp_path / "model", data_path=str(run.parent / "bars.parquet"), split="val", episodes=1,
        device="cpu",
    )  # fmt: skip
    assert inputs.notes == ["In-sample: the policy was chosen on the time of 24 of these 24 bars."]
    assert inputs.trained.data == DataConfig(path="bars.parquet", train_frac=0.4, val_frac=0.1)
    assert inputs.trained.init_from == "first"
