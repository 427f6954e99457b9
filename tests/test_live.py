"""quell denoise --live: what the page is told, who may ask, and that the run stays the same."""

import http.client
import json
import math
import queue
import re
import threading
import time
import webbrowser
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save

import quell as package
import quell.live
from conftest import QUICK, write_scan
from quell.glimpse import Glimpse
from quell.live import Follower, Server, follower, server
from quell.live.pictures import Painter
from quell.noise import NoiseModel
from quell.run import Run, Silent, Voice
from quell.series import InputError, Series
from quell.voice import Lines

PAGE = Path(quell.live.__file__).parent / "page"
NASTY = "<img src=x onerror=alert(1)>\u202e\n\x1b[31m.nii"
TINY = ("--set", "steps=6", "--set", "channels=8", "--set", "patch=16", "--threads", 1)
LIVE = ("--live", "--no-browser")


class Halves:
    """A method that takes away half of the image."""

    def denoise(self, scan, noise, state, run):
        return scan.data / 2


def glimpse_of(scan: Series, method=None) -> Glimpse:
    sigma = np.full(scan.data.shape[:3], 40, np.float32)
    noise = NoiseModel(sigma, np.ones((1, 1, 1)), "gaussian", 1.0, "", 1, np.ones(1))
    return Glimpse.of(method or Halves(), scan, noise, Run())


@pytest.fixture
def followed(series) -> Follower:
    """In the middle of a training, with a picture."""
    seen = Follower(Silent(), NASTY, {"result": Path("out.nii")}, every=0)
    seen.stage("reading"), seen.stage("training")
    seen.look_at(lambda: glimpse_of(series))
    seen.progress("training", 1, 4)
    seen.learned("training", [2.0], dict)
    return seen


# What the page is told.


def test_the_stage_the_steps_and_the_loss_are_told(followed):
    state = followed.state()
    assert [stage["name"] for stage in state["stages"]] == ["reading", "training"]
    assert state["doing"] == {"task": "training", "done": 1, "total": 4, "left": None}
    assert state["curves"] == [{"task": "training", "total": 4, "steps": [1], "losses": [2.0]}]
    assert state["slice"]["when"] == "after 1 steps"
    assert state["end"] == {"how": "", "sentence": ""}


def test_what_was_done_before_does_not_count_for_what_is_left(followed, monkeypatch):
    now = time.monotonic()
    for seconds, done in ((0, 90), (10, 95)):  # a training that goes on at step 90
        monkeypatch.setattr(time, "monotonic", lambda at=now + seconds: at)
        followed.progress("training stage III", done, 100)
    assert followed.doing.seconds_left() == pytest.approx(10)


def test_another_stage_leaves_no_old_steps(followed):
    followed.stage("measure")
    assert followed.state()["doing"] is None


@pytest.mark.parametrize("n", [1, 299, 300, 301, 4001])
def test_a_long_curve_is_told_by_few_means(followed, n):
    followed.learned("training", list(np.arange(n) + 1.0), None)
    curve = followed.state()["curves"][0]
    assert len(curve["steps"]) <= 300
    assert curve["steps"][-1] == n
    sizes = np.diff([0, *curve["steps"]])
    assert np.dot(sizes, curve["losses"]) == pytest.approx(n * (n + 1) / 2, rel=1e-5)


def test_a_loss_that_is_no_number_is_a_gap(followed):
    followed.learned("training", [1.0, math.nan, math.inf], None)
    assert followed.state()["curves"][0]["losses"] == [1.0, None, None]
    json.dumps(followed.state(), allow_nan=False)


def test_what_would_move_a_cursor_is_told_as_an_escape(followed):
    followed.say(NASTY), followed.finish("failed", NASTY)
    state = followed.state()
    for told in (state["title"], state["lines"][0], state["end"]["sentence"]):
        assert told == "<img src=x onerror=alert(1)>\\u202e\\n\\x1b[31m.nii"


def test_after_a_picture_there_is_work_for_fifty_times_as_long(followed, monkeypatch):
    """A look takes 0.3 s on this clock and a step 0.1 s."""
    clock = [time.monotonic() + 1000]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def state():
        clock[0] += 0.3
        return {}

    start, before = clock[0], followed.painter.pictures.number
    for n in range(2, 1000):
        clock[0] += 0.1
        followed.learned("training", [1.0] * n, state)
    n_looks = followed.painter.pictures.number - before
    assert 0.015 < n_looks * 0.3 / (clock[0] - start) < 0.021


