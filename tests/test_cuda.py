"""GPUs: a CUDA device gives what the CPU gives, learns, and loses little by mixed precision.

Every claim is also tried with the CPU in the GPU's place, so that a test which only runs where a
GPU is can't be wrong by itself.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quell.methods import make
from quell.noise import NoiseModel, learn
from quell.run import Run, State
from quell.scaling import Scale
from quell.series import Series
from quell.simulate import corrupt, phantom
from quell.trainer import fastest

ROOT = Path(__file__).parents[1]
ON_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    ],
)
DEVICES = pytest.mark.parametrize("device", ["cpu", ON_GPU])
LEARNED = {
    "joint": {"steps": 0},  # the prior
    "ddm2": {"stage1_steps": 30, "steps": 30},
    "difusion": {"steps": 30},
}
METHODS = pytest.mark.parametrize("name", LEARNED)


@pytest.fixture(scope="module")
def known() -> tuple[Series, NoiseModel]:
    """A piece of the small phantom with Rician noise, and its noise, in units of sigma."""
    clean = phantom("small").clean
    noisy = corrupt(clean.data, 40.0, np.random.default_rng(0), "rician")
    mask = clean.mask[8:24, 9:27, 3:7]
    scan = replace(clean, data=noisy[8:24, 9:27, 3:7], mask=mask)
    noise = learn(scan, mask)
    scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
    return replace(scan, data=scale.apply(scan.data)), noise.in_units_of_sigma()


@pytest.fixture(scope="module")
def states(known) -> dict[str, State]:
    """What each method learned of it, on the CPU."""
    scan, noise = known
    return {name: make(name, **own).fit([scan], [noise], Run()) for name, own in LEARNED.items()}


@contextmanager
def computing(in_bfloat16: bool) -> Iterator[None]:
    """All networks in bfloat16, or all exactly in float32; on any device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quell.trainer.has_fast_bfloat16", lambda device: in_bfloat16)
        for name in ("ddm2", "difusion"):  # which keep to float32 on a CPU
            path = f"quell.methods.{name}.as_used"
            patch.setattr(path, lambda net, network, device: fastest(net, device))
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


def restored(name: str, device: str, known, states, in_bfloat16: bool = False) -> np.ndarray:
    """The voxels of the mask after denoising, units of sigma."""
    (scan, noise), run = known, Run(device=torch.device(device))
    with computing(in_bfloat16):
        return make(name, **LEARNED[name]).denoise(scan, noise, states[name], run)[scan.mask]


@DEVICES
@METHODS
def test_the_same_weights_give_the_same_on_every_device(name, device, known, states):
    off = np.abs(restored(name, device, known, states) - restored(name, "cpu", known, states))
    assert off.max() < 0.01  # float32 sums in another order: signals of 20 sigma, 1e-7 of each


@DEVICES
@METHODS
def test_mixed_precision_stays_near_float32(name, device, known, states):
    exact = restored(name, device, known, states)
    off = restored(name, device, known, states, in_bfloat16=True) - exact
    assert 0 < np.abs(off).max() < 0.1  # 8 bits of a correction of about one sigma, added up
    assert np.sqrt(np.mean(off**2)) < 0.01


@DEVICES
@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_a_training_gets_better_than_it_began(device, known, in_bfloat16):
    scan, noise = known
    run = Run(device=torch.device(device))
    with computing(in_bfloat16):
        make("joint", start="scratch", steps=60).fit([scan], [noise], run)
    before = run.kept["referee the global Wiener filter"]
    after = run.kept["referee a network trained from scratch"]
    assert after < before  # on the same patches and the same noise
    assert np.isfinite(run.kept["losses"]).all()
    assert len(run.kept["losses"]) == 60


@DEVICES
@pytest.mark.parametrize("name", ["ddm2", "difusion"])
def test_what_was_learned_on_a_device_is_used_on_a_cpu(name, device, known):
    scan, noise = known
    method = make(name, **LEARNED[name])
    state = method.fit([scan], [noise], Run(device=torch.device(device)))
    assert {value.device.type for value in state.values()} == {"cpu"}
    result = method.denoise(scan, noise, state, Run())
    off = (result - scan.data)[scan.mask]
    assert 0.5 < np.sqrt(np.mean(off**2)) < 1.5  # about the noise was taken away


def test_the_benchmark_of_gpus_needs_four_packages_only():
    """benchmarks/gpu.py is for machines where little is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split("[<>=]", line)[0] for line in project["dependencies"]}
    modules = {name.replace("scikit-image", "skimage") for name in needed}
    absent = sorted(modules - {"numpy", "scipy", "nibabel", "torch"} | {"h5py", "pywt"})
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"  # None: can't be imported
        f"sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\nimport gpu\nfrom quell import prior\n"
        "print(len(prior.prior_of('joint')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
