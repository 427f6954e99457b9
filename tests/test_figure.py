"""quell figure: the sizes, the bytes and the pixels of a figure for a paper."""

import base64
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from conftest import NASTY, QUICK, write_scan
from quell.report import PaperFacts, axis_through, sheet_of
from quell.report.lettering import shortened, wide
from quell.report.paper import Panel, Row, Sheet, bytes_of
from quell.series import write_nifti

SIGMA = 40.0  # as the series has it
MAGIC = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}
POINT = 25.4 / 72  # mm
FIRST_SHELL = 8  # a volume with b>0
SHEET = """
import sys
import numpy as np
from quell.report.paper import Panel, Row, Sheet, bytes_of
row = Row([Panel("ab\u03c3", np.eye(4), (0.0, 1.0), unit="u")], "side")
sheet = Sheet([row], 1.0, "LRPA", [lambda axes: axes.plot([1, 2])], 40.0, 100, True)
sys.stdout.buffer.write(bytes_of(sheet, "svg") + bytes_of(sheet, "pdf"))
"""


@dataclass(frozen=True)
class Files:
    """A noisy scan, two results of it, its noise map, all on disk."""

    scan: Path
    good: Path
    smooth: Path
    sigma: Path


@pytest.fixture(scope="module")
def files(series, tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("figure")
    mean = series.data.mean(axis=3, keepdims=True)
    arrays = {"good": 0.5 * (series.data + mean), "smooth": 0.1 * series.data + 0.9 * mean}
    paths = [write_scan(folder / "dwi.nii.gz", series)]
    for name, data in arrays.items():
        paths.append(folder / f"{name}.nii.gz")
        write_nifti(paths[-1], data.astype(np.float32), series)
    write_nifti(folder / "sigma.nii.gz", np.full(series.data.shape[:3], SIGMA), series)
    return Files(*paths, folder / "sigma.nii.gz")


@pytest.fixture
def draw(quell, files, tmp_path):
    """draw("--plane", "axial", name="a.svg") writes a figure of one result and gives its path."""

    def run(*words: object, name: str = "a.svg", results=("good",)) -> Path:
        given = [getattr(files, result) for result in results]
        out = tmp_path / name
        ran = quell("figure", files.scan, *given, "--sigma", files.sigma, "-o", out, "-q", *words)
        assert (ran.status, ran.out, ran.err) == (0, "", ""), ran.err
        return out

    return run


def pictures_of(svg: Path) -> list[np.ndarray]:
    """(H, W) grey of every picture of an SVG but the scales, first row lowest."""
    found = []
    for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}image"):
        (address,) = (text for name, text in element.attrib.items() if name.endswith("href"))
        data = base64.b64decode(address.split(",")[1])
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        if pixels.shape[0] > 1:
            found.append(pixels[..., 0])
    return found


def texts_of(svg: Path) -> list[str]:
    found = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in found]


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """As a picture shows them, 0 to 255."""
    return np.clip((values - low) / (high - low), 0, 1) * 255


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_command_gives_the_same_bytes(draw, ending):
    words = ("--panels", "images,residuals,volumes", "--letters")
    first, second = (draw(*words, name=f"{n}.{ending}").read_bytes() for n in "ab")
    assert first.startswith(MAGIC[ending])
    assert first == second


def test_bytes_do_not_hang_on_the_hour_or_on_the_seed_of_hashes():
    found = set()
    for seed, epoch in (("1", "1000000000"), ("2", "1700000000")):
        given = {**os.environ, "PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": epoch}
        command = [sys.executable, "-c", SHEET]
        found.add(subprocess.run(command, env=given, capture_output=True, check=True).stdout)
    assert len(found) == 1
    both = found.pop()
    assert MAGIC["svg"] in both
    assert MAGIC["pdf"] in both
    assert not re.search(rb"CreationDate|ModDate|dc:date", both)


@pytest.mark.parametrize("width", ["85", "180"])
def test_the_figure_is_as_wide_as_asked(draw, width):
    svg = ElementTree.parse(draw("--width", width)).getroot()
    assert float(svg.get("width").removesuffix("pt")) * POINT == pytest.approx(float(width), 1e-5)
    pdf = draw("--width", width, name="a.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert float(box[1]) * POINT == pytest.approx(float(width), 1e-5)


@pytest.mark.parametrize("dpi", [100, 300])
def test_a_png_has_the_resolution_asked_for(draw, dpi):
    image = Image.open(draw("--width", 85, "--dpi", dpi, name="a.png"))
    assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)  # kept per metre
    assert image.size[0] == round(85 / 25.4 * dpi)


