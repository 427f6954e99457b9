"""The report in a real browser: Chromium without a window, as Debian or a user has installed it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import NASTY
from quell.evaluate import residual_statistics
from quell.report import ReportFacts, write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")


@pytest.fixture(scope="module")
def page_file(facts: ReportFacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose result differs from the scan to the eye, with a slice that dropped out."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    bvals = np.array([0.0] * 2 + [1000.0] * 6)
    rng = np.random.default_rng(1)
    clean = np.broadcast_to(rng.uniform(100, 300, (*facts.mask.shape, 1)), (*facts.mask.shape, 8))
    noisy = (clean + 60 * rng.standard_normal(clean.shape)).astype(np.float32)
    noisy[:, :, 4, 5] -= 180
    sigma = np.full(facts.mask.shape, 60.0, np.float32)
    write_report(
        path,
        replace(
            facts,
            noisy=noisy,
            denoised=clean.astype(np.float32),
            sigma=sigma,
            bvals=bvals,
            statistics=residual_statistics(noisy, clean, sigma, facts.mask, bvals, None),
            versions={"quell": "0.1", NASTY: NASTY},
            steps={"matched states": np.arange(20)},
            spread=0.2 * np.broadcast_to(sigma[..., None], clean.shape),
            maps={"rank": sigma},
        ),
    )
    return path


@contextmanager
def opened(browser, path: Path, **context) -> Iterator:
    """The page as its file opens it; it must say nothing and ask for nothing."""
    with browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **context}) as tab:
        page, said, asked = tab.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        if context.get("java_script_enabled", True):
            page.wait_for_selector("#browse:not([hidden])")
        yield page
        assert said == []
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        assert sum(url.startswith("file:") for url in asked) == 1


def pixels(element) -> np.ndarray:
    element.scroll_into_view_if_needed()
    return np.asarray(
        Image.open(io.BytesIO(element.screenshot(animations="disabled"))).convert("L")
    )


def changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels that differ by more than a tenth of the range."""
    return float((np.abs(a.astype(int) - b.astype(int)) > 25).mean())


def test_it_opens_from_disk_in_silence_and_asks_for_nothing(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        assert page.title().startswith("<img src=x")


def test_before_and_after_change_on_hover_and_on_click(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        stack = page.locator(".stack")
        after = pixels(stack)
        stack.hover()
        before = pixels(stack)
        assert changed(after, before) > 0.2
        stack.click()  # under the pointer now stays what a click chose
        assert changed(pixels(stack), before) > 0.2
        page.mouse.move(5, 5)
        assert changed(pixels(stack), before) == 0


def test_the_keyboard_shows_before(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        stack = page.locator(".stack")
        after = pixels(stack)
        page.locator("#show-before").focus()
        page.keyboard.press("Space")
        assert changed(after, pixels(stack)) > 0.2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slider_moves_its_own_plane_and_no_other(browser, page_file, axis: int) -> None:
    with opened(browser, page_file) as page:
        canvases = [page.locator(f"figure[data-axis='{a}'] canvas") for a in range(3)]
        before = [pixels(canvas) for canvas in canvases]
        slider = page.locator(f"figure[data-axis='{axis}'] input")
        number = int(page.locator(f"figure[data-axis='{axis}'] output").inner_text())
        slider.focus()
        page.keyboard.press("ArrowLeft")
        is_changed = [changed(a, pixels(c)) > 0.1 for a, c in zip(before, canvases, strict=True)]
        assert is_changed == [a == axis for a in range(3)]
        assert page.locator(f"figure[data-axis='{axis}'] output").inner_text() == str(number - 1)


def test_the_planes_show_the_voxels_of_the_scan(browser, page_file, facts) -> None:
    with opened(browser, page_file) as page:
        seen = page.evaluate("""() => [0, 1, 2].map((axis) => {
            const c = document.querySelector(`figure[data-axis="${axis}"] canvas`);
            const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            return {size: [c.height, c.width], grey: [...data].filter((_, i) => i % 4 === 0)};
        })""")
    sagittal, coronal, axial = (np.reshape(plane["grey"], plane["size"]) for plane in seen)
    volume = np.random.default_rng(1).uniform(100, 300, (14, 16, 8))  # as the page was made of
    x, y, z = np.round(np.argwhere(facts.mask).mean(axis=0)).astype(int)
    for plane, voxels in (
        (axial, volume[:, ::-1, z].T),
        (coronal, volume[:, y, ::-1].T),
        (sagittal, volume[x, :, ::-1].T),
    ):
        known = (plane > 0) & (plane < 255)
        slope = np.polyfit(voxels[known], plane[known], 1)
        np.testing.assert_allclose(np.polyval(slope, voxels[known]), plane[known], atol=1)


def test_before_after_and_removed_can_be_chosen_for_all_slices(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        canvas = page.locator("figure[data-axis='2'] canvas")
        shown = {}
        for name in ("before", "after", "removed"):
            page.locator(f"input[value={name}]").check()
            shown[name] = pixels(canvas)
            assert page.locator("#browse .tag").inner_text() == name
        assert changed(shown["before"], shown["after"]) > 0.2
        assert changed(shown["after"], shown["removed"]) > 0.2
        page.locator("#browse input[type=checkbox]").check()
        for name in ("after", "before", "after"):
            playwright.expect(page.locator("#browse .tag")).to_have_text(name)


def test_without_scripts_all_but_the_sliders_is_there(browser, page_file) -> None:
    with opened(browser, page_file, java_script_enabled=False) as page:
        assert not page.locator("#browse").is_visible()
        assert page.locator("#pictures img").count() == 6
        assert page.locator("#verdict strong").is_visible()


def test_hostile_text_is_seen_as_text(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        assert page.locator("h1").inner_text() == NASTY
        assert NASTY in page.locator("#command").inner_text()
        assert page.locator("#versions + table").inner_text().count(NASTY) == 2
        assert page.locator("img[onerror]").count() == 0


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_overflows_sideways(browser, page_file, width: int) -> None:
    with opened(browser, page_file, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate("""(width) => [...document.querySelectorAll("body *")].filter(
            (e) => e.getBoundingClientRect().right > width + 1 && !e.closest(".wide, .unseen")
        ).map((e) => e.outerHTML.slice(0, 80))""", width)  # fmt: skip
        assert wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_it(browser, page_file, scheme: str) -> None:
    """axe-core: contrast of every text, names of controls, order of headings, and the rest."""
    with opened(browser, page_file, color_scheme=scheme) as page:
        found = axe.Axe().run(page).response
    names = [(one["id"], one["nodes"][0]["html"][:80]) for one in found["violations"]]
    assert names == []
    assert any(one["id"] == "color-contrast" for one in found["passes"])


def test_axe_sees_a_text_that_is_too_faint(browser, page_file) -> None:
    with opened(browser, page_file) as page:
        page.locator("h1").evaluate("(h) => { h.style.color = '#ddd'; }")
        found = axe.Axe().run(page).response
    assert "color-contrast" in [one["id"] for one in found["violations"]]


def test_it_prints_on_a_few_pages(browser, page_file, tmp_path) -> None:
    with opened(browser, page_file) as page:
        pdf = page.pdf(format="A4")
        page.emulate_media(media="print")
        assert not page.locator("#browse").is_visible()
        assert not page.locator(".button").first.is_visible()
    assert 3 <= pdf.count(b"/Type /Page\n") <= 14
