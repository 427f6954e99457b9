"""A method of another package, in that package's entry points, is used like quell's own."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import quell as quell_package
from conftest import write_scan
from quell.methods import METHODS, find, installed, make, names
from quell.series import InputError, Series

# The whole of a method: twenty lines in a file outside of quell.
MEDIAN = '''
"""Median: every voxel is the median of its neighbours in the slice."""
from dataclasses import dataclass
from typing import ClassVar
from scipy.ndimage import median_filter

@dataclass(frozen=True)
class Median:
    size: int = 3  # voxels
    name: ClassVar[str] = "median"
    paper: ClassVar[str] = "Tukey 1977"
    needs: ClassVar[str] = "one image or more"
    summary: ClassVar[str] = "median of the neighbours"
    units: ClassVar[str] = "scanner"
    assumes_white: ClassVar[bool] = True
    presets: ClassVar[dict] = {"default": {}, "wide": {"size": 5}}
    def fit(self, scans, noises, run):
        return {}
    def denoise(self, scan, noise, state, run):
        return median_filter(scan.data, (self.size, self.size, 1, 1))
'''
POINTS = """[quell.methods]
median = median_for_quell:Median
broken = median_for_quell:Nothing
half = median_for_quell:dataclass
joint = median_for_quell:Median
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """That file and its entry points, as an installed package has them, here and in a child."""
    site = tmp_path / "site"
    about = site / "median_for_quell-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "median_for_quell.py").write_text(MEDIAN)
    (about / "entry_points.txt").write_text(POINTS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: median-for-quell\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    installed.cache_clear()
    yield site
    installed.cache_clear()


def test_it_stands_in_the_list(quell, package):
    ended = quell("methods")
    assert ended.status == 0
    assert "median of the neighbours" in ended.out
    assert "broken" in ended.out  # and says why, without stopping the others


def test_it_denoises(package, series):
    scan = replace(series, mask=np.ones(series.data.shape[:3], bool))
    result = quell_package.denoise(scan, method="median", preset="wide", threads=1)
    assert result.method.size == 5
    assert result.statistics.ratio > 0.3  # of the noise; edges went with it


def test_it_takes_part_in_a_comparison(quell, package, tmp_path, series):
    scan = write_scan(tmp_path / "dwi.nii.gz", series)
    words = ["--out", tmp_path / "out", "--methods", "median,median:wide"]
    ended = quell("compare", scan, *words, "--threads", "1")
    assert ended.status == 0, ended.err
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        rows = {row["method"]: row["status"] for row in csv.DictReader(file)}
    assert rows == {"median": "done", "median:wide": "done", "noisy": "done"}


def test_quells_own_names_stay_its_own(package):
    assert find("joint") is METHODS["joint"]
    assert names().count("joint") == 1


@pytest.mark.parametrize(
    ("name", "said"), [("broken", "can't be used"), ("half", "lacks name, paper")]
)
def test_one_that_cannot_be_used_is_refused_in_words(package, name, said):
    with pytest.raises(InputError, match=said) as refusal:
        make(name)
    assert refusal.value.status == 2


def test_one_that_is_put_into_the_table_is_used_as_well(monkeypatch, package, series: Series):
    monkeypatch.setitem(METHODS, "mine", find("median"))
    assert make("mine", "wide").size == 5
    assert "mine" in names()