def test_text_stays_text(draw):
    texts = texts_of(draw("--panels", "images,residuals,noise,volumes"))
    assert {"dwi", "good", "removed", "noise map", "−3", "3 σ", "volume"} <= set(texts)
    pdf = draw(name="a.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_an_existing_figure_is_kept_without_force(quell, files, draw):
    out = draw()
    out.write_bytes(b"mine")
    ran = quell("figure", files.scan, files.good, "--sigma", files.sigma, "-o", out)
    assert (ran.status, out.read_bytes()) == (1, b"mine")
    assert ran.err == f"quell: {out} exists; give --force to replace it\n"
    assert draw("--force").read_bytes().startswith(MAGIC["svg"])
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_settings_of_matplotlib_are_left_alone(draw):
    mpl.rcParams["font.size"] = 31
    before = dict(mpl.rcParams)
    first = draw(name="b.svg").read_bytes()
    assert dict(mpl.rcParams) == before
    mpl.rcdefaults()
    assert draw(name="c.svg").read_bytes() == first


# ---- names ---------------------------------------------------------------------------------------


def test_names_are_text_whatever_they_hold(draw):
    names = [r"$\frac{1}{2}$ a_b^c", "µ–é漢 <b>&amp;"]
    assert set(names) <= set(texts_of(draw("--labels", ",".join(names))))
    for ending in ("png", "pdf"):
        draw("--labels", ",".join(names), name=f"b.{ending}")


def test_a_long_name_loses_its_middle(draw):
    words = ("--labels", f"scan,{NASTY}", "--panels", "images,volumes", "--width", 85)
    found = [text for text in texts_of(draw(*words)) if text.startswith("<img")]
    assert len(found) == 2  # above the picture, and in the legend
    for text in found:
        assert "…" in text
        assert text.endswith("n")
        assert wide(text) <= 85 / 2


def test_a_short_name_is_kept_and_a_narrow_place_gets_a_dot():
    assert shortened("a name", 50) == "a name"
    assert shortened("a name", 0.5) == "…"


def test_a_file_named_with_dollars_and_a_line_feed_is_drawn(quell, files, tmp_path):
    other = tmp_path / "a$b$\nc.nii.gz"
    other.write_bytes(files.good.read_bytes())
    out = tmp_path / "a.svg"
    ran = quell("figure", files.scan, other, "--sigma", files.sigma, "-o", out)
    assert ran.status == 0, ran.err
    assert r"a$b$\nc" in texts_of(out)


def test_titles_and_letters_can_be_had_or_not(draw):
    plain = texts_of(draw("--no-titles", "--letters"))
    assert {"a", "b", "c", "L", "R", "3 σ"} <= set(plain)
    assert not {"dwi", "good", "removed"} & set(plain)
    assert "a" not in texts_of(draw(name="b.svg"))


# ---- pixels --------------------------------------------------------------------------------------


def test_images_share_a_window_and_residuals_are_in_units_of_sigma(draw, series):
    words = ("--window", "0,1500", "--no-crop", "--volume", FIRST_SHELL, "--slice", 1)
    drawn = pictures_of(draw(*words, results=("good", "smooth")))
    noisy = series.data[:, :, 1, FIRST_SHELL].astype(float)
    mean = series.data.mean(axis=3)[:, :, 1]
    results = [0.5 * (noisy + mean), 0.1 * noisy + 0.9 * mean]
    expected = [grey(values, 0, 1500) for values in (noisy, *results)]
    expected += [grey((noisy - result) / SIGMA, -3, 3) for result in results]
    assert len(drawn) == len(expected)
    for pixels, values in zip(drawn, expected, strict=True):
        turned = values.T if np.linalg.det(series.affine) > 0 else values[::-1].T
        np.testing.assert_allclose(pixels, turned, atol=2.5)  # matplotlib rounds twice


def test_a_noise_map_twice_as_high_halves_the_residual(draw, files, series, tmp_path):
    double = tmp_path / "double.nii.gz"
    write_nifti(double, np.full(series.data.shape[:3], 2 * SIGMA), series)
    each = np.full(series.data.shape, SIGMA)
    each[..., FIRST_SHELL] = 2 * SIGMA
    write_nifti(tmp_path / "each.nii.gz", each, series)
    words = ("--panels", "residuals", "--volume", FIRST_SHELL)
    (one,) = pictures_of(draw(*words))
    (two,) = pictures_of(draw(*words, "--sigma", double, name="b.svg"))
    (same,) = pictures_of(draw(*words, "--sigma", tmp_path / "each.nii.gz", name="c.svg"))
    inside = (one > 0) & (one < 255)
    np.testing.assert_allclose(two[inside] - 127.5, (one[inside] - 127.5) / 2, atol=1.5)
    np.testing.assert_array_equal(two, same)


@pytest.mark.parametrize(
    "words", [("--slice", 0), ("--volume", 0), ("--plane", "coronal"), ("--plane", "sagittal")]
)
def test_slice_volume_and_plane_change_the_picture(draw, words):
    usual, other = pictures_of(draw())[0], pictures_of(draw(*words, name="b.svg"))[0]
    assert not np.array_equal(usual, other)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_left_is_left_whatever_the_order_of_the_axes(flips, order):
    """Bright where the person's left, front and top are, stored in any order."""
    affine, shape = np.zeros((4, 4)), [8, 10, 6]
    for axis, way in enumerate(order):
        affine[way, axis] = flips[axis]
    affine[3, 3] = 1
    shape = [shape[way] for way in order]
    x, y, z = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)).T
    world = {"left": -x.T, "front": y.T, "top": z.T}
    for plane, across, up in (("axial", "left", "front"), ("coronal", "left", "top")):
        bright = world[across] - world[across].min() + 20 * (world[up] - world[up].min())
        facts = PaperFacts(
            "n", bright[..., None], [("d", bright[..., None])], np.ones(shape, bool), affine,
            0, ["images"], plane=plane, is_cropped=False,
        )  # fmt: skip
        sheet = sheet_of(facts, 80, 100)
        pixels = sheet.rows[0].panels[0].pixels
        assert (np.diff(pixels, axis=1) < 0).all()  # brightest at the left of the picture
        assert (np.diff(pixels, axis=0) > 0).all()  # and at its top, the last row
        assert sheet.letters[:2] == "LR"


