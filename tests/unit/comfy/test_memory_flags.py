import pytest
from structlog.testing import capture_logs

from handler.comfy.memory_flags import comfy_memory_flags
from handler.machine.gpu import Gpu
from handler.models.lock import read_models_lock
from handler.models.places import FoundModel
from handler.settings import PROJECT_DIR, cuda_selection

FOUND = [
    FoundModel(model, PROJECT_DIR / model.file, "models folder")
    for model in read_models_lock(PROJECT_DIR / "models.lock").models
]
H100 = Gpu("NVIDIA H100 80GB HBM3", "GPU-1", 81_559 << 20, 0, (9, 0))
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", "GPU-2", 24_564 << 20, 0, (8, 9))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards, and less host memory than what the smaller one leaves outside."""
    monkeypatch.setattr("handler.comfy.memory_flags.read_gpus", lambda: (H100, RTX_4090))
    monkeypatch.setattr("handler.comfy.memory_flags.host_memory_bytes", lambda: 16_000_000_000)


def chosen(**environ: str) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    with capture_logs() as logs:
        flags = comfy_memory_flags(FOUND, [], **cuda_selection(environ))
    return flags, [dict(line) for line in logs]


@pytest.mark.usefixtures("machine")
def test_the_choice_for_the_visible_card_is_logged_once_with_its_reason() -> None:
    flags, logs = chosen(CUDA_VISIBLE_DEVICES="GPU-1")
    assert flags == ("--highvram",)
    [line] = logs
    assert line["event"] == "memory flags"
    assert (line["gpu"], line["capability"], line["flags"]) == (H100.name, "9.0", flags)
    assert "fit on the card" in str(line["reason"])


@pytest.mark.usefixtures("machine")
def test_too_little_host_memory_is_warned_of() -> None:
    flags, logs = chosen(CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert flags == ()
    assert [line["event"] for line in logs] == ["memory flags", "host memory is short"]
    assert logs[1]["log_level"] == "warning"


@pytest.mark.usefixtures("machine")
def test_a_card_that_can_not_be_told_gets_no_flags_and_no_warning() -> None:
    flags, logs = chosen(CUDA_VISIBLE_DEVICES="MIG-1")
    assert flags == ()
    assert len(logs) == 1