def test_a_look_that_fails_is_told_and_the_run_goes_on(series):
    class Fails(Halves):
        def denoise(self, scan, noise, state, run):
            raise RuntimeError("CUDA out of memory")

    seen = Follower(Silent(), "", {}, every=0)
    seen.look_at(lambda: glimpse_of(series, Fails()))
    for n in (1, 2):
        seen.learned("training", [1.0] * n, dict)
    assert list(seen.lines) == ["no picture (RuntimeError: CUDA out of memory)"]
    seen.show(series.data)  # what is at hand is shown all the same
    assert seen.state()["slice"]["when"] == "the result"


# The slice.


def test_the_slice_is_cut_to_the_mask_and_the_result_is_cut_alike(series):
    mask = np.zeros(series.data.shape[:3], bool)
    mask[6:9, 7:12, 1] = True
    glimpse = glimpse_of(replace(series, mask=mask))
    cut = series.data[2:13, 3:16, 1, glimpse.v] / 40
    np.testing.assert_allclose(glimpse.noisy, cut)
    np.testing.assert_allclose(glimpse.cut(series.data), cut)
    np.testing.assert_allclose(glimpse.estimate({}), cut / 2)


@pytest.mark.parametrize("method", ["joint", "noise2noise"])
def test_the_last_look_is_nearly_the_result(series, method):
    class Keeps(Voice):
        def look_at(self, choose):
            self.glimpse = choose()

        def learned(self, task, losses, state):
            self.seen = self.glimpse.estimate(state())

        def show(self, denoised):
            self.shown = self.glimpse.cut(denoised)

    voice = Keeps()
    tiny = {"threads": 1, "steps": 3, "channels": 8, "patch": 16}
    package.denoise(series, method=method, voice=voice, **tiny)
    off, taken = voice.seen - voice.shown, voice.glimpse.noisy - voice.shown
    assert off.std() < 0.2 * taken.std()  # the slices beside it are missing


@pytest.mark.parametrize(
    ("codes", "step"),  # of the grid's first axis, in rows and columns of the picture
    [("RAS", (0, 1)), ("LPS", (0, -1)), ("PRS", (1, 0)), ("ASR", (0, 1)), ("SRA", (-1, 0))],
)
def test_right_and_up_are_right_and_anterior_or_superior(codes, step):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        affine["LRPAIS".index(code) // 2, axis] = 1 if code in "RAS" else -1
    assert "".join(nib.aff2axcodes(affine)) == codes
    data = np.zeros((7, 11, 1, 1), np.float32)
    data[3, 5], data[2, 5] = 40, 20
    painter = Painter(glimpse_of(Series(data, affine, nib.Nifti1Header())))
    pixels = np.asarray(Image.open(BytesIO(painter.pictures.noisy))).astype(int)
    bright, grey = np.argwhere(pixels == 255)[0], np.argwhere(pixels % 255)[0]
    assert tuple(bright - grey) == step


def test_what_is_taken_away_is_orange_and_what_is_added_blue(followed):
    painter, shape = followed.painter, followed.painter.noisy.shape
    painter.draw(painter.noisy - np.linspace(-3, 3, np.prod(shape)).reshape(shape), "")
    pixels = np.asarray(Image.open(BytesIO(painter.pictures.residual))).astype(int)
    colours = {tuple(c) for c in pixels.reshape(-1, 3)}
    assert {(120, 200, 255), (255, 200, 120)} <= colours
    assert min(map(sum, colours)) < 20


# Who may ask, and for what.


@pytest.fixture
def served(followed):
    with Server(followed) as page:
        threading.Thread(target=page.serve_forever, args=(0.02,), daemon=True).start()
        yield page
        page.shutdown()


def ask(page, what="", method="GET", host=None, with_token=True):
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=10)
    path = f"/{page.token}/{what}" if with_token else what
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host or f"127.0.0.1:{page.server_port}")
    connection.endheaders()
    response = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


def test_the_page_its_state_and_its_pictures_are_served(served, followed):
    for what in ("", "live.css", "live.js", "curve.js", "seen"):
        assert ask(served, what).status == 200
    assert json.loads(ask(served, "state").body)["title"] == followed.state()["title"]
    for name in ("noisy", "denoised", "residual"):
        answer = ask(served, f"{name}/2")
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.body == getattr(followed.painter.pictures, name)


