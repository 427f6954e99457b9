"""Settings: a value that cannot be meant is refused in one sentence, with what may be given."""

from dataclasses import dataclass

import pytest

from quell.methods import METHODS, make
from quell.series import InputError
from quell.settings import check_settings


@dataclass(frozen=True)
class Example:
    kind: str = "soft"
    steps: int = 5
    rate: float = 0.5
    stop: float = 0.0
    size: int = 2
    is_quick: bool = False
    channels: int = 16

    def __post_init__(self) -> None:
        check_settings(self, {"kind": ("soft", "hard"), "size": (2, 3)}, ("stop",))


def refusal(**settings) -> str:
    with pytest.raises(InputError) as refused:
        Example(**settings)
    assert refused.value.status == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_can_be_meant_is_accepted():
    Example()
    Example(kind="hard", steps=1, rate=1e-9, stop=0.0, size=3, is_quick=True, channels=8)


@pytest.mark.parametrize("kind", ["Soft", "", "soft ", 1])
def test_a_word_that_is_none_of_the_choices_is_refused_with_them(kind):
    assert refusal(kind=kind) == f"kind={kind} is not known; choose from soft, hard"


def test_a_number_that_is_none_of_the_choices_is_refused_with_them():
    assert refusal(size=4) == "size=4 is not known; choose from 2, 3"


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["steps", "rate"])
def test_numbers_are_more_than_0(name, value):
    assert refusal(**{name: value}) == f"{name}={value} is too small; give more than 0"


def test_some_numbers_may_be_0_but_not_less():
    assert refusal(stop=-0.1) == "stop=-0.1 is too small; give 0 or more"


def test_no_is_not_a_number():
    assert Example(is_quick=False).is_quick is False


@pytest.mark.parametrize("channels", [4, 12, 33])
def test_channels_are_a_multiple_of_the_groups(channels):
    assert "multiple of 8" in refusal(channels=channels)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ddm2", {"matching": "Eq. 5"}),
        ("ddm2", {"noise": "white"}),
        ("ddm2", {"target": "clean"}),
        ("ddm2", {"start": "partner"}),
        ("ddm2", {"output": "all"}),
        ("ddm2", {"rule": "euler"}),
        ("ddm2", {"dimensions": 4}),
        ("ddm2", {"priors": 0}),
        ("ddm2", {"chain": -1}),
        ("ddm2", {"levels": -0.5}),
        ("ddm2", {"samples": 0}),
        ("ddm2", {"channels": 12}),
        ("difusion", {"fusion": "both"}),
        ("difusion", {"neighbours": "angles"}),
        ("difusion", {"network": "huge"}),
        ("difusion", {"intensities": "slice"}),
        ("difusion", {"flips": 3}),
        ("difusion", {"stride": 0}),
        ("difusion", {"stop": -1.0}),
        ("difusion", {"images_at_once": 0}),
    ],
)
def test_the_diffusion_methods_refuse_what_they_cannot_do(method, settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"^{name}=") as refused:
        make(method, **settings)
    assert refused.value.status == 2


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ddm2", {"levels": 0.0, "chain": 0, "eta": 0.0}),
        ("difusion", {"stop": 0.0, "threshold": 0.0}),
    ],
)
def test_the_diffusion_methods_accept_the_zeros_that_mean_something(method, settings):
    assert isinstance(make(method, **settings), METHODS[method])