def test_slices_are_counted_as_the_file_stores_them(series):
    upside_down = series.affine.copy()
    upside_down[:3, 2] *= -1
    assert axis_through("axial", upside_down) == 2
    for affine in (series.affine, upside_down):
        facts = PaperFacts(
            "n", series.data, [("d", series.data)], np.ones(series.data.shape[:3], bool), affine,
            0, ["images"], index=0, is_cropped=False,
        )  # fmt: skip
        drawn = sheet_of(facts, 80, 100).rows[0].panels[0].pixels
        assert np.sort(drawn, axis=None) == pytest.approx(
            np.sort(series.data[:, :, 0, 0], axis=None)
        )


# ---- panels --------------------------------------------------------------------------------------


def test_every_panel_is_drawn_beside_each_other(draw):
    every = "images,residuals,averaged,noise,fa,md,spectrum,volumes,shells"
    words = ("--panels", every, "--noise-law", "gaussian", "--threads", 1)
    texts = texts_of(draw(*words, results=("good", "smooth")))
    assert {"removed", "removed, averaged", "FA", "MD", "0.8", "3 µm²/ms", "4 σ"} <= set(texts)
    assert {"b=0", "volume", "shell, s/mm²", "noise model"} <= set(texts)
    assert texts.count("residual sd / σ") == 2
    assert texts.count("good") == 4  # above its pictures and in three legends


def test_a_chart_alone_makes_a_figure(draw):
    svg = draw("--panels", "shells", "--width", 60)
    assert pictures_of(svg) == []
    assert "b=0" in texts_of(svg)


def test_tensors_outside_of_the_mask_are_black(draw, files, series, tmp_path):
    mask = np.zeros(series.data.shape[:3], np.uint8)
    mask[4:9, 4:9, 0] = 1
    write_nifti(tmp_path / "mask.nii.gz", mask, series)
    found = pictures_of(draw("--panels", "fa", "--slice", 2, "--mask", tmp_path / "mask.nii.gz"))
    assert not np.any(found)


