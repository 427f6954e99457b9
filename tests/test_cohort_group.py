"""The study at a glance: outliers, the three tables, the page."""

import csv
import json

import pytest

from conftest import NASTY
from quell.cohort.group import as_table, as_whole, outliers, rows_of
from quell.cohort.manifest import Entry
from quell.cohort.showing import write_group
from quell.compare.running import DONE, FAILED
from quell.run import Silent
from quell.series import InputError


def entry(i: int, status: str = DONE, **more) -> Entry:
    scores = {"removed": 0.9 + 0.001 * i, "snr": 20.0 + i, "gain": None} | more.pop("scores", {})
    known = {"method": "mppca", "preset": "default", "level": "good", "headline": "Good."} | more
    return Entry(f"k{i}", status, name=f"sub-{i:02}_ses-a_dwi", scores=scores, **known)


def test_a_scan_far_from_the_others_stands_out():
    entries = [entry(i) for i in range(8)] + [entry(9, scores={"removed": 2.0})]
    assert list(outliers("removed", entries)) == ["sub-09_ses-a_dwi"]


def test_a_difference_too_small_to_matter_is_none():
    entries = [entry(i, scores={"removed": 0.9}) for i in range(8)]
    entries.append(entry(9, scores={"removed": 0.95}))
    assert outliers("removed", entries) == {}


def test_one_among_equals_stands_out():
    entries = [entry(i, scores={"removed": 0.9}) for i in range(8)]
    entries.append(entry(9, scores={"removed": 1.9}))
    assert list(outliers("removed", entries)) == ["sub-09_ses-a_dwi"]


def test_few_scans_tell_nothing():
    assert outliers("removed", [entry(i, scores={"removed": 10.0**i}) for i in range(4)]) == {}


def test_scans_are_compared_with_those_denoised_alike():
    entries = [entry(i) for i in range(8)]
    entries += [entry(10 + i, method="c2s", scores={"removed": 5.0}) for i in range(8)]
    assert not any(row.far for row in rows_of(entries))


def test_the_tables_say_the_same(tmp_path):
    rows = rows_of([entry(1), entry(2, FAILED, why="it broke,\tbadly\n\x1b")])
    tsv = list(csv.DictReader(as_table(rows, "tsv").splitlines(), delimiter="\t"))
    plain = list(csv.DictReader(as_table(rows, "csv").splitlines()))
    whole = json.loads(as_whole(rows))["scans"]
    assert [r["status"] for r in tsv] == [r["status"] for r in plain] == ["done", "failed"]
    assert [r["scan"] for r in whole] == ["sub-01_ses-a_dwi", "sub-02_ses-a_dwi"]
    assert (tsv[0]["gain"], plain[0]["gain"], whole[0]["gain"]) == ("n/a", "", None)
    assert "it broke" in tsv[1]["why"]


def test_no_cell_is_a_formula():
    rows = rows_of([entry(1, FAILED, why="=1+1")])
    assert "'=1+1" in as_table(rows, "csv")


def test_the_page_links_each_report_and_shows_what_failed(tmp_path):
    (tmp_path / "logs").mkdir()
    for e in [entry(i, report=f"sub-0{i}/figures/x.html") for i in range(6)] + [
        entry(7, FAILED, why=NASTY, scores={}),
        entry(8, scores={"removed": 9.0}, remarks=[NASTY]),
    ]:
        e.write(tmp_path / "logs" / f"{e.name}.json")
    write_group(tmp_path, f"quell cohort '{NASTY}'", Silent())
    page = (tmp_path / "group.html").read_text()
    assert 'href="sub-03/figures/x.html"' in page
    assert 'href="logs/sub-07_ses-a_dwi.log"' in page
    assert "onerror=alert(1)>" not in page.replace("&gt;", "")
    assert page.index("sub-07") < page.index("sub-08") < page.index("sub-01")
    assert (tmp_path / "sub-03.html").is_file()
    assert {p.name for p in tmp_path.glob("group.*")} == {
        "group.tsv", "group.csv", "group.json", "group.html",
    }  # fmt: skip


def test_a_folder_without_scans_is_refused(tmp_path):
    with pytest.raises(InputError, match="run the participants first"):
        write_group(tmp_path, "", Silent())


def test_a_record_that_can_not_be_read_is_passed_over(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sub-1_dwi.json").write_text("{half")
    entry(2).write(tmp_path / "logs" / f"{entry(2).name}.json")
    assert len(write_group(tmp_path, "", Silent())) == 1


@pytest.mark.parametrize(
    "changed",
    [{"name": {}}, {"memory": {}}, {"scores": {"snr": "20"}}, {"remarks": [1]}, {"outputs": []},
     {"name": "sub-../../x_dwi"}],
)  # fmt: skip
def test_a_record_that_no_run_wrote_is_passed_over(tmp_path, changed):
    path = tmp_path / "logs" / f"{entry(1).name}.json"
    path.parent.mkdir()
    entry(1).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    entry(2).write(path.with_name(f"{entry(2).name}.json"))
    assert len(write_group(tmp_path, "", Silent())) == 1
