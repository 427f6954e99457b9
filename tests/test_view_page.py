"""The page of quell view in a real browser: what it shows is what is in the files."""

import gzip
import json
import threading
from contextlib import contextmanager
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from quell.view import Server, open_scans

SHAPE, N_VOLUMES = (16, 18, 10), 5
BVALS = [0, 1000, 1000, 0, 2000]
# turned about two axes, the first one flipped, and not in the middle
AFFINE = np.array([[-2, 0.2, 0.1, 19], [0.2, 2, 0.3, -12], [0.1, -0.3, 2.5, -9], [0, 0, 0, 1.0]])
NASTY = "<img src=x onerror=alert(1)>\"'&é漢 "


def axis_order():
    """The affine of a scan stored as (z, x, y), its y from front to back."""
    turned = np.eye(4)
    turned[:3, :3] = np.array([[0, 2.0, 0], [0, 0, -2.0], [2.5, 0, 0]])
    return turned


def write(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
    return path


def head(seed, sigma):
    """A bright ball with a gradient, a little different in every volume."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.9) * (100 + 40 * x + 25 * y + 15 * z)
    volumes = np.stack([ball * (1 + 0.3 * v) for v in range(N_VOLUMES)], axis=-1)
    return volumes + sigma * rng.standard_normal(volumes.shape)


def write_scaled(path):
    """int16 with slope and intercept, packed."""
    raw = np.round((head(1, 12) + 5) / 0.125).astype(np.int16)
    whole = bytearray(nib.Nifti1Image(raw, AFFINE).to_bytes())
    whole[112:120] = np.array([0.125, -5], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(gzip.compress(whole))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    write_scaled(folder / "noisy.nii.gz")
    np.savetxt(folder / "noisy.bval", [BVALS], fmt="%d")
    write(folder / "denoised.nii", head(2, 1) - 6)  # lower, so that most of the difference is > 0
    write(folder / "sigma.nii.gz", np.full(SHAPE, 12.0))
    return folder


@pytest.fixture(scope="module")
def opened_pages(browser):
    """Opens pages until it is closed; what went wrong in one is in its `.faults`."""
    return contextmanager(lambda: serving(browser))


def serving(browser):
    closing = []

    def start(scans, width=800):
        server = Server(scans)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        context = browser.new_context(viewport={"width": width, "height": 560})
        closing.extend([context.close, server.shutdown, server.server_close])
        page = context.new_page()
        page.faults, page.asked, page.address = [], [], server.address
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server.address)
        page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
        page.wait_for_selector("body[data-voxel]")
        page.asked_first = list(page.asked)
        return page

    yield start
    for close in closing:
        close()


@pytest.fixture
def open_page(opened_pages):
    """open_page(scans) serves them and opens the page, for one test."""
    with opened_pages() as start:
        yield start


@pytest.fixture(scope="module")
def files(folder):
    return folder / "noisy.nii.gz", folder / "denoised.nii"


@pytest.fixture(scope="module")
def opened(opened_pages, folder, files):
    with opened_pages() as start:
        yield start(open_scans(files[0], [files[1]], folder / "sigma.nii.gz"))


@pytest.fixture
def page(opened):
    """The page as it is after loading: volume 0, three slices, side by side, no difference."""
    for key in ("s", "4", "0", "w"):
        opened.keyboard.press(key)
    opened.select_option("#difference", "")
    opened.select_option("#order", "file")
    go_to(opened, 0)
    move_to(opened, (8, 9, 5))
    yield opened
    assert opened.faults == []


def settle(page):
    """Wait until the volume is drawn and the values of the voxel have come."""
    page.wait_for_timeout(50)
    page.wait_for_selector("body[data-volume][data-voxel]")


def go_to(page, v):
    page.locator("#volume").fill(str(v))
    page.wait_for_selector(f"body[data-volume='{v}']")
    settle(page)


def move_to(page, voxel):
    for name, k in zip("xyz", voxel, strict=True):
        page.locator(f"#{name}").fill(str(k))
        page.locator(f"#{name}").press("Enter")
    page.locator("#z").blur()
    page.wait_for_selector(f"body[data-voxel='{' '.join(map(str, voxel))}']")


def voxel_of(page):
    settle(page)
    return tuple(int(k) for k in page.get_attribute("body", "data-voxel").split())


def values_of(page):
    """The numbers of the table's column of values, file by file."""
    return [
        float(t) for t in page.locator("#values tr[data-file] td:nth-child(2)").all_inner_texts()
    ]


def pixels(page, i=0):
    """(height, width, 3) of a pane, as it is on the screen."""
    shot = page.locator(".screen").nth(i).screenshot()
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)


