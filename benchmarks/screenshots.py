"""The screenshots of README.md: the report and the viewer of the demo scan.

python benchmarks/screenshots.py                 denoises the demo scan first
python benchmarks/screenshots.py --folder made   keeps what it makes there, and uses it again

Needs Playwright (the extra `dev`) and Chromium on the PATH.
"""

import argparse
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from quell.view import Server, open_scans

DOCS = Path(__file__).parents[1] / "docs"
WIDE, HIGH = 1200, 900  # px of the window
MARGIN = 16  # px
PATIENCE = 300_000  # ms; the graphics are computed by the processor
VOLUME = 12  # one of the 40 directions, as in picture.png
MOST_BYTES = 400_000
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NAMES = ("dwi.nii.gz", "dwi.bval", "dwi.bvec")  # as `quell demo` has it


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to denoise; default: for this run only")
    parser.add_argument("--out", type=Path, default=DOCS, help="of report.png and view.png")
    options = parser.parse_args()
    with TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        denoise(folder)
        with chromium() as browser:
            write(options.out / "report.png", report(browser, folder))
            write(options.out / "view.png", view(browser, folder))


def denoise(folder: Path) -> None:
    """The demo scan by its names alone, so that the report holds no path of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "denoised_report.html").exists():
        return
    with as_file(files("quell") / "demo_scan") as demo:
        for name in NAMES:
            shutil.copyfile(demo / name, folder / name)
    words = "denoise dwi.nii.gz denoised.nii.gz --noise-out noise.nii.gz --seed 0"
    subprocess.run([sys.executable, "-m", "quell", *words.split()], cwd=folder, check=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport={"width": WIDE, "height": HIGH}, color_scheme="light")
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    return page


def report(browser: Browser, folder: Path) -> bytes:
    """The top of the report: the verdict, and the first look at the scan."""
    page = opened(browser, (folder / "denoised_report.html").resolve().as_uri())
    page.wait_for_load_state("load")
    return down_to(page, "#look")


def view(browser: Browser, folder: Path) -> bytes:
    """The viewer with one direction before and after, and what was removed in units of sigma."""
    paths = (folder / name for name in ("dwi.nii.gz", "denoised.nii.gz", "noise.nii.gz"))
    noisy, denoised, noise = paths
    with Server(open_scans(noisy, [denoised], noise)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(browser, server.address)
        page.wait_for_selector("body[data-ready=yes]")
        page.select_option("#difference", "ratio")
        page.select_option("#slices", "axial")
        page.fill("#volume", str(VOLUME))
        page.evaluate("document.activeElement.blur()")
        page.wait_for_selector(f"body[data-volume='{VOLUME}']")
        page.wait_for_selector("body[data-voxel]")
        page.wait_for_timeout(2000)  # for the graphics
        shot = down_to(page, ".below")
        server.shutdown()
    return shot


def down_to(page: Page, last: str) -> bytes:
    """The page from its top to the end of an element, with the margin that it has at its sides."""
    box = page.locator(last).bounding_box()
    assert box is not None
    high = box["y"] + box["height"] + MARGIN
    return page.screenshot(clip={"x": 0, "y": 0, "width": WIDE, "height": high}, full_page=True)


def write(path: Path, shot: bytes) -> None:
    """A PNG of 256 colours at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {image.width} x {image.height}, {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"{path} is larger than {MOST_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    main()
