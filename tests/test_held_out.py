"""Held-out voxels: never learned from, and what judges a training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

import quell
from quell.held_out import ENOUGH, MOST_SHARE, Judged, held_out
from quell.images import Images
from quell.methods.c2s import Corruption2Self
from quell.methods.joint import PRIOR, Joint
from quell.noise import learn as learn_noise
from quell.record import used
from quell.run import Run
from quell.scaling import Scale
from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, phantom
from quell.slices import Batch
from quell.trainer import Training, train

CORRELATION = (0.17, 0.34, 0)


@pytest.fixture(scope="module")
def slice_of_brain() -> tuple[Series, np.ndarray]:
    """One slice of 1 b=0 and 12 directions with noise of SNR 15, and its truth."""
    settings = PhantomSettings((48, 56, 5), 3.5, 1, ((1000.0, 12),), seed=28, supersample=4)
    clean = phantom(settings).clean
    data = corrupt(clean.data, 50.0, np.random.default_rng(0), "gaussian", correlation=CORRELATION)
    middle = np.s_[:, :, 2:3]
    return replace(clean, data=data[middle], mask=clean.mask[middle]), clean.data[middle]


@pytest.mark.parametrize("shape", [(40, 40, 1), (64, 64, 20), (90, 90, 60), (12, 12, 3)])
def test_few_voxels_are_held_out_and_none_of_them_is_learned_from(shape):
    mask = np.ones(shape, dtype=bool)
    known, judging = held_out(mask, Run(seed=1))
    assert judging.any()
    assert not (known & judging).any()
    assert (
        not (judging & ndimage.binary_dilation(known, np.ones((3, 3, 1)))).any() or shape[0] == 12
    )
    share = 1 - known.sum() / mask.sum()
    assert 0 < share <= MOST_SHARE + 0.05
    assert (~known).sum() <= 1.1 * ENOUGH


def test_which_are_held_out_follows_from_the_seed():
    mask = np.ones((64, 64, 4), dtype=bool)
    one, again, other = (held_out(mask, Run(seed=s))[0] for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_mask_too_small_to_part_is_learned_from_whole():
    mask = np.zeros((20, 20, 2), dtype=bool)
    mask[4:7, 4:7, 0] = True
    known, judging = held_out(mask, Run())
    assert np.array_equal(known, mask)
    assert not judging.any()


def test_what_is_held_out_does_not_move_the_weights(slice_of_brain):
    """Other values in the targets of held-out voxels: the same gradients, to the byte.

    They are seen, so they are changed where no patch that counts can see them: all else is zeroed.
    """
    scan, _ = slice_of_brain
    c2s, run = Corruption2Self(steps=1, patch=16, patches=4), Run()
    (images,) = Images.of_all([replace(scan, data=scan.data / 50)])
    known, judging = held_out(images.where, run)
    batch = Batch(
        torch.zeros(1, 1, *known.shape[:2]), torch.from_numpy(known[..., 0])[None].float()
    )
    values = torch.zeros(1, 1, *known.shape[:2])
    values[0, 0][torch.from_numpy(judging[..., 0])] = 1e6
    assert float(batch.mean(values)) == 0
    assert c2s.stop == "held-out"


class Memory(nn.Module):
    """Learns the value of every voxel by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Conv2d(64, 1, 1)
        nn.init.zeros_(self.values.weight), nn.init.zeros_(self.values.bias)

    def forward(self, y: Tensor) -> Tensor:
        return self.values(y)


def one_hot(rng: torch.Generator) -> Batch:
    return Batch(torch.eye(64)[None].movedim(1, 2).reshape(1, 64, 8, 8), torch.ones(1, 8, 8))


def test_a_network_that_learns_voxels_by_heart_is_not_taken():
    """The loss of the training falls, that of held-out voxels rises: the first weights are best."""
    target = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    target -= target.mean()  # which held-out voxels share

    def loss(net, batch, rng):
        return (net(batch.y)[0, 0] - target).square().mean()

    def judge(net):
        values = net(one_hot(torch.Generator()).y)[0, 0]
        return float((values - target.flip(0)).square().mean())  # noise of its own

    run = Run()
    weights = train(
        Memory(), one_hot, loss, Training(200, judge_every=10), run, judge=judge
    )  # fmt: skip
    assert not weights["values.weight"].any()
    assert len(run.kept["losses"]) < 100  # it ended long before the last step
    assert run.kept["losses"][-1] < run.kept["losses"][0]


def test_the_best_weights_are_kept_and_the_training_ends_some_looks_later():
    judged = Judged(lambda: 0.0, patience=2)
    for error, value in ((3.0, 1.0), (1.0, 2.0), (2.0, 3.0), (1.5, 4.0)):
        assert not judged.is_over
        judged.look(error, {"w": torch.tensor(value)})
    assert judged.is_over
    assert judged.best["w"] == 2.0


@pytest.mark.parametrize("step", [7, 23])
def test_a_judged_training_goes_on_as_if_it_had_not_been_stopped(tmp_path, step):
    target = torch.linspace(-1, 1, 64).reshape(8, 8)
    calls = []

    def loss(net, batch, rng):
        calls.append(1)
        if len(calls) == step and stops:
            raise KeyboardInterrupt
        noise = torch.randn(target.shape, generator=rng)
        return (net(batch.y)[0, 0] - target - noise).square().mean()

    def judge(net):
        return float((net(one_hot(torch.Generator()).y)[0, 0] - 0.5 * target).square().mean())

    def run(folder) -> dict[str, Tensor]:
        training = Training(60, judge_every=5)
        return train(Memory(), one_hot, loss, training, Run(folder=folder), judge=judge)

    stops = False
    whole = run(None)
    stops, calls = True, []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    stops = False
    again = run(tmp_path)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_on_one_small_slice_joint_takes_no_network_that_knows_its_noise_by_heart(slice_of_brain):
    """The default is at most .2 dB below the prior as it is, and long training does no harm."""
    scan, clean = slice_of_brain
    noise = learn_noise(scan, scan.mask)
    scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
    scaled, own = replace(scan, data=scale.apply(scan.data)), noise.in_units_of_sigma()
    errors = []
    for joint in (Joint(steps=0, flips=1), Joint(steps=30, flips=1, patches=2, patch=16)):
        run = Run()
        state = joint.fit([scaled], [own], run)
        out = scale.undo(joint.denoise(scaled, own, state, run))
        errors.append(((out - clean)[scan.mask] ** 2).mean())
    assert used(run.kept) in (PRIOR, "the prior, trained on with this scan")
    assert 10 * np.log10(errors[1] / errors[0]) < 0.2


def test_one_image_is_not_learned_by_heart(slice_of_brain):
    scan, clean = slice_of_brain
    one = replace(scan, data=scan.data[..., :1], bvals=None, bvecs=None)
    sigma = np.full(scan.mask.shape, 50.0, np.float32)
    settings = {"steps": 300, "channels": 16, "patches": 2, "patch": 48}
    errors = []
    for stop in ("held-out", "never"):
        result = quell.denoise(
            one, method="c2s", noise_map=sigma, noise_law="gaussian", threads=1, stop=stop,
            **settings,
        )  # fmt: skip
        errors.append(((result.denoised - clean[..., :1])[scan.mask] ** 2).mean())
        assert (len(result.losses) == 300) == (stop == "never")
    assert errors[0] < errors[1]
    assert errors[0] < ((one.data - clean[..., :1])[scan.mask] ** 2).mean()
