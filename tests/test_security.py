"""What comes from outside is data: hostile files and words, and none of them is executed."""

import ast
import gzip
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.bar_table import BarTable
from envs.data_config import DataConfig
from envs.table import build_table
from envs.trace_reader import read_trace
from forged_checkpoint import rehash, write_manifest
from pipelines.benchmarks.faults_run import SMALL, Victim
from pipelines.checkpoint import load_checkpoint
from pipelines.config import compose_config
from pipelines.run_folder import list_checkpoints

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("envs", "modules", "pipelines", "configs")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "victim"
    victim = Victim(folder, "total_frames=256")
    assert victim.finish() == 0, victim.said()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run to be made hostile, the newest checkpoint in it, and what must not be."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder, list_checkpoints(folder / "checkpoints")[-1], tmp_path / "executed"


def load_hostile(checkpoint):
    with pytest.raises((ValueError, OSError)):
        load_checkpoint(checkpoint)


def weights_that_are_a_pickle(folder, checkpoint, executed):
    (checkpoint / "model.safetensors").write_bytes(pickle.dumps(Bomb(executed)))
    rehash(checkpoint)
    load_hostile(checkpoint)


def weights_with_an_endless_header(folder, checkpoint, executed):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    rehash(checkpoint)
    load_hostile(checkpoint)


def a_manifest_that_points_outside(folder, checkpoint, executed):
    outside = folder.parent / "outside.safetensors"
    shutil.copy(checkpoint / "model.safetensors", outside)
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    rehash(checkpoint, lambda m: m["files"].update({"../../../outside.safetensors": digest}))
    load_hostile(checkpoint)


def weights_that_are_a_link(folder, checkpoint, executed):
    moved = folder.parent / "moved"
    (checkpoint / "model.safetensors").rename(moved)
    (checkpoint / "model.safetensors").symlink_to(moved)
    load_hostile(checkpoint)


def a_manifest_with_a_target(folder, checkpoint, executed):
    target = {"_target_": "os.system", "_args_": [f"touch {executed}"]}
    rehash(checkpoint, lambda m: m["config"]["env"].update(target))
    load_hostile(checkpoint)


def a_manifest_with_an_interpolation(folder, checkpoint, executed):
    rehash(checkpoint, lambda m: m["config"].update(tag="${oc.env:HOME}"))
    load_hostile(checkpoint)


def a_manifest_nested_beyond_reason(folder, checkpoint, executed):
    write_manifest(checkpoint, ("[" * 100_000 + "]" * 100_000).encode())
    load_hostile(checkpoint)


def bars_of_a_run_with_a_pickle(folder, checkpoint, executed):
    bomb = np.array([Bomb(executed)], dtype=object)
    np.save(folder / "bars" / "ohlcv.npy", bomb, allow_pickle=True)
    with pytest.raises(ValueError, match=r"ohlcv\.npy"):
        BarTable.load(folder / "bars")


def a_pickled_frame_called_parquet(folder, checkpoint, executed):
    path = folder / "bars.parquet"
    path.write_bytes(pickle.dumps(Bomb(executed)))
    refuse_bars(path)


def cells_that_are_pickles(folder, checkpoint, executed):
    times = pd.date_range("2024-01-01", periods=50, freq="1min")
    columns = dict.fromkeys(
        ["open", "high", "low", "close", "volume"], pickle.dumps(Bomb(executed))
    )
    path = folder / "bars.parquet"
    pd.DataFrame({"timestamp": times} | columns).to_parquet(path)
    refuse_bars(path)


def a_csv_of_formulas(folder, checkpoint, executed):
    path = folder / "bars.csv"
    path.write_text(
        "timestamp,open,high,low,close,volume\n"
        f"2024-01-01,=cmd|'touch {executed}'!A0,1,1,1,__import__('os').system('touch {executed}')\n"
    )
    refuse_bars(path)


def an_archive_that_is_none(folder, checkpoint, executed):
    path = folder / "bars.csv.gz"
    path.write_bytes(gzip.compress(pickle.dumps(Bomb(executed))))
    refuse_bars(path)


def a_trace_of_formulas(folder, checkpoint, executed):
    trace = folder / "train_actions.csv"
    header, first, *rest = trace.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index("cash")] = f"=cmd|'touch {executed}'!A0"
    trace.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")
    with pytest.raises(ValueError, match="conversion error"):
        read_trace(trace)


HOSTILE_FILES = [
    weights_that_are_a_pickle,
    weights_with_an_endless_header,
    a_manifest_that_points_outside,
    weights_that_are_a_link,
    a_manifest_with_a_target,
    a_manifest_with_an_interpolation,
    a_manifest_nested_beyond_reason,
    bars_of_a_run_with_a_pickle,
    a_pickled_frame_called_parquet,
    cells_that_are_pickles,
    a_csv_of_formulas,
    an_archive_that_is_none,
    a_trace_of_formulas,
]


