"""Run: random numbers that follow from the seed, and devices named in words."""

import numpy as np
import pytest
import torch

from quell.run import (
    Run,
    Silent,
    choose_device,
    has_fast_bfloat16,
    onto,
    peak_memory_bytes,
    set_threads,
)


def numbers(seed: int, purpose: str, step: int = 0) -> list[float]:
    return torch.rand(4, generator=Run(seed=seed).rng(purpose, step)).tolist()


def test_the_same_seed_purpose_and_step_give_the_same_numbers():
    assert numbers(0, "train", 3) == numbers(0, "train", 3)


def test_another_seed_purpose_or_step_gives_other_numbers():
    all_ = [
        numbers(*words)
        for words in ((0, "train", 3), (1, "train", 3), (0, "net", 3), (0, "train", 4))
    ]
    assert len({tuple(one) for one in all_}) == 4


def test_the_numbers_are_the_same_in_every_process_and_version():
    assert (
        Run(7).rng("train", 2).initial_seed() == 42988734384419421
    )  # of sha256, where hash() would not do


def test_seeds_are_as_good_as_unrelated():
    first = torch.cat([torch.randn(100, generator=Run(seed).rng("x")) for seed in range(200)])
    assert float(first.mean()) == pytest.approx(0, abs=0.03)  # 4 / sqrt(20 000)
    assert float(first.std()) == pytest.approx(1, abs=0.02)


def test_side_products_and_seconds_are_kept_per_run():
    a, b = Run(), Run()
    a.keep("losses", np.arange(3))
    for _ in range(2):
        with a.timed("training"):
            pass
    assert list(a.kept) == ["losses"]
    assert list(a.seconds) == ["training"]
    assert a.seconds["training"] > 0
    assert (b.kept, b.seconds) == ({}, {})


def test_the_seconds_of_a_stage_that_fails_are_kept_too():
    run = Run()
    with pytest.raises(KeyboardInterrupt), run.timed("training"):
        raise KeyboardInterrupt
    assert "training" in run.seconds


def test_the_default_voice_says_nothing(capsys):
    voice = Run().voice
    assert isinstance(voice, Silent)
    voice.say("words"), voice.progress("training", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_auto_takes_a_device_that_is_there():
    device = choose_device("auto")
    assert torch.zeros(1, device=device).device.type == device.type
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:first", "", "cuda;0", "meta"])
def test_an_unknown_device_is_refused_in_words(name):
    with pytest.raises(ValueError, match="is not known; give"):
        choose_device(name)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_in_words(kind):
    if {"cuda": torch.cuda, "mps": torch.backends.mps}[kind].is_available():
        pytest.skip(f"{kind} is there")
    with pytest.raises(ValueError, match=f"'{kind}:1' is not on this machine"):
        choose_device(f"{kind}:1")


def test_threads_are_set_as_asked():
    before = torch.get_num_threads()
    try:
        assert set_threads(2) == torch.get_num_threads() == 2
        assert set_threads(None) >= 1
    finally:
        torch.set_num_threads(before)


def test_peak_memory_is_in_bytes():
    assert 50e6 < peak_memory_bytes() < 1e12  # Python with torch needs more than 50 MB


def test_bfloat16_is_for_devices_that_multiply_it():
    assert has_fast_bfloat16(torch.device("cpu")) in (True, False)
    assert not has_fast_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(
    ("capability", "is_fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_bfloat16_is_for_gpus_that_multiply_it(monkeypatch, capability, is_fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bfloat16(torch.device("cuda:1")) == is_fast


def test_a_tensor_comes_onto_a_device_as_it_is():
    x = torch.arange(3.0)
    assert onto(x, torch.device("cpu")) is x
