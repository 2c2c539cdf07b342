"""What torch keeps of a compiled network is taken again for the same network only."""

import os
import subprocess
import sys
from pathlib import Path

from pipelines.device import digest

ROOT = Path(__file__).resolve().parents[1]
# An operation whose gradient is another one in a second process, as after an update.
PROGRAM = """
import sys
from pathlib import Path
import torch
import modules
from pipelines.device import keep_compiled

@torch.library.custom_op("told::same", mutates_args=())
def same(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

same.register_fake(torch.empty_like)
same.register_autograd(lambda ctx, grad: grad * float(sys.argv[1]))
modules.__file__ = sys.argv[2]
keep_compiled(Path(sys.argv[3]))
x = torch.ones(1, requires_grad=True)
torch.compile(lambda x: same(x) + 1)(x).backward()
print(x.grad.item())
"""


def gradient(factor, folder):
    """In a process of its own, with the network in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    program = [sys.executable, "-c", PROGRAM, str(factor), str(folder / "__init__.py"), str(folder)]
    done = subprocess.run(program, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout)


def test_another_gradient_is_not_that_of_the_code_before(tmp_path):
    source = tmp_path / "operation.py"
    source.write_text("1")
    assert gradient(1.0, tmp_path) == 1.0
    source.write_text("5")
    assert gradient(5.0, tmp_path) == 5.0
    assert (tmp_path / ".compiled").is_dir()


def test_the_digest_is_that_of_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = digest(tmp_path)
    assert first == digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = digest(tmp_path)
    (tmp_path / "b.py").write_text("2")
    assert len({first, second, digest(tmp_path)}) == 3
