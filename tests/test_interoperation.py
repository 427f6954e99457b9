"""The command line as other programs see it: Boutiques' descriptor and nipype's interface."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from quell.cli import app
from quell.cli.descriptor import COMMANDS, descriptor_of
from quell.cli.interface import parameters
from quell.series import load

COMMITTED = Path(__file__).parents[1] / "descriptors" / "quell-denoise.json"
os.environ.setdefault("NO_ET", "1")  # nipype asks the network for its newest version without it


def parsed(name):
    """The parameters of a command as its own parser has them."""
    return [
        p for p in typer.main.get_command(app).get_command(None, name).params if p.name != "help"
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_interface_is_that_of_the_parser(name):
    ours = {one.name: one for one in parameters(COMMANDS[name])}
    theirs = {param.name: param for param in parsed(name)}
    assert set(ours) == set(theirs)
    for key, param in theirs.items():
        one = ours[key]
        assert (one.flag or key) == param.opts[0]
        assert one.is_required == param.required
        assert one.says == param.help
        assert (one.kind == "flag") == bool(getattr(param, "is_flag", False))
        assert one.is_list == bool(getattr(param, "multiple", False))
        if one.kind != "flag":
            assert one.default == param.default


# ---- Boutiques


def test_the_committed_descriptor_is_that_of_the_command_line(quell):
    ran = quell("descriptor")
    assert ran.out == COMMITTED.read_text(encoding="utf-8"), (
        "write it anew: quell descriptor > descriptors/quell-denoise.json"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_descriptor_is_valid(name):
    validator = pytest.importorskip("boutiques.validator")
    validator.validate_descriptor(descriptor_of(name))


def test_boutiques_makes_the_command_that_is_meant(tmp_path):
    execution = pytest.importorskip("boutiques.localExec")
    asked = {
        "scan": "dwi.nii.gz", "out": "out.nii.gz", "contrast": ["a.nii", "b.nii"], "force": True,
        "seed": 3, "blend": 0.5, "noise_out": "n.mif", "setting": ["steps=2"],
    }  # fmt: skip
    invocation = tmp_path / "invocation.json"
    invocation.write_text(json.dumps(asked))
    options = dict.fromkeys(("forcePathType", "debug", "sandbox"), False)
    options["skipDataCollect"] = True  # it would ask the network
    executor = execution.LocalExecutor(str(COMMITTED), str(invocation), options)
    words = executor.cmd_line[0].split()
    assert words[:4] == ["quell", "denoise", "dwi.nii.gz", "out.nii.gz"]
    for pair in ("--contrast a.nii --contrast b.nii", "--seed 3", "--set steps=2", "--force"):
        assert pair in " ".join(words)


def test_an_unknown_command_has_no_descriptor(quell):
    ran = quell("descriptor", "view")
    assert (ran.status, "there is no descriptor" in ran.err) == (2, True)


# ---- nipype


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_trait(name):
    pytest.importorskip("nipype")
    from quell import nipype

    interface = getattr(nipype, name.capitalize())()
    known = set(interface.inputs.copyable_trait_names()) - {"args", "environ"}
    assert known == {param.name for param in parsed(name)}
    for param in parsed(name):
        trait = interface.inputs.traits()[param.name]
        assert trait.desc == param.help
        expected = param.opts[0] if param.param_type_name == "option" else "%s"
        assert trait.argstr.split()[0] == expected


def test_the_command_of_nipype_is_the_one_meant(scan):
    pytest.importorskip("nipype")
    from quell.nipype import Denoise

    interface = Denoise(
        scan=str(scan), contrast=[str(scan)] * 2, force=True, noise_out="n.nii", blend=0.1
    )
    words = interface.cmdline.split()
    assert words[:4] == ["quell", "denoise", str(scan), "dwi_denoised.nii.gz"]
    assert words.count("--contrast") == 2
    assert {"--force", "--noise-out", "n.nii", "--blend"} <= set(words)


def test_nipype_denoises_a_scan(scan, tmp_path, monkeypatch):
    pytest.importorskip("nipype")
    from quell.nipype import Denoise

    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "quell"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quell "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)
    interface = Denoise(scan=str(scan), method="patch2self", no_report=True, threads=1)
    interface.inputs.noise_out = "noise.mif"
    outputs = interface.run().outputs
    assert load(outputs.out).data.shape == load(scan).data.shape
    assert outputs.out == str(tmp_path / "dwi_denoised.nii.gz")
    assert Path(outputs.noise_out).is_file()
    assert "Denoising" in json.loads(Path(outputs.record).read_text())


def test_without_nipype_it_says_what_to_do():
    code = "import sys; sys.modules['nipype'] = None\nimport quell.nipype"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert ended.stderr.splitlines()[-1] == (
        "ImportError: quell.nipype needs nipype, which is not installed; "
        "pip install 'quell[nipype]'"
    )