def read(path, voxel, v):
    return nib.load(path).get_fdata()[(*voxel, v)]


def test_the_page_loads_without_a_fault_and_asks_nobody_else(page):
    assert page.faults == []
    outside = [url for url in page.asked if not url.startswith((page.address, "data:"))]
    assert outside == []
    assert any("niivue" in url for url in page.asked)


def test_only_the_volume_that_is_looked_at_is_fetched(opened):
    fetched = [u.removeprefix(opened.address) for u in opened.asked_first if "/volume/" in u]
    assert sorted(fetched) == ["volume/0/0", "volume/1/0"]


@pytest.mark.parametrize("voxel", [(0, 0, 0), (8, 9, 5), (3, 12, 7), (15, 17, 9)])
def test_the_values_at_the_crosshair_are_those_that_nibabel_reads(page, files, voxel):
    go_to(page, 2)
    move_to(page, voxel)
    assert values_of(page) == pytest.approx([read(path, voxel, 2) for path in files], rel=1e-8)


def test_the_difference_at_the_crosshair_is_noisy_minus_denoised(page, files):
    a, b = (read(path, (8, 9, 5), 0) for path in files)
    cells = page.locator("#values tr[data-file='1'] td").all_inner_texts()
    assert [float(cell) for cell in cells[1:]] == pytest.approx([a - b, (a - b) / 12], rel=1e-4)


@pytest.mark.parametrize("key", ["1", "2", "3"])
@pytest.mark.parametrize("place", [(0.47, 0.54), (0.42, 0.6), (0.6, 0.35)])
def test_a_click_names_the_voxel_that_is_drawn_there(page, files, key, place):
    page.keyboard.press(key)
    page.locator("#low").fill("-50")
    page.locator("#high").fill("250")
    page.locator("#high").press("Enter")
    move_to(page, (1, 1, 8) if key == "1" else (1, 8, 1) if key == "2" else (8, 1, 1))
    before = pixels(page, 1)
    height, width, _ = before.shape
    x, y = int(place[0] * width), int(place[1] * height)
    while np.ptp(before[y - 3 : y + 4, x - 3 : x + 4]) > 0:  # not on the edge of a voxel
        x, y = x + 1, y + 1
    page.locator("canvas").nth(1).click(position={"x": x, "y": y})
    value = read(files[1], voxel_of(page), 0)
    assert before[y, x].tolist() == pytest.approx([255 * (value + 50) / 300] * 3, abs=2.5)


def test_a_scan_with_its_axes_in_another_order_is_not_mixed_up(open_page, tmp_path):
    data = head(3, 5).transpose(2, 0, 1, 3)[..., :2]
    path = write(tmp_path / "turned.nii", data, axis_order())
    page = open_page(open_scans(path, [path]))
    page.keyboard.press("1")
    move_to(page, (5, 3, 4))
    low, high = (float(page.locator(f"#{name}").input_value()) for name in ("low", "high"))
    before = pixels(page, 1)
    x, y = before.shape[1] * 11 // 20, before.shape[0] * 9 // 20
    page.locator("canvas").nth(1).click(position={"x": x, "y": y})
    value = read(path, voxel_of(page), 0)
    assert before[y, x, 0] == pytest.approx(
        np.clip(255 * (value - low) / (high - low), 0, 255), abs=3
    )


