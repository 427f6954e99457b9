"""The headline follows what the user has to do: faults first, then the residual, then remarks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from conftest import write_scan
from quell import denoise
from quell.checks import Finding
from quell.cohort.group import Row, record_of
from quell.cohort.judging import judged
from quell.cohort.manifest import Entry
from quell.evaluate import ResidualStatistics, headline, verdict
from quell.evaluate.outliers import Outlier, SliceResiduals, with_dropouts
from quell.evaluate.places import is_large
from quell.noise import Cluster
from quell.simulate import PhantomSettings, corrupt, phantom

V = 16  # 1 b0 + 15 directions


def clean(**changes: object) -> ResidualStatistics:
    """A residual of nothing but noise, after one of the usual clinical scans; with changes."""
    shell = np.r_[0, np.ones(V - 1, dtype=int)]
    fine = ResidualStatistics(
        n_voxels=10_000,
        signal_before=np.full(V, 100.0),
        signal_after=np.full(V, 100.0),
        mean_over_sigma=np.zeros(V),
        ratio=0.9,
        ratio_per_volume=np.full(V, 0.9),
        autocorrelation=np.zeros(3),
        autocorrelation_expected=np.zeros(3),
        structure=0.0,
        structure_p=1.0,
        detail_change=0.7,
        correlation=0.05,
        correlation_per_volume=np.full(V, 0.05),
        information=0.0,
        correlation_of_best=0.05,
        magnitude_correlation=0.0,
        magnitude_correlation_per_volume=np.zeros(V),
        shell_bvals=np.array([0.0, 1000.0]),
        shell_sizes=np.array([1, V - 1]),
        shell_of_volume=shell,
        mean_change=np.zeros(2),
        contrast_before=np.array([np.nan, 10.0]),
        contrast_after=np.array([0.0, 10.0]),
        above_b0_before=0.001,
        above_b0_after=0.001,
        n_negative=0,
        n_nonfinite=0,
    )
    return replace(fine, **changes)  # type: ignore[arg-type]


def at(volume: int, value: float, rest: float) -> np.ndarray:
    values = np.full(V, rest)
    values[volume] = value
    return values


def cluster(peak: float = 7.0, volume: int = 5, z: int = 6) -> Cluster:
    return Cluster(volume, (34, 40, z), 81, peak, 4.1)


def found(code: str, level: str = "note", **more: object) -> Finding:
    return Finding(code, level, f"seen: {code}", "", **more)  # type: ignore[arg-type]


EMPTY = Finding("dark-slices", "warning", "slice 15 of volume 8 has no signal",
                "replace it (eddy --repol)", is_fault=True, slices=((8, 15),))  # fmt: skip
B0_LEFT = {
    "ratio_per_volume": at(0, 0.35, 0.9), "correlation_per_volume": at(0, 0.213, 0.05),
}  # fmt: skip
NAN = np.array([np.nan, np.nan])

CASES: list[tuple[str, dict[str, object], list[Finding], str, str]] = [
    ("a clean scan", {}, [], "good", "Use it."),
    ("its provenance", {}, [found("protocol"), found("processed"), found("empty-k-space"),
     found("smooth-noise"), found("correlated-noise"), found("noise-floor"), found("motion")],
     "good", "Use it."),
    ("a lone b0 that kept its noise", B0_LEFT, [found("single-b0")], "good", "Use it."),
    ("contrast that cannot be measured", {"contrast_before": NAN}, [], "good", "Use it."),
    ("an empty slice that the result follows", {}, [EMPTY], "warning",
     "Look first: slice 15 of volume 8 has no signal."),
    ("an empty slice and a bad residual", {"ratio": 2.0, "ratio_per_volume": np.full(V, 2.0)},
     [EMPTY], "error", "Look first: slice 15 of volume 8 has no signal."),
    ("an upper bound of the noise", {}, [found("noise-from-differences", "warning")], "note",
     "Use it, but know this: seen: noise-from-differences."),
    ("an upper bound among others", {}, [found("few-volumes", "warning"),
     found("noise-from-differences", "warning")], "note",
     "Use it, but know this: seen: noise-from-differences."),
    ("white noise assumed", {}, [found("white-noise-assumed", "warning")], "note",
     "Use it, but know this: seen: white-noise-assumed."),
    ("hardly any noise removed", {"ratio": 0.3, "ratio_per_volume": np.full(V, 0.3)}, [], "note",
     "Use it, but know this: the residual is much smaller than the noise"),
    ("noise that was added", {"detail_change": 1.4}, [], "error",
     "Look first: the result is rougher than the scan"),
    ("signal that was removed", {"ratio": 1.2}, [], "warning",
     "Look first: the residual is larger than the noise"),
    ("contrast that was lost", {"contrast_after": np.array([0.0, 7.0])}, [], "warning",
     "Look first: directions were drawn towards their mean"),
    ("an image in the residual", {"correlation": 0.3}, [], "error",
     "Look first: the residual follows the image"),
    ("a volume that lost signal", {"ratio_per_volume": at(7, 1.8, 0.9)}, [], "warning",
     "Look first: more than noise was removed from volume 7."),
    ("a lone b0 that lost signal", {"ratio_per_volume": at(0, 1.8, 0.9)}, [], "note",
     "Use it, but know this: more than noise was removed from volume 0, which no other is like."),
    ("a place in one volume", {"clusters": (cluster(),)}, [], "note",
     "Use it, but know this: structure was removed at 1 place, in volume 5 at voxel 34, 40, 6 "
     "(81 voxels, +4.1 σ)."),
    ("a grave one", {"clusters": (cluster(12.0),)}, [], "warning",
     "Look first: structure was removed at 1 place, in volume 5"),
    ("many places", {"clusters": tuple(cluster(volume=v) for v in (3, 5, 5, 9))}, [], "warning",
     "Look first: structure was removed at 4 places of 3 volumes, the strongest in volume 3"),
    ("a slice unlike the others", {"outliers": (Outlier(3, (2,), "a larger residual", 2.0, 9),)},
     [], "note", "Use it, but know this: 1 slice stands out, that is slice 2 of volume 3"),
    ("values that are none", {"n_nonfinite": 3}, [], "error",
     "Look first: the result holds NaN or infinite values."),
]  # fmt: skip


@pytest.mark.parametrize(("_", "changes", "findings", "level", "sentence"), CASES,
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_the_headline_says_what_to_do_and_why(_, changes, findings, level, sentence):
    said = headline(verdict(clean(**changes), findings=findings), findings)
    assert said.level == level
    assert said.sentence.startswith(sentence)
    assert len(said.lines) <= 2
    assert (said.level == "good") == (said.reasons == ())


def test_at_most_two_lines_below_however_many_reasons():
    findings = [EMPTY, *(found(f"f{i}", "warning") for i in range(9))]
    said = headline(verdict(clean(correlation=0.3), findings=findings), findings)
    assert said.lines == [
        "Replace it (eddy --repol).",
        "Also: the residual follows the image: bright tissue was darkened, so anatomy was removed "
        "with the noise; 9 more below.",
    ]
    assert [reason.code for reason in said.reasons[:3]] == [
        "dark-slices", "residual-follows-image", "f0",
    ]  # fmt: skip
    record = said.to_dict()
    assert set(record) == {"Level", "Sentence", "Reasons"}
    assert record["Reasons"][0]["sentence"] == EMPTY.sentence


def test_what_a_check_named_is_not_said_again():
    stands = Outlier(8, (14, 15, 16), "darker in the scan than in the result", 3.0, 20)
    off = clean(clusters=(cluster(30.0, 8, 15), cluster(9.0, 8, 16)), outliers=(stands,))
    said = headline(verdict(off, findings=[EMPTY]), [EMPTY])
    assert [reason.code for reason in said.reasons] == ["dark-slices"]
    elsewhere = replace(off, clusters=(cluster(30.0, 9, 15),))
    said = headline(verdict(elsewhere, findings=[EMPTY]), [EMPTY])
    assert [reason.code for reason in said.reasons] == ["dark-slices", "clusters"]


def test_a_volume_is_counted_for_what_it_is():
    (volumes,) = [j for j in verdict(clean(**B0_LEFT)) if j.code == "single-volumes"]
    assert volumes.measured == "1 too small"
    assert (volumes.level, volumes.is_remark) == ("note", False)
    assert "volume 0" in volumes.sentence
    assert "more than one b=0" in volumes.advice
    follows = clean(correlation_per_volume=at(4, 0.4, 0.05))
    (volumes,) = [j for j in verdict(follows) if j.code == "single-volumes"]
    assert volumes.measured == "1 following the image"
    assert volumes.sentence.startswith("The residual of volume 4 follows the image")


def test_what_all_volumes_share_is_no_single_volumes_fault():
    whole = clean(ratio=1.6, ratio_per_volume=np.full(V, 1.6),
                  correlation_per_volume=np.full(V, 0.3), correlation=0.3)  # fmt: skip
    codes = {j.code for j in verdict(whole) if j.level in ("warning", "error")}
    assert codes == {"residual-size", "residual-follows-image"}


def test_dropouts_of_the_checks_come_first_among_the_slices_and_once():
    residuals = SliceResiduals(np.full((V, 20), 0.9), np.zeros((V, 20)))
    residuals.size[:, 0] = np.nan
    other = Outlier(2, (4,), "a larger residual", 2.0, 19)
    same = Outlier(8, (14, 15), "darker in the scan", 3.0, 19)
    merged = with_dropouts([same, other], EMPTY.slices, residuals)
    assert [(o.volume, o.slices) for o in merged] == [(8, (15,)), (8, (14,)), (2, (4,))]
    assert "drop-out" in merged[0].kind
    assert (merged[0].size, merged[0].n_slices) == (0.9, 19)
    (unknown,) = with_dropouts([], [(1, 0)], residuals)
    assert np.isnan(unknown.size)


@pytest.fixture(scope="module")
def dropped(series):
    """The small scan, slice 1 of volume 8 nothing but noise."""
    data = series.data.copy()
    noise = np.random.default_rng(1).normal(0, 40, (2, *data.shape[:2]))
    data[:, :, 1, 8] = np.hypot(*noise)
    return replace(series, data=data)


def test_one_sentence_everywhere(quell, dropped, tmp_path):
    scan, out = write_scan(tmp_path / "dwi.nii.gz", dropped), tmp_path / "out.nii.gz"
    ran = quell("denoise", scan, out, "--method", "patch2self", "--threads", 1)
    assert ran.status == 0
    sentence = "Look first: slice 1 of volume 8 has no signal."
    assert ran.err.splitlines()[-1] == f"verdict: {sentence}"
    said = json.loads((tmp_path / "out.json").read_text())["Denoising"]["Verdict"]
    assert (said["Level"], said["Sentence"]) == ("error", sentence)  # the residual is bad, too
    assert said["Reasons"][0]["code"] == "dark-slices"
    page = (tmp_path / "out_report.html").read_text()
    assert sentence in page
    assert "Volume 8, slice 1" in page


def test_a_study_has_the_sentence_in_its_row_and_table(dropped):
    result = denoise(dropped, method="patch2self", threads=1)
    row = judged(result, dropped)
    assert row["headline"] == result.verdict.sentence
    assert row["reasons"][0] == "slice 1 of volume 8 has no signal"
    entry = Entry("done", 0.0, name="sub-1_dwi", **{k: row[k] for k in ("level", "headline",
                  "reasons", "scores")})  # fmt: skip
    record = record_of(Row(entry))
    assert (record["verdict"], record["headline"]) == ("error", result.verdict.sentence)
    assert record["reasons"].startswith("slice 1 of volume 8 has no signal")
    assert row["scores"]["stands_out"] == np.count_nonzero(is_large(result.statistics))


def test_one_b0_and_fifteen_directions_without_a_fault_may_be_used():
    head = phantom(PhantomSettings((40, 44, 4), 3.0, 1, ((1000.0, 15),), seed=1)).clean
    noisy = corrupt(head.data, 30.0, np.random.default_rng(1), "rician")
    scan = replace(head, data=noisy, mask=None, sidecar={"PartialFourier": 0.75})
    result = denoise(scan, method="mppca", threads=1)
    assert {f.code for f in result.findings} >= {"single-b0", "protocol"}
    assert result.verdict.sentence == "Use it."
