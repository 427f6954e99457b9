"""Trainer: learns, and goes on after an interruption as if there had been none."""

import shutil

import pytest
import torch
from torch import Tensor, nn

from quell import trainer
from quell.muon import orthogonalise
from quell.run import Run
from quell.series import InputError
from quell.slices import Batch
from quell.trainer import Training, load_weights, train

STEPS = 12
KERNEL = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
OFFSET = torch.tensor([0.2, -0.3])


class Mixer(nn.Module):
    """A kernel, which Muon trains, a matrix and a bias, which AdamW trains."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(3, 2, 1)
        self.matrix = nn.Linear(2, 2)
        with torch.no_grad():
            self.kernel.weight.fill_(0.1), self.kernel.bias.zero_()
            self.matrix.weight.copy_(torch.eye(2)), self.matrix.bias.zero_()

    def forward(self, y: Tensor) -> Tensor:
        return self.matrix(self.kernel(y).movedim(1, -1)).movedim(-1, 1)

    def product(self) -> Tensor:
        return self.matrix.weight @ self.kernel.weight[:, :, 0, 0]

    def offset(self) -> Tensor:
        return self.matrix.weight @ self.kernel.bias + self.matrix.bias


def draw(rng: torch.Generator) -> Batch:
    return Batch(torch.randn((4, 3, 5, 5), generator=rng), torch.ones(4, 5, 5))


def loss(net: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
    target = torch.einsum("oc,bchw->bohw", KERNEL, batch.y) + OFFSET[:, None, None]
    noise = torch.randn(target.shape, generator=rng)
    return (net(batch.y) - target - 0.1 * noise).square().mean()


class Stop:
    """Raises at its n-th call, like Ctrl-C at that moment."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class StopsWhenRead(Tensor):
    """A loss at whose reading, after the weights have moved, the person presses Ctrl-C."""

    def item(self) -> float:
        raise KeyboardInterrupt


def trained(folder=None, draw=draw, loss=loss, steps=STEPS) -> dict[str, Tensor]:
    return train(Mixer(), draw, loss, Training(steps), Run(seed=3, folder=folder))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- learning ----------------------------------------------------------------------------------


def test_a_linear_regression_is_solved():
    net = Mixer()
    average = train(net, draw, loss, Training(600), Run())
    torch.testing.assert_close(net.product(), KERNEL, rtol=0, atol=0.03)  # 0.1 of noise a value
    net.load_state_dict(average)
    torch.testing.assert_close(net.product(), KERNEL, rtol=0, atol=0.03)
    torch.testing.assert_close(net.offset(), OFFSET, rtol=0, atol=0.03)  # by AdamW alone


def test_the_losses_of_all_steps_are_kept_and_fall():
    run = Run()
    train(Mixer(), draw, loss, Training(200), run)
    losses = run.kept["losses"]
    assert len(losses) == 200
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()


def test_what_is_returned_is_an_average_of_the_weights_on_the_way():
    net = Mixer()
    average = train(net, draw, loss, Training(20), Run())
    start, end = Mixer().kernel.weight, net.kernel.weight
    share = (average["kernel.weight"] - start) / (end - start)
    assert ((share > 0) & (share < 1)).all()  # it lags behind, as the weights still move


@pytest.mark.parametrize("shape", [(16, 9), (64, 288), (32, 32), (1, 27)])
def test_a_step_moves_all_directions_about_equally_far(shape):
    n = min(shape)
    rng = torch.Generator().manual_seed(0)
    U, _, Vt = torch.linalg.svd(torch.randn(shape, generator=rng), full_matrices=False)
    S = torch.logspace(-1, 0, n)  # a decade of singular values
    moved = U.T @ orthogonalise(7 * U @ torch.diag(S) @ Vt) @ Vt.T
    assert (moved.diag() > 0.65).all()  # as promised 0.7 to 1.2, by the polynomial of five steps
    assert (moved.diag() < 1.25).all()
    torch.testing.assert_close(moved, torch.diag(moved.diag()), rtol=0, atol=1e-4)


def test_a_gradient_of_zero_moves_nothing():
    assert (orthogonalise(torch.zeros(4, 6)) == 0).all()


# ---- the same again ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    assert same(trained(), trained())
    other = train(Mixer(), draw, loss, Training(STEPS), Run(seed=4))
    assert not same(trained(), other)


def test_the_global_generator_is_neither_used_nor_touched():
    first, again = Mixer(), Mixer()  # layers draw their first weights from it
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = train(first, draw, loss, Training(STEPS), Run())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(a, train(again, draw, loss, Training(STEPS), Run()))