def test_keys_step_by_voxels_to_the_right_to_the_front_and_up(page):
    mm = AFFINE @ (8, 9, 5, 1)
    for key, axis, sign in (
        ("ArrowRight", 0, 1),
        ("ArrowUp", 1, 1),
        ("PageUp", 2, 1),
        ("ArrowLeft", 0, -1),
    ):
        page.keyboard.press(key)
        now = AFFINE @ (*voxel_of(page), 1)
        assert np.argmax(np.abs(now - mm)) == axis
        assert np.sign((now - mm)[axis]) == sign
        mm = now


def test_a_click_moves_the_crosshair_in_every_pane(page):
    before = pixels(page, 0), pixels(page, 1)
    page.locator("canvas").nth(0).click(position={"x": 180, "y": 110})
    voxel_of(page)
    for i in (0, 1):
        changed = np.abs(pixels(page, i) - before[i]).max(axis=2) > 60
        rows = np.flatnonzero(changed.mean(axis=1) > 0.2)
        assert len(rows) > 0
        assert np.abs(rows - 110).min() <= 8  # a voxel is larger: the crosshair sits in its middle


def test_zoom_is_shared(page):
    before = [pixels(page, i) for i in (0, 1)]
    page.keyboard.press("+")
    for i in (0, 1):
        assert np.abs(pixels(page, i) - before[i]).mean() > 3
    page.keyboard.press("0")
    for i in (0, 1):
        np.testing.assert_allclose(pixels(page, i), before[i], atol=2)


def test_the_wheel_zooms_with_ctrl_and_turns_slices_without(page):
    page.keyboard.press("1")
    page.locator("canvas").nth(0).hover(position={"x": 180, "y": 110})
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(200)
    assert voxel_of(page)[2] in (4, 6)
    move_to(page, (8, 9, 5))
    page.locator("canvas").nth(0).hover(position={"x": 180, "y": 110})
    before = pixels(page, 1)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(200)
    page.keyboard.up("Control")
    assert voxel_of(page) == (8, 9, 5)
    assert np.abs(pixels(page, 1) - before).mean() > 3


def test_zoom_keeps_the_crosshair_where_it_is(page):
    page.keyboard.press("1")
    page.locator("#low").fill("-9000")  # all grey but the crosshair
    page.locator("#low").press("Enter")
    move_to(page, (8, 9, 5))
    image = pixels(page, 0)
    orange = (image[..., 0] - image[..., 2]) > 60
    page.keyboard.press("+")
    page.keyboard.press("+")
    image = pixels(page, 0)
    still = (image[..., 0] - image[..., 2]) > 60
    assert np.abs(np.argmax(orange.sum(axis=1)) - np.argmax(still.sum(axis=1))) <= 3
    assert np.abs(np.argmax(orange.sum(axis=0)) - np.argmax(still.sum(axis=0))) <= 3


def test_the_slider_changes_both_panes(page):
    page.locator("#low").fill("0")  # a fixed window, or each volume would look alike
    page.locator("#low").press("Enter")
    before = [pixels(page, i).mean() for i in (0, 1)]
    go_to(page, 4)
    assert all(pixels(page, i).mean() > 1.1 * before[i] for i in (0, 1))
    assert "4 (0 to 4), b 2000 s/mm²" in page.inner_text("#volume-text")


def test_flicker_shows_both_in_one_place_by_turns(page):
    beside = page.locator("figure.noisy").bounding_box()
    page.click("#flicker")
    assert page.locator("figure.noisy").bounding_box()["width"] > 1.5 * beside["width"]
    seen = {
        page.locator(".noisy.under").count() for _ in range(14) if not page.wait_for_timeout(100)
    }
    assert seen == {0, 1}
    page.keyboard.press("f")
    state = page.locator(".noisy.under").count()
    page.wait_for_timeout(800)
    assert page.locator(".noisy.under").count() == state
    page.click("#beside")
    assert page.locator("figure.noisy").bounding_box()["width"] == beside["width"]