def test_where_there_is_no_picture_yet_there_is_nothing():
    page = Server(Follower(Silent(), "", {}))
    assert page.answer("noisy/1").status == 404
    page.server_close()


@pytest.mark.parametrize("path", ["/", "/state", "/x/state", "//", "/seen", "*"])
def test_without_the_token_nothing_is_answered(served, path):
    assert ask(served, path, with_token=False).status == 403
    assert served.told == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "0.0.0.0:{port}"])
def test_another_host_is_refused(served, host):
    assert ask(served, "state", host=host.format(port=served.server_port)).status == 403


@pytest.mark.parametrize(
    "what",
    [
        "../server.py", "../../../../etc/passwd", "%2e%2e%2fserver.py", "/etc/passwd",
        "page/live.html", "noisy", "noisy/", "noisy/-1", "noisy/1/", "number/1", "noisy/%D9%A3",
        "noisy/1?x=/etc/passwd", "state?", "live.js/../state", "out.nii",
    ],
)  # fmt: skip
def test_only_what_is_listed_can_be_read(served, what):
    assert ask(served, what).status == 404


def test_only_get_is_answered_and_the_policy_goes_with_it(served):
    assert ask(served, "state", "POST").status == 405
    policy = ask(served, "state").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert served.socket.getsockname()[0] == "127.0.0.1"


def test_the_page_has_no_markup_made_from_text_and_no_foreign_address():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:", text
        )
        assert not found, f"{path.name}: {found}"


# How it ends.


def test_nobody_is_waited_for_where_no_page_is_open(followed):
    with Server(followed) as page:
        with page.following():
            ended = time.monotonic()
        assert time.monotonic() - ended < 1
    assert followed.state()["end"] == {"how": "done", "sentence": ""}


def test_an_open_page_is_told_the_end_at_once_and_let_go(followed, monkeypatch):
    monkeypatch.setattr(server, "PACE", 30.0)
    monkeypatch.setattr(server, "FAREWELL", 30.0)
    told, started = queue.Queue(), time.monotonic()

    def look(page):
        told.put(json.loads(ask(page, "next").body)["end"])
        ask(page, "seen")

    def fail(page):
        while not page.waiting:
            time.sleep(0.005)
        raise InputError("the disk is full")

    with Server(followed) as page:
        threading.Thread(target=look, args=(page,), daemon=True).start()
        with pytest.raises(InputError, match="full"), page.following():
            fail(page)
    ended = time.monotonic()
    assert told.get(timeout=5) == {"how": "failed", "sentence": "the disk is full"}
    assert ended - started < 20


def test_a_page_that_does_not_answer_is_not_waited_for_long(followed, monkeypatch):
    monkeypatch.setattr(server, "FAREWELL", 0.2)
    with Server(followed) as page:
        with page.following():
            ask(page, "state")
            ended = time.monotonic()
        assert 0.2 <= time.monotonic() - ended < 2


@pytest.mark.parametrize(
    ("error", "how", "why"),
    [
        (KeyboardInterrupt(), "stopped", "stopped; nothing was written"),
        (KeyboardInterrupt("kept in x"), "stopped", "kept in x"),
        (ZeroDivisionError("oh"), "failed", "ZeroDivisionError: oh; the terminal may say more"),
    ],
)
def test_how_a_run_ended_is_told_in_words(followed, error, how, why):
    with Server(followed) as page, pytest.raises(type(error)), page.following():
        raise error
    assert followed.state()["end"] == {"how": how, "sentence": why}


# The command.


@pytest.mark.parametrize("words", [("--port", 8123), ("--no-browser",)])
@pytest.mark.parametrize("command", ["denoise", "train"])
def test_choices_of_a_page_without_a_page_are_refused(quell, scan, tmp_path, command, words):
    out = ("out.nii",) if command == "denoise" else ("--model-out", "m.safetensors")
    ran = quell(command, scan, *out, *words)
    assert ran.status == 2
    assert ran.err == f"quell: {words[0]} belongs to --live; give both, or leave it out\n"


def test_a_port_in_use_is_told_before_any_work(quell, scan, tmp_path, served):
    ran = quell("denoise", scan, tmp_path / "out.nii", *LIVE, "--port", served.server_port, *QUICK)
    assert ran.status == 1
    assert f"port {served.server_port} cannot be used" in ran.err
    assert not (tmp_path / "out.nii").exists()


def test_no_page_is_opened_for_a_run_that_cannot_be(quell, scan):
    ran = quell("denoise", scan, scan, *LIVE, *QUICK)
    assert (ran.status, ran.out) == (2, "")


