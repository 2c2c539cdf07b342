"""What a program says of its input, and of a disk that is nobody's input."""

import errno
import importlib
from pathlib import Path

import pytest

from envs.durable import make_writable, named
from pipelines.config import load_config
from pipelines.refusal import plain_failures, plain_refusals


def refuse(error, path=None):
    with plain_refusals():
        if path is None:
            raise error
        with named(path):
            raise error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_disk_that_is_full_or_fails_is_not_refused_input(code, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        refuse(OSError(code, "it is so"), tmp_path / "a")
    assert ended.value.code == 5
    assert capsys.readouterr().err == f"error: {tmp_path / 'a'}: it is so\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied", "b"), "b: Permission denied"),
        (FileNotFoundError("no such run"), "no such run"),
        (OSError("no number"), "no number"),
        (ValueError("train.lr=-1 is not allowed"), "train.lr=-1 is not allowed"),
    ],
)
def test_what_is_the_fault_of_the_input_exits_with_2_and_keeps_its_words(
    error, said, capsys, tmp_path
):
    with pytest.raises(SystemExit) as ended:
        refuse(error, tmp_path / "a")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_file_that_is_named_keeps_its_name(tmp_path):
    with pytest.raises(OSError, match="mine") as refused, named(tmp_path / "other"):
        raise OSError(errno.ENOSPC, "No space left on device", "mine")
    assert refused.value.filename == "mine"


NOWHERE = Path("/proc/nowhere")  # whoever asks, nothing can be made there
PROGRAMS = {
    "ppo_transformer": ["run.dir={out}", "data=synthetic/drift", "model=mlp"],
    "download": ["out={out}", "start=2024-01-01"],
    "check_data": ["out={out}"],
    "insights": ["runs={here}", "out={out}/page.html"],
    "benchmark": ["out={out}/rows.json"],
}


@pytest.mark.skipif(not NOWHERE.parent.is_dir(), reason="a place of Linux")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_place_that_takes_nothing_ends_every_program_alike(name, tmp_path, capsys):
    """Exit code 5 with the place, before anything is computed; with 2 if a file is in the way."""
    (tmp_path / "file").write_text("mine")
    for out, code in ((NOWHERE, 5), (tmp_path / "file", 2)):
        words = [word.format(out=out, here=tmp_path) for word in PROGRAMS[name]]
        main = importlib.import_module(f"pipelines.{name}").main
        with pytest.raises(SystemExit) as ended, plain_failures():
            main(load_config(name, words))
        assert ended.value.code == code
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(out) in said
        assert "[Errno" not in said
        assert len(said.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_is_made_with_those_above_it(tmp_path):
    make_writable(tmp_path / "a" / "b")
    make_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