@pytest.mark.parametrize("step", [1, 2, 7, STEPS])
def test_a_training_stopped_while_drawing_goes_on_as_if_it_had_not(tmp_path, step):
    stop = Stop(step)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, draw=lambda rng: stop() or draw(rng))
    assert (tmp_path / "training.pt").exists()
    assert same(trained(tmp_path), trained())


@pytest.mark.parametrize("step", [1, 7, STEPS])
def test_a_training_stopped_after_half_a_step_goes_on_as_if_it_had_not(tmp_path, step, monkeypatch):
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)  # one a step
    stop = Stop(step)

    def half(net: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        value = loss(net, batch, rng)
        try:
            stop()
        except KeyboardInterrupt:
            return value.as_subclass(StopsWhenRead)
        return value

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, loss=half)
    assert same(trained(tmp_path), trained())


def test_a_training_stopped_twice_goes_on_as_if_it_had_not(tmp_path):
    for step in (4, 5):
        stop = Stop(step)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, draw=lambda rng, stop=stop: stop() or draw(rng))
    run = Run(seed=3, folder=tmp_path)
    assert same(train(Mixer(), draw, loss, Training(STEPS), run), trained())
    assert len(run.kept["losses"]) == STEPS


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    working, left_behind, seen = tmp_path / "working", tmp_path / "left", []

    def watch(rng: torch.Generator) -> Batch:
        seen.append(1)
        if len(seen) == 6:  # what kill -9 would have left at this moment
            shutil.copytree(working, left_behind)
        return draw(rng)

    whole = trained(working, draw=watch)
    again = []
    assert same(whole, trained(left_behind, draw=lambda rng: again.append(1) or draw(rng)))
    assert len(again) == STEPS - 5


# ---- the file ------------------------------------------------------------------------------------


def test_a_checkpoint_is_one_whole_file_of_tensors_and_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    trained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]  # no temporary left
    content = torch.load(tmp_path / "training.pt", weights_only=True)  # runs no code from the file
    assert set(content) == {"net", "optimisers", "average", "losses"}
    assert len(content["losses"]) == STEPS


def test_what_an_unfinished_writing_left_behind_is_ignored(tmp_path):
    (tmp_path / "training.part").write_bytes(b"half a checkpo")
    assert same(trained(tmp_path), trained())


def test_a_failed_writing_leaves_the_older_checkpoint_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    trained(tmp_path, steps=4)
    older = (tmp_path / "training.pt").read_bytes()
    (tmp_path / "training.part").mkdir()  # nothing can be written there
    with pytest.raises(InputError, match="no checkpoint can be written"):
        trained(tmp_path, steps=8)
    assert (tmp_path / "training.pt").read_bytes() == older


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    trained()
    assert list(tmp_path.rglob("*")) == []


def test_a_finished_training_is_not_done_again(tmp_path):
    once = trained(tmp_path)  # what follows it may be interrupted, so it is kept

    def no_more(rng):
        raise AssertionError("a step was drawn")

    assert same(trained(tmp_path, draw=no_more), once)


def test_no_steps_leave_the_weights_as_they_were():
    assert same(trained(steps=0), Mixer().state_dict())


@pytest.mark.parametrize("step", [1, 2, 6, 7, STEPS])
def test_losses_that_are_read_late_change_nothing(tmp_path, step, monkeypatch):
    here = trained()  # read after every step
    monkeypatch.setitem(trainer.STEPS_UNREAD, "cpu", 5)  # 12 steps are no multiple
    run = Run(seed=3)
    assert same(train(Mixer(), draw, loss, Training(STEPS), run), here)
    assert len(run.kept["losses"]) == STEPS
    stop = Stop(step)
    with pytest.raises(KeyboardInterrupt):  # between two readings
        trained(tmp_path, draw=lambda rng: stop() or draw(rng))
    assert same(trained(tmp_path), here)


def test_a_network_is_used_in_bfloat16_on_gpus_and_not_as_published(monkeypatch):
    monkeypatch.setattr(trainer, "has_fast_bfloat16", lambda device: True)
    net, gpu = Mixer(), torch.device("cuda")
    assert trainer.as_used(net, "lean", torch.device("cpu")) is net
    assert trainer.as_used(net, "published", gpu) is net
    assert trainer.as_used(net, "lean", gpu) is not net