def test_swapping_by_hand_changes_what_is_on_the_screen(page):
    page.keyboard.press("x")
    first = page.screenshot(clip=page.locator("#panes").bounding_box())
    page.keyboard.press("x")
    second = page.screenshot(clip=page.locator("#panes").bounding_box())
    page.keyboard.press("x")
    third = page.screenshot(clip=page.locator("#panes").bounding_box())
    a, b, c = (
        np.asarray(Image.open(BytesIO(shot)).convert("L")).astype(int)
        for shot in (first, second, third)
    )
    assert np.abs(a - b).mean() > 1
    np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(("kind", "unit"), [("difference", 1), ("ratio", 12)])
def test_the_difference_is_blue_and_orange_by_its_sign(page, files, kind, unit):
    page.select_option("#difference", kind)
    page.wait_for_selector("figure >> nth=2")
    settle(page)
    page.locator("#span").fill(str(12 / unit))
    page.locator("#span").press("Enter")
    page.keyboard.press("1")
    noisy, denoised = (nib.load(path).get_fdata()[:, :, 5, 0] for path in files)
    strong = (noisy - denoised)[np.abs(noisy - denoised) > 5]
    image = pixels(page, 2)
    orange = (image[..., 0] > image[..., 2] + 60).sum()
    blue = (image[..., 2] > image[..., 0] + 60).sum()
    share = (strong > 0).mean()
    assert 0.6 < share < 0.9
    assert orange / (orange + blue) == pytest.approx(share, abs=0.1)
    assert (page.inner_text(".scale span >> nth=1") == "+1 σ") == (kind == "ratio")


def test_without_a_noise_map_there_is_no_ratio_to_choose(open_page, files):
    page = open_page(open_scans(files[0], [files[1]]))
    assert page.locator("#difference option[value=ratio]").is_disabled()
    page.keyboard.press("d")
    page.wait_for_selector("figure >> nth=2")
    settle(page)
    page.keyboard.press("d")
    assert page.input_value("#difference") == ""


def test_the_window_is_that_of_the_numbers_in_both_panes(page):
    page.locator("#low").fill("1000")
    page.locator("#low").press("Enter")  # above the upper end: refused
    assert float(page.input_value("#low")) < float(page.input_value("#high"))
    page.locator("#high").fill("100000")
    page.locator("#high").press("Enter")
    assert all(np.median(pixels(page, i)) < 5 for i in (0, 1))
    assert not page.is_checked("#auto")
    page.keyboard.press("w")
    settle(page)
    assert float(page.input_value("#high")) < 1000


def test_a_right_drag_sets_the_window_of_both_panes(page):
    before = float(page.input_value("#high")), pixels(page, 1)
    page.locator("canvas").nth(0).scroll_into_view_if_needed()
    box = page.locator("canvas").nth(0).bounding_box()
    page.mouse.move(box["x"] + 180, box["y"] + 110)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 180, box["y"] + 160, steps=4)
    page.mouse.up(button="right")
    assert float(page.input_value("#high")) < before[0]
    assert pixels(page, 1).mean() > before[1].mean() + 2
    page.locator("canvas").nth(0).dblclick(position={"x": 180, "y": 110})
    settle(page)
    assert float(page.input_value("#high")) == before[0]


def test_the_curve_is_that_of_the_files(page, files):
    move_to(page, (6, 7, 4))
    heights = []
    for i, path in enumerate(files):
        curve = nib.load(path).get_fdata()[6, 7, 4]
        points = page.get_attribute(f"#chart polyline.series-{i}", "points").split()
        drawn = np.array([[float(a) for a in point.split(",")] for point in points])
        assert len(drawn) == N_VOLUMES
        heights += list(zip(curve, drawn[:, 1], strict=True))
    values, rows = np.array(heights).T
    slope, offset = np.polyfit(values, rows, 1)  # one axis for all files, upwards
    assert slope < 0
    np.testing.assert_allclose(rows, slope * values + offset, atol=0.1)


