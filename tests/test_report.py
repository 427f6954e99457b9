"""The report: complete, self-contained, and safe against what file names may hold."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import NASTY
from quell.evaluate import residual_statistics
from quell.report import ReportFacts, comparison_figure, view_of, write_report
from quell.report.figures import cuts, window_of
from quell.report.page import page_of
from quell.report.shown import volumes_to_show

SECTIONS = ["verdict", "look", "averages", "statistics", "spectrum", "loss", "browse", "pictures",
            "volumes", "outliers", "noise", "power", "tensors", "method", "findings", "settings",
            "run", "command", "methods", "citations", "limits"]  # fmt: skip


@pytest.fixture(scope="module")
def page(facts: ReportFacts) -> str:
    return page_of(facts)


class Reader(HTMLParser):
    """Collects the page as a browser sees it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_sections_are_there(page: str) -> None:
    assert [i for i in SECTIONS if f'id="{i}"' not in page] == []


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    for tag, attributes in Reader(page).tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        assert tag != "script" or not attributes
        for name in ("src", "srcset", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_addresses_stand_in_citations_only(page: str) -> None:
    before, _, after = page.partition('id="citations"')
    assert not re.search(r"https?://|[\"'(]//", before)
    assert after.count("https://") == 1


def test_the_content_policy_allows_one_script_and_no_address(page: str) -> None:
    policy = next(a["content"] for t, a in Reader(page).tags if a.get("http-equiv"))
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )


def test_hostile_names_appear_as_text_only(page: str) -> None:
    reader = Reader(page)
    assert reader.text.count(NASTY) >= 8  # title, heading, command, settings, run, findings ...
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert "<img src=x" not in page


def test_the_whole_command_and_the_settings_are_shown(page: str, facts: ReportFacts) -> None:
    text = Reader(page).text
    assert facts.command in text
    assert all(part in text for part in ("seconds / fit", "12", "0.0002", "preset"))


def test_the_limits_say_that_it_is_no_medical_device(page: str) -> None:
    assert "not a medical device" in page


def test_every_picture_has_a_description(page: str) -> None:
    pictures = [a for tag, a in Reader(page).tags if tag == "img"]
    assert len(pictures) >= 15
    assert all(a.get("alt") for a in pictures)


def test_what_is_not_known_is_left_out(facts: ReportFacts) -> None:
    statistics = residual_statistics(
        facts.noisy, facts.denoised, facts.sigma, facts.mask, None, None
    )
    page = page_of(
        replace(
            facts,
            bvals=None,
            statistics=statistics,
            losses=(),
            eigenvalues=None,
            findings=(),
            warnings=(),
            citations=(),
            methods_paragraph="",
        )
    )
    assert 'id="loss"' not in page
    assert 'id="spectrum"' not in page
    assert "Nothing was found against the scan." in page


def test_the_file_is_small_and_leaves_no_temporary_one(facts: ReportFacts, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, facts)
    assert path.read_bytes().endswith(b"</html>")
    assert path.stat().st_size < 8e6
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_report_leaves_the_old_one(facts: ReportFacts, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_report(path, replace(facts, statistics=None))  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_no_unicode_is_written(facts: ReportFacts, tmp_path: Path) -> None:
    path, title = tmp_path / "report.html", b"scan\xff.nii".decode("utf-8", "surrogateescape")
    write_report(path, replace(facts, title=title, losses=(), eigenvalues=None))
    assert "scan\\udcff.nii" in path.read_text("utf-8")


def test_same_facts_same_bytes(facts: ReportFacts, page: str) -> None:
    assert page_of(facts) == page


def test_the_volume_shown_is_typical_of_the_highest_shell(facts: ReportFacts) -> None:
    weighted, b0 = volumes_to_show(facts).values()
    assert weighted in (4, 5)
    assert b0 == 0


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_planes_do_not_depend_on_how_the_scan_is_stored(
    flips: tuple[int, int, int], order: tuple[int, int, int]
) -> None:
    volume = np.random.default_rng(1).standard_normal((5, 7, 9))  # right, anterior, superior
    canonical = cuts(volume, view_of(np.ones(volume.shape, bool), np.diag([1.0, 2, 3, 1])))
    stored = np.transpose(volume[tuple(slice(None, None, f) for f in flips)], order)
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([1.0, 2, 3]) * flips)[:, order]
    turned = cuts(stored, view_of(np.ones(stored.shape, bool), affine))
    for name, (picture, wide, tall) in canonical.items():
        np.testing.assert_array_equal(turned[name][0], picture)
        assert turned[name][1:] == (wide, tall)


def test_the_right_of_the_person_is_right_in_the_axial_plane() -> None:
    volume = np.zeros((5, 5, 5))
    volume[0] = 1  # the first voxel is the rightmost: the x axis runs to the left
    picture, _, _ = cuts(volume, view_of(volume > -1, np.diag([-1.0, 1, 1, 1])))["axial"]
    assert picture[:, -1].all()
    assert not picture[:, :-1].any()


def test_a_comparison_is_one_column_for_each_volume() -> None:
    volume = np.random.default_rng(2).standard_normal((10, 12, 8))
    png = comparison_figure(
        [volume] * 3, view_of(volume > -9, np.eye(4)), [(-3, 3)] * 3, ["a", "b", "c"],
        ["gray"] * 3, width=100)  # fmt: skip
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    assert image.size[0] == 300


def test_the_window_of_an_empty_volume_can_be_drawn() -> None:
    low, high = window_of(np.zeros((3, 3, 3)), np.ones((3, 3, 3), bool))
    assert low < high