def test_a_convolution_in_3d_stays_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(trainer, "has_fast_bfloat16", lambda device: True)
    flat, deep = nn.Conv2d(1, 1, 3), nn.Sequential(nn.Conv3d(1, 1, 3))
    assert trainer.fastest(flat, torch.device("cpu")) is not flat
    assert trainer.fastest(deep, torch.device("cpu")) is deep
    assert trainer.fastest(deep, torch.device("cuda")) is not deep


def test_gradients_in_3d_are_of_what_was_computed_and_not_of_old_memory():
    net, x = nn.Conv3d(16, 16, 3, padding=1), torch.ones(2, 16, 2, 4, 4)
    for _ in range(10):
        old = [torch.full((n,), torch.nan) for n in (1000, 4096, 16384, 65536, 262144)]
        del old
        net.zero_grad()
        trainer.fastest(net, torch.device("cpu"))(x).sum().backward()
        assert net.weight.grad.isfinite().all()


def test_in_bfloat16_only_the_network_is_rounded():
    net, seen = Mixer(), []

    def loss_of_large_values(net, batch, rng):
        large = 1000.0 + batch.y
        seen.append(torch.einsum("bvhw,vk->bkhw", large, torch.eye(batch.y.shape[1])) - large)
        return loss(net, batch, rng)

    rng = torch.Generator().manual_seed(0)
    value = loss_of_large_values(trainer.in_bfloat16(net), draw(rng), rng)
    assert value.dtype == torch.float32
    assert seen[0].abs().max() == 0  # in bfloat16 it would be about 4


# ---- as the diffusion papers train ---------------------------------------------------------------


def test_a_plain_training_is_adam_at_a_constant_rate_without_an_average():
    net, again, run = Mixer(), Mixer(), Run(seed=3)
    training = Training(STEPS, learning_rate=0.01, is_plain=True)
    kept = train(net, draw, loss, training, run)
    adam = torch.optim.Adam(again.parameters(), lr=0.01)
    for step in range(STEPS):
        rng = run.rng("train", step)
        value = loss(again, draw(rng), rng)
        adam.zero_grad()
        value.backward()
        adam.step()
    for name, value in again.state_dict().items():
        # weight decay of 0 is multiplied out in one of them
        torch.testing.assert_close(kept[name], value, rtol=1e-5, atol=1e-7)
    assert same(kept, net.state_dict())


def test_a_plain_training_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    def plain(folder=None, draw=draw) -> dict[str, Tensor]:
        training = Training(STEPS, is_plain=True)
        return train(Mixer(), draw, loss, training, Run(seed=3, folder=folder))

    stop = Stop(7)
    with pytest.raises(KeyboardInterrupt):
        plain(tmp_path, draw=lambda rng: stop() or draw(rng))
    assert same(plain(tmp_path), plain())


# ---- stages --------------------------------------------------------------------------------------


def stage(name: str, run: Run, steps: int = STEPS) -> dict[str, Tensor]:
    return train(Mixer(), draw, loss, Training(steps), run, name)


def test_stages_draw_their_own_numbers_and_keep_their_own_losses():
    run = Run(seed=3)
    first, second = stage("I", run), stage("II", run)
    assert not same(first, second)
    assert same(first, stage("I", Run(seed=3)))
    assert set(run.kept) == {"losses I", "losses II"}
    assert not (run.kept["losses I"] == run.kept["losses II"]).all()


def test_stages_have_checkpoints_of_their_own(tmp_path):
    run = Run(seed=3, folder=tmp_path)
    stage("stage I", run), stage("stage II", run)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["training-stage-I.pt", "training-stage-II.pt"]
    assert same(stage("stage II", Run(seed=3, folder=tmp_path)), stage("stage II", Run(seed=3)))


# ---- weights of a state --------------------------------------------------------------------------


def test_the_weights_of_a_prefix_are_loaded_and_no_others():
    state = {f"one.{name}": value + 1 for name, value in Mixer().state_dict().items()}
    state |= {f"onemore.{name}": value + 2 for name, value in Mixer().state_dict().items()}
    net = load_weights(Mixer(), state, "one.")
    assert same(net.state_dict(), {n: value + 1 for n, value in Mixer().state_dict().items()})


def test_a_missing_weight_or_one_too_many_is_an_error():
    state = {f"F.{name}": value for name, value in Mixer().state_dict().items()}
    with pytest.raises(InputError, match="do not fit"):
        load_weights(Mixer(), state | {"F.extra": torch.zeros(1)}, "F.")
    del state["F.kernel.bias"]
    with pytest.raises(InputError, match="do not fit"):
        load_weights(Mixer(), state, "F.")