def test_a_method_without_a_network_is_shown_and_quiet_prints_the_address(
    quell, scan, tmp_path, monkeypatch
):
    seen, opened = heard(monkeypatch), queue.Queue()
    monkeypatch.setattr(webbrowser, "open", opened.put)
    ran = quell("denoise", scan, tmp_path / "out.nii", "--live", "-q", *QUICK)
    assert (ran.status, ran.err) == (0, "")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/\n", ran.out)
    assert opened.get(timeout=5) == ran.out.strip()
    state = seen[0].state()
    assert [stage["name"] for stage in state["stages"]] == [
        "reading", "check", "noise model", "training", "inference", "measure", "writing",
    ]  # fmt: skip
    assert state["slice"]["when"] == "the result"
    assert state["verdict"]["sentence"]
    assert state["results"] == [{"name": "result", "path": str(tmp_path / "out.nii")}]


def heard(monkeypatch) -> list[Follower]:
    """The followers that will be made, without a rest between their pictures."""
    made, begin = [], Follower.__init__

    def init(self, *given):
        begin(self, *given, every=0)
        made.append(self)

    monkeypatch.setattr(Follower, "__init__", init)
    monkeypatch.setattr(follower, "REST", 0)
    return made


def written(folder: Path) -> dict[str, object]:
    """Every file, without times, memory and the command that was given."""
    kept: dict[str, object] = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    kept["m.safetensors"] = save(load_file(folder / "m.safetensors"))  # metadata: in any order
    about = json.loads((folder / "out.json").read_text())
    for name in ("Seconds", "Date", "Command", "PeakMemoryBytes"):
        del about["Denoising"][name]
    return kept | {"out.json": about}


@pytest.mark.parametrize("method", ["joint", "noise2noise"])
def test_the_outputs_are_the_same_to_the_byte(quell, series, tmp_path, monkeypatch, method):
    seen, folders = heard(monkeypatch), [tmp_path / "plain", tmp_path / "live"]
    for folder, more in zip(folders, ((), LIVE), strict=True):
        folder.mkdir()
        monkeypatch.chdir(folder)
        write_scan(folder / "dwi.nii", series)
        words = ("--method", method, "--model-out", "m.safetensors", "--no-report", *TINY, *more)
        assert quell("denoise", "dwi.nii", "out.nii", *words).status == 0
    plain, live = (written(folder) for folder in folders)
    assert plain.keys() == live.keys()
    assert [name for name in plain if plain[name] != live[name]] == []
    assert seen[0].painter.pictures.number == 8  # the noisy slice, one a step, the result


def test_a_stopped_run_leaves_the_same_checkpoint_and_says_so(quell, series, tmp_path, monkeypatch):
    def stop(voice, task, done, total, note=""):
        if done == 4:
            raise KeyboardInterrupt

    seen, kept = heard(monkeypatch), []
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "progress", stop)
        for name, more in (("plain", ()), ("live", LIVE)):
            folder = tmp_path / name
            folder.mkdir()
            scan = write_scan(folder / "dwi.nii", series)
            ran = quell("denoise", scan, folder / "out.nii", "--no-report", *TINY, *more)
            assert ran.status == 130
            kept.append(next((folder / ".out.quell").glob("*/training.pt")).read_bytes())
    assert kept[0] == kept[1]
    end = seen[0].state()["end"]
    assert end["how"] == "stopped"
    assert "run the same command again to go on" in end["sentence"]
    ran = quell("denoise", scan, folder / "out.nii", "--no-report", *TINY)  # goes on without a page
    assert "training 5/6" in ran.err


def test_a_training_on_many_scans_is_shown_and_learns_the_same(
    quell, series, tmp_path, monkeypatch
):
    seen = heard(monkeypatch)
    scan = write_scan(tmp_path / "dwi.nii", series)
    for name, more in (("plain", ()), ("live", LIVE)):
        model = tmp_path / f"{name}.safetensors"
        assert quell("train", scan, "--model-out", model, *TINY, *more).status == 0
    plain, live = (tmp_path / f"{name}.safetensors" for name in ("plain", "live"))
    assert save(load_file(plain)) == save(load_file(live))  # metadata come in any order
    state = seen[0].state()
    assert [stage["name"] for stage in state["stages"]] == ["preparing", "training"]
    assert state["slice"]["when"] == "after 6 steps"
    assert state["results"][0]["path"] == str(live)
