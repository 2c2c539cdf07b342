"""The image and the page about a pod: nothing is built here, all that can be read is held to."""

import re
import shlex
import shutil
import stat
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pipelines.config import compose_config

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "docker/entrypoint.sh"
COMMAND = re.compile(r"python pipelines/(\w+)\.py([^`&|\n'\"]*)")
# What the pages leave to the reader.
PLACES = {"NAME": "name", "USER": "user", "HOST": "host", "IP": "10.0.0.1", "PORT": "22",
          "PATH": "a", "FOLDER": "folder", "FILE": "file"}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: each with its words, lines that go on joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def of(kind: str) -> list[str]:
    return [words for name, words in instructions() if name == kind]


def ignored() -> list[str]:
    text = (ROOT / ".dockerignore").read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def is_ignored(path: str) -> bool:
    """As Docker has it: a pattern is of a whole path, and what lies under it goes too."""
    parents = ["/".join(path.split("/")[: i + 1]) for i in range(path.count("/") + 1)]
    return any(
        fnmatch(parent, pattern) or fnmatch(f"/{parent}", pattern.replace("**/", "*/"))
        for parent in parents
        for pattern in ignored()
    )


def test_the_dockerfile_is_one_of_known_instructions_in_order() -> None:
    names = [name for name, _ in instructions()]
    known = {"FROM", "RUN", "WORKDIR", "ARG", "COPY", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert names[0] == "FROM"
    assert set(names) == known
    assert of("FROM") == ["python:3.11-slim-bookworm"]
    assert of("VOLUME") == ["/workspace"]
    assert names.index("ARG") < next(i for i, (n, w) in enumerate(instructions()) if "pip " in w)


def test_every_copied_file_is_here_and_reaches_the_builder() -> None:
    for words in of("COPY"):
        *sources, target = [word for word in words.split() if not word.startswith("--")]
        assert len(sources) == 1 or target.endswith("/")
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not is_ignored(source), source


def test_the_image_holds_every_tracked_file_and_the_commit() -> None:
    """Else the code would call itself changed, or know no commit."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    tracked = listed.stdout.decode().splitlines()
    assert tracked
    assert [path for path in [*tracked, ".git/HEAD"] if is_ignored(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        *("runs/first/config.json", "bars/a/2025-01.parquet", ".venv/bin/python", ".env", "x/.env"),
        *("docs/.netrc", "runs.tar.gz", "a/b/c.tar.gz", "envs/__pycache__/x.pyc", "wandb/run"),
    ],
)
def test_the_image_holds_no_runs_keys_or_caches(path: str) -> None:
    assert is_ignored(path)


def test_what_lasts_lies_on_the_volume() -> None:
    (words,) = of("ENV")
    values = dict(word.split("=", 1) for word in shlex.split(words))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PIP_CACHE_DIR", "WANDB_DIR"):
        assert values[name].startswith("/workspace/"), name
    assert values["WORKSPACE"] == "/workspace"
    links = next(words for words in of("RUN") if "ln -s" in words)
    assert 'for folder in bars checks runs; do ln -s "/workspace/$folder"' in links


def test_the_dependencies_of_the_image_are_those_of_the_project() -> None:
    (words,) = [words for words in of("RUN") if "list_dependencies" in words]
    extras = re.search(r"pyproject\.toml ([a-z ]+) >", words)[1].split()
    command = [sys.executable, "docker/list_dependencies.py", "pyproject.toml", *extras]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    for needed in ("torch>=", "torchrl>=", "safetensors>=", "ccxt>=", "huggingface_hub>="):
        assert any(line.startswith(needed) for line in lines), needed
    assert not [line for line in lines if "pricetaker" in line or "pytest" in line]


def test_the_entry_script_is_where_the_image_looks_for_it_and_can_be_run() -> None:
    assert of("WORKDIR") == ["/opt/pricetaker"]
    assert of("ENTRYPOINT") == [f'["/opt/pricetaker/{ENTRY}"]']
    assert stat.S_IMODE((ROOT / ENTRY).stat().st_mode) & 0o111
    subprocess.run(["sh", "-n", ENTRY], cwd=ROOT, check=True)


# Stand-ins for what the script calls; each says what it was given.
STANDINS = {
    "id": 'echo "${BECAME:-0}"',
    "chown": 'echo "chown $*"',
    "getent": "echo trader:x:1000:1000::/home/trader:/bin/bash",
    "setpriv": 'echo "setpriv $1 $2"; while [ "${1#--}" != "$1" ]; do shift; done\n'
    'BECAME=1000 exec "$@"',
    "python": 'echo "python $* as $(id) pid $$ home $HOME"',
    "other": 'echo "other $* as $(id) pid $$"',
}


def enter(tmp_path: Path, *words: str) -> tuple[subprocess.Popen, str, str]:
    """Run the script as the root of a container whose volume is a folder."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name, body in STANDINS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "WORKSPACE": str(tmp_path / "volume")}
    process = subprocess.Popen(
        [str(ROOT / ENTRY), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, *process.communicate(timeout=60)


@pytest.mark.parametrize("words", [(), ("model=tiny", "tag=first run")])
def test_it_trains_as_the_user_and_goes_on(tmp_path: Path, words: tuple[str, ...]) -> None:
    process, said, errors = enter(tmp_path, *words)
    assert (process.returncode, errors) == (0, "")
    told = " ".join(("resume=auto", *words))
    last = said.splitlines()[-1]
    assert last.startswith(f"python pipelines/ppo_transformer.py {told} as 1000")
    assert last.endswith(f"pid {process.pid} home /home/trader"), "signals go to this process"
    for folder in ("bars", "checks", "runs", ".cache"):
        assert (tmp_path / "volume" / folder).is_dir()
        assert f"chown trader:trader {tmp_path / 'volume' / folder}" in said
    assert "setpriv --reuid=trader --regid=trader" in said


def test_any_other_words_are_a_command(tmp_path: Path) -> None:
    process, said, _ = enter(tmp_path, "other", "a b")
    assert said.splitlines()[-1] == f"other a b as 1000 pid {process.pid}"


def test_a_volume_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(STANDINS, "mkdir", ":")
    process, _, errors = enter(tmp_path)
    assert process.returncode == 5
    assert "runs: user 1000 cannot write there" in errors


def commands() -> list[tuple[str, str]]:
    """Of the pages about pods and archives, comments left out."""
    text = "".join(
        (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("runpod", "export")
    )
    found = {(program, words.split("#")[0].strip()) for program, words in COMMAND.findall(text)}
    return sorted((program, words) for program, words in found if "..." not in words)


@pytest.mark.parametrize(("program", "words"), commands())
def test_the_commands_of_the_pages_are_understood(program: str, words: str) -> None:
    for place, value in PLACES.items():
        words = re.sub(rf"\b{place}\b", value, words)
    assert not re.search(r"[A-Z]{4,}(?!/|T)", words.replace("BTC-USDT", "").replace("BTC/USDT", ""))
    compose_config(program, shlex.split(words))


def test_the_words_of_the_pod_are_understood() -> None:
    text = (ROOT / "docs" / "runpod.md").read_text("utf-8")
    given = [words for words in re.findall(r'--docker-args "([^"]+)"', text) if "=" in words]
    assert given
    for words in given:
        compose_config("ppo_transformer", ["resume=auto", *shlex.split(words)])


def test_no_registry_or_account_is_named() -> None:
    text = (ROOT / "docs" / "runpod.md").read_text("utf-8")
    assert set(re.findall(r"(\S+)/pricetaker\b(?=[ \n]|$)", text)) <= {
        "REGISTRY",
        "/workspace",
        "/opt",
    }
    for token in re.findall(r"\b(?:hf_|rpa_|sk-)\w{8,}", text):
        raise AssertionError(token)
