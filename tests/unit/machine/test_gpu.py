import pytest

from handler.machine.gpu import Gpu, cuda_first, read_gpus
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