def refuse_bars(path):
    with pytest.raises(ValueError, match=path.name):
        build_table(DataConfig(path=str(path)), window=4, episode_bars=4)


@pytest.mark.parametrize("attack", HOSTILE_FILES, ids=lambda attack: attack.__name__)
def test_a_hostile_file_is_refused_and_not_executed(run, attack):
    attack(*run)
    assert not run[2].exists()


HOSTILE_WORDS = [
    "env._target_=os.system",
    "_target_=os.system",
    "env.paths=__import__('os').system('touch {executed}')",
    "train.lr=__import__('os').system('touch {executed}')",
    "env.risk_multiples=[__import__('os').system('touch {executed}')]",
    "env.trailing=!!python/object/apply:os.system ['touch {executed}']",
    "tag=$(touch {executed})",
    "tag=`touch {executed}`",
    "tag=a;touch {executed}",
    "tag=../../escaped",
    "tag=a/b",
    "tag=a\nb",
    "tag=${oc.env:HOME}",
    "run.dir=${oc.env:HOME}",
    "data.path=${oc.decode:HOME}",
    "wandb.project=${hydra:runtime.cwd}",
    "env=../../../../etc/passwd",
    "env=/etc/passwd",
    "data=synthetic/../../evil",
    "hydra/launcher=submitit_slurm",
    "hydra.run.dir=/tmp/evil",
    "hydra.job.chdir=true",
    "--config-dir=/tmp/evil",
    "--config-name=evil",
    "+new.key=1",
    "~env",
    "device=cuda:0;touch {executed}",
    "data.asset==cmd|'/C touch {executed}'!A0",
]


@pytest.mark.parametrize("word", HOSTILE_WORDS)
def test_a_hostile_word_is_refused_and_not_executed(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"not allowed|unknown key"):
        compose_config("ppo_transformer", [word.replace("{executed}", str(tmp_path / "executed"))])
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_named_like_a_formula_or_an_option(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py"), *SMALL, "run.dir==1+1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "printable text" in done.stderr
    assert list(tmp_path.iterdir()) == []


# What the code of the project does not do, whoever writes it.

FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "socket"),
    *("http", "socketserver", "xmlrpc", "flask", "werkzeug", "dash", "ftplib", "telnetlib"),
}
FORBIDDEN_ATTRIBUTES = {
    *("instantiate", "register_new_resolver", "register_resolver", "unsafe_load", "read_pickle"),
    *("system", "popen", "load_memmap"),
}
# The one file that opens connections, as a client.
CLIENT = "pipelines/market_data/http_client.py"
OF_CLIENTS = {"http.client", "urllib.request"}
# The one file that serves, on 127.0.0.1 and if it is asked to, and the parts of its page.
SERVER = "pipelines/run_insights/server.py"
OF_SERVER = {"dash", "dash.exceptions", "flask", "werkzeug.serving"}
ALLOWED = {
    CLIENT: OF_CLIENTS,
    SERVER: OF_SERVER,
    "pipelines/run_insights/trace_page.py": {"dash"},
    "pipelines/run_insights/trace_callbacks.py": {"dash", "dash.exceptions"},
}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node


@pytest.mark.parametrize(
    "path",
    [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_executes_what_it_reads(path):
    tree = ast.parse(path.read_text("utf-8"))
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    for node in ast.walk(tree):
        names = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module}
        names -= allowed
        assert not OF_CLIENTS & names, names
        assert not FORBIDDEN_MODULES & {name.split(".")[0] for name in names}, names
    for call in calls(tree):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        assert name not in FORBIDDEN_NAMES, name
        assert attribute not in FORBIDDEN_ATTRIBUTES, attribute
        owner = getattr(getattr(call.func, "value", None), "id", "")
        assert (owner, attribute) != ("torch", "load")
        for keyword in call.keywords:
            value = getattr(keyword.value, "value", None)
            assert (keyword.arg, value) not in [
                ("shell", True),
                ("allow_pickle", True),
                ("weights_only", False),
            ]


def test_secrets_are_in_no_file_and_no_word_of_a_run(tmp_path):
    secret = "0123456789abcdef0123456789abcdef01234567"  # noqa: S105
    environment = os.environ | {
        "WANDB_API_KEY": secret,
        "MY_TOKEN": secret,
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
    }
    words = [word for word in SMALL if not word.startswith("wandb.")]
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "pipelines" / "ppo_transformer.py"), *words),
            *("total_frames=256", f"run.dir={tmp_path / 'run'}", "wandb.mode=offline"),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
