"""BIDS in and out: which files are a scan, what each inherits, and what is written where."""

import json
import os
from pathlib import Path

import pytest

from quell.cohort.bids import Dataset, Named
from quell.cohort.job import Asked, Job
from quell.cohort.names import derivative, inside, report_of, uri, write_dataset
from quell.options import Options
from quell.series import InputError


def touch(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def scans(root: Path, participants=(), sessions=(), datatypes=("dwi",)):
    dataset = Dataset(root)
    return dataset, dataset.scans(participants, sessions, datatypes)


def test_every_run_direction_and_session_is_a_scan(tmp_path):
    names = [
        "sub-1/ses-a/dwi/sub-1_ses-a_dir-AP_run-1_dwi.nii.gz",
        "sub-1/ses-a/dwi/sub-1_ses-a_dir-AP_run-2_dwi.nii.gz",
        "sub-1/ses-b/dwi/sub-1_ses-b_dir-PA_dwi.nii",
        "sub-2/dwi/sub-2_dwi.nii.gz",
    ]
    touch(tmp_path, *names, "sub-2/dwi/sub-2_sbref.nii.gz", "sub-2/dwi/sub-2_dwi.bval")
    _, found = scans(tmp_path)
    assert [str(s.file.path.relative_to(tmp_path)) for s in found] == names


def test_magnitude_and_phase_are_one_scan(tmp_path):
    touch(tmp_path, *(f"sub-1/dwi/sub-1_part-{p}_dwi.nii.gz" for p in ("mag", "phase", "real")))
    dataset, (scan,) = scans(tmp_path)
    assert (scan.name, scan.phase.get("part")) == ("sub-1_dwi", "phase")
    assert "half of a complex image" in dataset.left_out[0]


def test_a_magnitude_without_phase_keeps_its_part(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_part-mag_dwi.nii.gz")
    assert scans(tmp_path)[1][0].name == "sub-1_part-mag_dwi"


def test_contrasts_and_their_repetitions_are_scans(tmp_path):
    names = ["sub-1_run-1_T2w", "sub-1_run-2_T2w", "sub-1_FLAIR"]
    touch(tmp_path, *(f"sub-1/anat/{n}.nii.gz" for n in (*names, "sub-1_T1map")))
    _, found = scans(tmp_path, datatypes=("anat",))
    assert sorted(s.name for s in found) == sorted(names)


def test_other_kinds_of_images_are_counted(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/dwi/sub-1_dwi.nii.gz")
    dataset, found = scans(tmp_path)
    assert dataset.others(found, ("dwi",)) == {"anat": 1}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sub-2_dwi.nii.gz", "not that of its folder"),
        ("sub-1_dwi copy.nii.gz", "not as BIDS has it"),
        ("sub-1_acq-..%2f_dwi.nii.gz", "not as BIDS has it"),
        ("sub-1_run-1_run-2_dwi.nii.gz", "not as BIDS has it"),
    ],
)
def test_a_wrong_name_is_left_out_and_said(tmp_path, name, why):
    touch(tmp_path, f"sub-1/dwi/{name}")
    dataset, found = scans(tmp_path)
    assert not found
    assert why in dataset.left_out[0]


def test_labels_that_are_not_there_are_said(tmp_path):
    touch(tmp_path, "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz")
    with pytest.raises(InputError, match=r"no participant 7 in .*there is 1") as error:
        scans(tmp_path, participants=("7",))
    assert error.value.status == 2
    with pytest.raises(InputError, match="no session z"):
        scans(tmp_path, sessions=("z",))


def test_a_sidecar_is_inherited_and_overridden(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_run-1_dwi.nii.gz")
    touch(tmp_path, "dwi.json", text='{"EchoTime": 1, "RepetitionTime": 1, "Vendor": "x"}')
    touch(tmp_path, "sub-1/sub-1_dwi.json", text='{"EchoTime": 2}')
    touch(tmp_path, "sub-1/dwi/sub-1_run-1_dwi.json", text='{"RepetitionTime": 3}')
    touch(tmp_path, "acq-b_dwi.json", "bold.json", text='{"EchoTime": 9}')
    dataset, (scan,) = scans(tmp_path)
    said = dataset.sidecar(scan.file)
    assert said == {"EchoTime": 2, "RepetitionTime": 3, "Vendor": "x"}


def test_the_nearest_gradients_are_the_scans(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_run-1_dwi.nii.gz", "dwi.bval", "sub-1/sub-1_dwi.bval")
    dataset, (scan,) = scans(tmp_path)
    assert dataset.inherited(scan.file, ".bval")[-1] == tmp_path / "sub-1" / "sub-1_dwi.bval"


def test_two_files_with_equal_right_are_refused(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_acq-b_run-1_dwi.nii.gz", "acq-b_dwi.bval", "run-1_dwi.bval")
    dataset, (scan,) = scans(tmp_path)
    with pytest.raises(InputError, match="both belong to"):
        dataset.inherited(scan.file, ".bval")


@pytest.mark.parametrize("text", ["{", "[1]", "nonsense"])
def test_a_bad_sidecar_is_said(tmp_path, text):
    touch(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz")
    touch(tmp_path, "dwi.json", text=text)
    dataset, (scan,) = scans(tmp_path)
    with pytest.raises(InputError, match=r"dwi\.json"):
        dataset.sidecar(scan.file)


def test_derivatives_bear_the_names_of_their_source(tmp_path):
    touch(tmp_path, "sub-1/ses-a/dwi/sub-1_ses-a_dir-AP_desc-old_dwi.nii.gz")
    _, (scan,) = scans(tmp_path)
    stem = "sub-1/ses-a/dwi/sub-1_ses-a_dir-AP_desc"
    assert derivative(scan, "denoised", ".nii.gz").as_posix() == f"{stem}-denoised_dwi.nii.gz"
    noise = derivative(scan, "noise", ".nii.gz", "dwimap").as_posix()
    assert noise == f"{stem}-noise_dwimap.nii.gz"
    page = "sub-1/figures/sub-1_ses-a_dir-AP_desc-denoised_dwi.html"
    assert report_of(scan).as_posix() == page
    assert uri(tmp_path, scan.file.path).startswith("bids:raw:sub-1/ses-a/dwi/sub-1_")


def test_a_pair_is_written_as_a_pair(tmp_path):
    touch(tmp_path, *(f"sub-1/dwi/sub-1_part-{p}_dwi.nii.gz" for p in ("mag", "phase")))
    dataset, (scan,) = scans(tmp_path)
    asked = Asked(tmp_path / "out", tmp_path / "work", Options(), "")
    targets = Job.of(scan, dataset, asked).targets
    assert targets["out"].endswith("sub-1_part-mag_desc-denoised_dwi.nii.gz")
    assert targets["phase"].endswith("sub-1_part-phase_desc-denoised_dwi.nii.gz")
    assert targets["noise"].endswith("sub-1_desc-noise_dwimap.nii.gz")


def test_no_two_scans_write_the_same_file(tmp_path):
    names = ("sub-1_T1w", "sub-1_T2w", "sub-1_run-1_T2w", "sub-1_part-mag_T2w")
    touch(tmp_path, *(f"sub-1/anat/{name}.nii.gz" for name in names), "sub-1/dwi/sub-1_dwi.nii")
    dataset, found = scans(tmp_path, datatypes=("dwi", "anat"))
    asked = Asked(tmp_path / "out", tmp_path / "work", Options(), "", residual=True)
    targets = [t for s in found for t in Job.of(s, dataset, asked).targets.values()]
    assert len(found) == 5
    assert len(set(targets)) == len(targets)


def test_the_output_says_where_it_comes_from(tmp_path):
    touch(tmp_path, "raw data/dataset_description.json", text='{"Name": "S", "DatasetDOI": "d"}')
    (tmp_path / "out").mkdir()
    write_dataset(tmp_path / "out", Dataset(tmp_path / "raw data"))
    said = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert said["DatasetLinks"] == {"raw": "../raw%20data"}
    assert said["SourceDatasets"] == [{"URL": "../raw%20data", "DOI": "d"}]
    assert said["GeneratedBy"][0]["Name"] == "quell"


def test_nothing_is_written_through_a_link_out_of_the_output(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub-1").symlink_to(elsewhere)
    with pytest.raises(InputError, match="leads out of"):
        inside(out, Path("sub-1", "dwi", "x.nii.gz"))
    with pytest.raises(InputError, match="leads out of"):
        inside(out, Path("..", "x.nii.gz"))
    assert not list(elsewhere.iterdir())


def test_links_that_go_in_circles_end(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz")
    (tmp_path / "sub-1" / "ses-x").symlink_to(tmp_path / "sub-1")
    assert [s.name for s in scans(tmp_path)[1]] == ["sub-1_dwi"]


@pytest.mark.parametrize("name", ["sub-1_dwi", "dwi.nii.gz", "sub-1_ses-é_dwi.json", "", "_dwi.x"])
def test_names_are_taken_apart_or_refused(name):
    named = Named.of(Path(name))
    assert (named is not None) == (name == "dwi.nii.gz")


@pytest.mark.parametrize("ending", ["json", "bval"])
def test_metadata_that_is_no_file_is_refused_and_not_waited_for(tmp_path, ending):
    touch(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz")
    os.mkfifo(tmp_path / f"dwi.{ending}")
    dataset, (scan,) = scans(tmp_path)
    with pytest.raises(InputError, match="is no file"):
        dataset.inherited(scan.file, f".{ending}")


def test_a_description_that_is_no_file_is_none(tmp_path):
    os.mkfifo(tmp_path / "dataset_description.json")
    assert Dataset(tmp_path).description == {}


def test_numbers_that_json_has_not_are_null(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz")
    touch(tmp_path, "dwi.json", text='{"EchoTime": NaN, "Slope": -Infinity, "TR": 1e999, "n": 2.5}')
    touch(tmp_path, "sub-1/dwi.json", text=f'{{"Averages": {"9" * 400}, "m": -3}}')
    dataset, (scan,) = scans(tmp_path)
    said = dataset.sidecar(scan.file)
    assert {key for key, value in said.items() if value is None} == {
        "EchoTime", "Slope", "TR", "Averages",
    }  # fmt: skip
    assert (said["n"], said["m"], type(said["m"])) == (2.5, -3, int)


def test_a_link_to_itself_is_refused_in_words(tmp_path):
    (tmp_path / "logs").symlink_to("logs")
    with pytest.raises(InputError, match="can't be made"):
        inside(tmp_path, Path("logs", "x.log"))
