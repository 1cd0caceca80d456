import pytest

from handler.machine.gpu import Gpu, cuda_first, gpu_fault, read_gpus
from tests.fakes.nvml import Nvml

A100 = Gpu("NVIDIA A100 80GB PCIe", "GPU-aaaa-1", 81_920 << 20, 5 << 20, (8, 0))
ADA = Gpu("NVIDIA RTX 6000 Ada Generation", "GPU-bbbb-2", 49_140 << 20, 0, (8, 9))
CARDS = (A100, ADA)


def test_the_cards_are_read_in_the_order_of_the_bus() -> None:
    nvml = Nvml(CARDS)
    assert read_gpus(lambda: nvml) == CARDS
    assert nvml.open_calls == 0


def no_library() -> Nvml:
    raise OSError


def test_a_machine_without_a_driver_has_no_cards() -> None:
    assert read_gpus(no_library) == ()


@pytest.mark.parametrize("nvml", [Nvml(CARDS, is_broken=True), Nvml(CARDS, unreadable=0)])
def test_a_driver_that_fails_shows_no_cards_rather_than_wrong_numbers(nvml: Nvml) -> None:
    assert read_gpus(lambda: nvml) == ()
    assert nvml.open_calls == 0


@pytest.mark.parametrize(
    ("visible", "order", "first"),
    [
        (None, "PCI_BUS_ID", A100),
        ("0", "PCI_BUS_ID", A100),
        ("1,0", "PCI_BUS_ID", ADA),
        (" 1 , 0", "PCI_BUS_ID", ADA),
        ("GPU-bbbb", None, ADA),
        ("GPU-aaaa-1,GPU-bbbb-2", None, A100),
        # CUDA's own order is not known here, so the weaker card counts.
        (None, None, ADA),
        ("0", "FASTEST_FIRST", ADA),
        # CUDA hides every card.
        ("", None, None),
        ("-1", None, None),
        ("2", "PCI_BUS_ID", None),
        # A slice of a card has less memory than the card, and other names.
        ("MIG-12345", None, None),
        ("GPU-cccc", None, None),
    ],
)
def test_the_card_that_cuda_shows_first(
    visible: str | None, order: str | None, first: Gpu | None
) -> None:
    assert cuda_first(CARDS, visible, order) == first


def test_a_machine_without_cards_has_no_first_one() -> None:
    assert cuda_first((), None, None) is None


@pytest.mark.parametrize(
    ("nvml", "needed", "visible", "says"),
    [
        (Nvml(()), (13, 0), None, "shows no device"),
        (Nvml((ADA,), cuda=12040), (13, 0), None, "supports CUDA 12.4, and this image needs 13.0"),
        (Nvml((ADA,), init_code=18), (13, 0), None, "driver/library version mismatch"),
        (Nvml((ADA,), init_code=9), (13, 0), None, "not loaded"),
        (Nvml((ADA,), init_code=77), (13, 0), None, "error 77"),
        (Nvml((ADA,)), (13, 0), "", "hides every device"),
        (Nvml((ADA,)), (13, 0), "-1", "hides every device"),
    ],
)
def test_a_gpu_that_can_not_be_used_is_told_with_the_reason(
    nvml: Nvml, needed: tuple[int, int], visible: str | None, says: str
) -> None:
    reason = gpu_fault(needed, visible, lambda: nvml)
    assert reason is not None
    assert says in reason
    assert nvml.open_calls == 0


@pytest.mark.parametrize("needed", [(13, 0), (13, 2), (12, 8), None])
def test_a_driver_of_the_same_major_version_or_a_newer_one_does(
    needed: tuple[int, int] | None,
) -> None:
    assert gpu_fault(needed, "0", lambda: Nvml((ADA,), cuda=13000)) is None


def test_a_container_without_a_driver_is_told() -> None:
    assert "no NVIDIA driver" in str(gpu_fault((13, 0), None, no_library))
