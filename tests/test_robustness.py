"""The promise as a table: where a method does worse than the scan, it refuses or says so."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from quell.methods import METHODS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "robustness.json"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import robustness
        import robustness_scans

        yield robustness, robustness_scans
    finally:
        sys.path.remove(str(BENCHMARKS))


def cells() -> dict[str, dict[str, dict]]:
    return json.loads(RESULTS.read_text())["cells"]


@pytest.mark.parametrize("method", ["joint instant", *METHODS])
def test_where_a_method_is_worse_than_the_scan_its_verdict_says_so(method, scripts):
    robustness, _ = scripts
    measured = {c: row[method] for c, row in cells().items() if method in row}
    silent = {
        condition: one["gain"]
        for condition, one in measured.items()
        if one.get("gain", 0) < -robustness.TOLERANCE and one["verdict"] == "green"
    }
    assert silent == {}


def test_every_condition_is_in_it_with_every_method_that_needs_no_training(scripts):
    robustness, robustness_scans = scripts
    assert set(cells()) == set(robustness_scans.CONDITIONS)
    for row in cells().values():
        assert set(row) >= {"joint instant", *robustness.NO_TRAINING} - {"joint"}


def test_the_scans_are_what_they_are_said_to_be(scripts):
    _, scans = scripts
    assert len(scans.CONDITIONS) >= 24
    for name in (
        "1 b0 + 6, SNR 15",
        "complex",
        "cord",
        "no air, no mask",
        "repetitions with activation",
    ):
        one, again = scans.CONDITIONS[name](), scans.CONDITIONS[name]()
        assert np.array_equal(one.noisy.data, again.noisy.data)
        assert one.goal.shape == one.noisy.data.shape
        assert one.where.any()
        parts = 2 if np.iscomplexobj(one.noisy.data) else 1
        error = np.abs(one.noisy.data - one.goal)[one.where]
        assert np.sqrt(np.mean(error**2)) == pytest.approx(
            np.sqrt(parts) * np.median(one.sigma), rel=0.12
        )


def test_a_cell_is_measured(scripts):
    robustness, scans = scripts
    row = robustness.cell(scans.CONDITIONS["one slice, 27 volumes"](), "wiener", "default", 1)
    assert row["gain"] > 3
    assert row["verdict"] in ("green", "note", "look")
