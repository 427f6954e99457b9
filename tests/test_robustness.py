"""The scans at the edges are what they are said to be, and a cell of their table is measured."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import robustness
        import robustness_scans

        yield robustness, robustness_scans
    finally:
        sys.path.remove(str(BENCHMARKS))


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
