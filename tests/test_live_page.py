"""The page of a run in a real browser, while the run works and after."""

import threading
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from conftest import write_scan
from quell.files import Files
from quell.live import Follower, Server, follower
from quell.options import Options
from quell.outputs import denoise_file
from quell.run import Silent
from quell.series import InputError

NASTY = "<img src=x onerror=alert(1)>'&é.nii"
SETTINGS = {"steps": 6, "channels": 8, "patch": 16}


class Halts(Silent):
    """Waits at some steps of the training until it may go on."""

    def __init__(self, *steps: int) -> None:
        self.may_go_on = {step: threading.Event() for step in steps}

    def progress(self, task, done, total, note=""):
        if task == "training" and done in self.may_go_on:
            assert self.may_go_on[done].wait(60)


@pytest.fixture
def open_page(browser):
    """open_page(address) in a window of a phone; what went wrong is in its `.faults`."""
    context = browser.new_context(viewport={"width": 390, "height": 800})

    def opened(address):
        page = context.new_page()
        page.faults, page.asked = [], []
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    context.close()


def in_background(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def picture(page, name):
    shot = page.locator(f"#{name}").screenshot()
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)


def test_a_run_is_followed_from_its_first_steps_to_the_verdict(
    open_page, series, tmp_path, monkeypatch
):
    monkeypatch.setattr(follower, "REST", 0)
    voice = Halts(2, 5)
    scan, out = write_scan(tmp_path / NASTY, series), tmp_path / "out.nii"
    seen = Follower(voice, NASTY, {"result": out}, every=0)

    def work():
        with page_of_run.following() as told:
            options = Options(settings=SETTINGS, threads=1)
            denoise_file(Files(scan, out), options, False, "", told)

    with Server(seen) as page_of_run:
        running = in_background(work)
        page = open_page(page_of_run.address)

        page.wait_for_selector("#doing:text('training: 2 of 6')")
        page.wait_for_selector("body[data-picture='2']")
        assert page.inner_text("#status") == "training"
        assert page.inner_text("#when") == "after 1 steps"
        assert "after 2 of 6 steps" in page.get_attribute("#charts svg", "aria-label")
        assert page.inner_text("#title") == NASTY
        assert np.ptp(picture(page, "residual"), axis=(0, 1)).max() > 100
        early = picture(page, "denoised")
        voice.may_go_on[2].set()

        page.wait_for_selector("#doing:text('training: 5 of 6')")
        page.wait_for_selector("body[data-picture='5']")
        assert np.abs(picture(page, "denoised") - early).mean() > 0.1
        assert len(page.get_attribute("#charts polyline", "points").split()) == 5
        assert page.locator("html").evaluate("e => e.scrollWidth") <= 390
        page.focus("#log")
        page.keyboard.press("Space")
        assert page.is_checked("#log")
        voice.may_go_on[5].set()

        page.wait_for_selector("body[data-end=done]")
        running.join(10)
    assert not running.is_alive()  # and the page does not need it any more
    assert page.inner_text("#when") == "the result"
    assert page.inner_text("#verdict") == seen.verdict[1] != ""
    assert page.inner_text("#results dd") == str(out)
    assert page.title() == f"done: {NASTY}"
    assert page.locator("img").count() == 3
    assert page.locator("#denoised").evaluate("e => e.naturalWidth") == 16
    assert page.faults == []
    assert [url for url in page.asked if not url.startswith((page_of_run.address, "data:"))] == []


def test_a_run_that_fails_says_why_as_text(open_page):
    with Server(Follower(Silent(), NASTY, {})) as page_of_run:
        fails = threading.Event()

        def work():
            with suppress(InputError), page_of_run.following() as told:
                told.stage("reading")
                fails.wait(60)
                raise InputError(f"{NASTY} is no scan")

        running = in_background(work)
        page = open_page(page_of_run.address)
        page.wait_for_selector("#status:text-is('reading')")
        fails.set()
        page.wait_for_selector("body[data-end=failed]")
        running.join(10)
    assert page.inner_text("#status") == f"The run failed: {NASTY} is no scan"
    assert not page.is_visible("#verdict")
    assert page.locator("#status img").count() == 0
    assert page.faults == []


def test_a_run_that_was_killed_is_missed(open_page):
    seen = Follower(Silent(), "dwi.nii", {})
    seen.stage("reading")
    with Server(seen) as page_of_run:
        in_background(lambda: page_of_run.serve_forever(0.02))
        page = open_page(page_of_run.address)
        page.wait_for_selector("#status:text-is('reading')")
        page.evaluate("() => { window.setTimeout = (f) => queueMicrotask(f) }")  # no time is lost
        page.route("**/next", lambda route: route.abort())
        page.wait_for_selector("body[data-end=lost]")
        page_of_run.shutdown()
    assert "does not answer any more" in page.inner_text("#status")
    assert page.inner_text("#stages li").startswith("reading")