def test_the_curve_bears_its_b_values(page):
    def labels():
        return page.locator("#chart text.shell").all_text_contents()

    assert labels() == ["b 0", "b 1000", "b 0", "b 2000"]
    page.select_option("#order", "b")
    assert labels() == ["b 0", "b 1000", "b 2000"]
    page.select_option("#order", "same")
    assert labels() == ["b 0"]


def test_a_click_on_the_curve_shows_that_volume(page):
    chart = page.locator("#chart svg")
    chart.click(position={"x": chart.bounding_box()["width"] - 30, "y": 60})
    page.wait_for_selector("body[data-volume='4']")


def test_keys_do_not_act_while_a_number_is_typed(page):
    page.locator("#x").focus()
    page.keyboard.type("3")
    page.wait_for_timeout(100)
    assert page.input_value("#slices") == "all"
    page.locator("#x").fill("8")


def test_niivue_own_keys_are_silent(page):
    page.locator("canvas").nth(0).click(position={"x": 180, "y": 110})
    for key in ("v", "c", "p", "h", "Control+Shift+v", "m", "l"):
        page.keyboard.press(key)  # NiiVue's would change the view, clip, or open a dialog
    assert page.input_value("#slices") == "all"


def test_names_are_text_and_never_markup(open_page, tmp_path):
    name = (NASTY + "n" * 300).encode()[:248].decode(errors="ignore") + ".nii"  # 255 bytes at most
    names = [name.replace("/", ""), "a\u202eb\nc\x1b[31m.nii"]
    for n in names:
        write(tmp_path / n, head(5, 3))
    page = open_page(open_scans(tmp_path / names[0], [tmp_path / names[1]]))
    assert page.locator("img").count() == 0
    assert page.faults == []
    assert page.title().startswith(names[0])
    for shown in (page.locator("figcaption"), page.locator("#legend bdi")):
        assert shown.all_text_contents() == [names[0], "a\\u202eb\\nc\\x1b[31m.nii"]
    assert page.locator("#values th").first.text_content() == names[0]
    # the page is no wider than the window, whatever the names
    assert page.locator("body").bounding_box()["width"] <= 800
    assert page.locator("html").evaluate("e => e.scrollWidth") <= 800


def test_a_phone_sees_the_whole_width(open_page, files, folder):
    page = open_page(open_scans(files[0], [files[1]], folder / "sigma.nii.gz"), width=390)
    page.keyboard.press("d")
    page.wait_for_selector("figure >> nth=2")
    settle(page)
    assert page.locator("html").evaluate("e => e.scrollWidth") <= 390
    assert page.input_value("#slices") == "axial"


def test_a_file_that_goes_away_is_told(open_page, tmp_path):
    paths = [write(tmp_path / f"{name}.nii", head(6, 3)) for name in "ab"]
    page = open_page(open_scans(paths[0], [paths[1]]))
    paths[1].write_bytes(paths[1].read_bytes()[:400])
    page.keyboard.press("n")
    page.wait_for_selector("#status.error")
    assert "could not be read" in page.inner_text("#status")


def test_one_image_has_no_slider_and_no_curve(open_page, tmp_path):
    paths = [write(tmp_path / f"{name}.nii", head(7, 3)[..., 0]) for name in "ab"]
    page = open_page(open_scans(paths[0], [paths[1]]))
    assert page.faults == []
    assert not page.is_visible("#volume")
    assert not page.is_visible("#curve")
    expected = [nib.load(path).get_fdata()[8, 9, 5] for path in paths]
    assert values_of(page) == pytest.approx(expected, rel=1e-8)


def test_more_results_can_be_chosen_to_compare_with(open_page, files, tmp_path):
    third = write(tmp_path / "third.nii", head(8, 30))
    page = open_page(open_scans(files[0], [files[1], third]))
    assert page.locator("figure").count() == 3
    page.select_option("#compare", "2")
    page.select_option("#difference", "difference")
    page.wait_for_selector("figure >> nth=3")
    caption = page.locator("figcaption").nth(3)
    assert caption.text_content() == "noisy.nii.gz − third.nii"
    assert json.dumps(page.faults) == "[]"
