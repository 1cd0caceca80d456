from pathlib import Path

import pytest

from handler.comfy.torch_build import torch_cuda
from handler.settings import PROJECT_DIR


@pytest.mark.parametrize(
    ("text", "cuda"),
    [("cuda: Optional[str] = '12.8'\n", (12, 8)), ("cuda = '13.0'\n", (13, 0)),
     ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", None)],
)  # fmt: skip
def test_the_version_of_cuda_is_that_of_torchs_build(
    tmp_path: Path, text: str, cuda: tuple[int, int] | None
) -> None:
    folder = tmp_path / "lib" / "python3.11" / "site-packages" / "torch"
    folder.mkdir(parents=True)
    (folder / "version.py").write_text(text)
    assert torch_cuda(tmp_path / "bin" / "python") == cuda


def test_an_environment_without_torch_has_none(tmp_path: Path) -> None:
    assert torch_cuda(tmp_path / "bin" / "python") is None


def test_the_locked_torch_is_understood() -> None:
    lock = (PROJECT_DIR / "comfy" / "requirements.lock").read_text()
    cuda = torch_cuda(PROJECT_DIR / "comfy" / ".venv" / "bin" / "python")
    assert cuda is not None
    assert f"nvidia-cuda-runtime=={cuda[0]}." in lock