def test_the_noise_is_learned_as_denoising_learns_it(quell, files, draw, tmp_path):
    law, words = ("--noise-law", "gaussian"), ("--panels", "residuals")
    noise, out = tmp_path / "noise.nii.gz", tmp_path / "b.svg"
    done = quell("denoise", files.scan, tmp_path / "r.nii.gz", *QUICK, *law, "--noise-out", noise)
    assert done.status == 0, done.err
    ran = quell("figure", files.scan, files.good, "-o", out, *words, *law, "--threads", 1)
    assert (ran.status, ran.out) == (0, f"figure: {out}\n"), ran.err
    (learned,), (given,) = pictures_of(out), pictures_of(draw(*words, "--sigma", noise))
    np.testing.assert_allclose(learned, given, atol=1)  # the map was written and read


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--panels", "after"), 2, "'after' is no panel; choose from images, residuals"),
        (("--panels", ","), 2, "no panel is named"),
        (("--plane", "oblique"), 2, "'oblique' is no plane; choose from axial"),
        (("--slice", "3"), 2, "there is no axial slice 3; the scan has 0 to 2"),
        (("--slice", "-1"), 2, "there is no axial slice -1"),
        (("--slice", "two"), 2, "--slice"),
        (("--volume", "14"), 2, "there is no volume 14; the scan has 0 to 13"),
        (("--width", "7"), 2, "--width 7 can't be; give 20 to 500"),
        (("--width", "nan"), 2, "--width nan can't be"),
        (("--dpi", "1"), 2, "--dpi 1 can't be; give 50 to 2400"),
        (("--window", "5"), 2, "--window 5 is not understood; write it as 0,800"),
        (("--window", "9,1"), 2, "a window from 9 to 1 shows nothing"),
        (("--labels", "a,b,c"), 2, "3 labels for 2 files"),
        (("--out", "fig.jpg"), 2, "fig.jpg is no name for this result"),
        (("--out", "nowhere/fig.png"), 1, "the folder nowhere does not exist"),
        (("--sigma", "none.nii.gz"), 1, "none.nii.gz"),
        (("--mask", "none.nii.gz"), 1, "none.nii.gz"),
    ],
)
def test_a_bad_command_is_one_sentence(quell, files, tmp_path, monkeypatch, words, status, said):
    monkeypatch.chdir(tmp_path)
    usual = ("--sigma", files.sigma, "--out", "a.svg")
    ran = quell("figure", files.scan, files.good, *usual, *words)
    assert ran.status == status
    assert ran.err.startswith("quell: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_scan_is_refused(quell, files, series, tmp_path):
    other = tmp_path / "other.nii.gz"
    write_nifti(other, series.data[:, :, :2], replace(series, data=series.data[:, :, :2]))
    out = tmp_path / "a.svg"
    ran = quell("figure", files.scan, other, "--sigma", files.sigma, "-o", out)
    assert ran.status == 1
    assert f"{other} can't be drawn: its result is (16, 18, 2, 14)" in ran.err
    ran = quell("figure", files.scan, files.good, "--sigma", other, "-o", out)
    assert ran.status == 1
    assert "the noise map" in ran.err
    assert not out.exists()


@pytest.mark.parametrize(("panel", "said"), [("fa", "fa and md need"), ("shells", "shells need")])
def test_panels_of_b_values_need_b_values(quell, files, tmp_path, panel, said):
    scan, out = tmp_path / "alone.nii.gz", tmp_path / "a.svg"
    scan.write_bytes(files.scan.read_bytes())
    ran = quell("figure", scan, files.good, "--sigma", files.sigma, "-o", out, "--panels", panel)
    assert ran.status == 1
    assert said in ran.err


def test_too_many_results_and_too_narrow_pictures_are_refused(quell, files, tmp_path):
    paths = []
    for i in range(9):
        paths.append(tmp_path / f"r{i}.nii.gz")
        paths[-1].symlink_to(files.good)
    words = ("--sigma", files.sigma, "-o", tmp_path / "a.png")
    ran = quell("figure", files.scan, *paths, *words)
    assert (ran.status, "9 results are too many" in ran.err) == (2, True)
    ran = quell("figure", files.scan, *paths[:4], *words, "--width", 30)
    assert (ran.status, "give a larger --width" in ran.err) == (2, True)


def test_a_png_beyond_all_measure_is_refused(quell, files, tmp_path):
    out = tmp_path / "a.png"
    words = ("--sigma", files.sigma, "-o", out, "--width", 500, "--dpi", 2400)
    ran = quell("figure", files.scan, files.good, *words)
    assert (ran.status, "pixels are too many" in ran.err) == (2, True)
    assert not out.exists()


def test_pictures_of_a_sheet_keep_their_proportions():
    row = Row([Panel("", np.zeros((10, 20)), (0, 1)), None])
    drawn = Image.open(io.BytesIO(bytes_of(Sheet([row], 0.5, "LRPA", [], 101.2, 254), "png")))
    assert drawn.size == (1012, 250)  # two of 50 mm and a gap, 25 mm high
