"""What a program says of its input, and of a disk that is nobody's input."""

import errno

import pytest

from envs.durable import named
from pipelines.refusal import plain_refusals


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
