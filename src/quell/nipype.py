"""quell in nipype: `from quell.nipype import Denoise, Apply`.

    Denoise(scan="dwi.nii.gz", out="denoised.nii.gz", noise_out="noise.nii.gz").run()

Here    The inputs are the arguments and options of the commands, under their own names, made from
        the command line; the outputs are the files that were asked for. nipype itself is not among
        quell's requirements: pip install 'quell[nipype]'.
"""

from pathlib import Path
from typing import Any

from .cli.descriptor import COMMANDS
from .cli.interface import Parameter, parameters
from .series import stem

try:
    from nipype.interfaces.base import (
        CommandLine,
        CommandLineInputSpec,
        File,
        TraitedSpec,
        isdefined,
        traits,
    )
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "nipype":
        raise
    raise ImportError(
        "quell.nipype needs nipype, which is not installed; pip install 'quell[nipype]'"
    ) from None

SIMPLE = {"integer": traits.Int, "number": traits.Float, "text": traits.Str, "flag": traits.Bool}


def _trait(one: Parameter, position: int | None) -> Any:
    """What nipype calls an input."""
    said: dict[str, Any] = {"desc": one.says, "mandatory": one.is_required}
    if position is not None:
        said |= {"position": position, "argstr": "%s"}
    else:
        said["argstr"] = one.flag if one.kind == "flag" else f"{one.flag} %s"
    if one.name == "out":
        said |= {
            "mandatory": False,
            "name_source": ["scan"],
            "name_template": "%s_denoised",
            "keep_extension": True,
        }
    if one.is_list:
        said["argstr"] += "..."  # once for each
        return traits.List(File(exists=True) if one.kind == "file" else traits.Str(), **said)
    if one.kind == "file":
        return File(exists=not one.is_written, **said)
    return SIMPLE[one.kind](**said)


def _inputs(command: str) -> Any:
    found = parameters(COMMANDS[command])
    arguments = [one.name for one in found if not one.flag]
    known = {
        one.name: _trait(one, None if one.flag else arguments.index(one.name)) for one in found
    }
    return type(f"{command.capitalize()}InputSpec", (CommandLineInputSpec,), known)


def _outputs(command: str) -> Any:
    known = {
        one.name: File(desc=one.says) for one in parameters(COMMANDS[command]) if one.is_written
    }
    known["record"] = File(desc="all about the run, as JSON")
    return type(f"{command.capitalize()}OutputSpec", (TraitedSpec,), known)


class _Command(CommandLine):
    """What the commands share: which files they wrote."""

    def _list_outputs(self) -> dict[str, Any]:
        outputs = self.output_spec().get()
        for name in outputs:
            value = getattr(self.inputs, name, None)
            if value is not None and isdefined(value):
                outputs[name] = str(Path(value).absolute())
        out = outputs["out"]
        if not isdefined(out):
            out = outputs["out"] = str(Path(self._filename_from_source("out")).absolute())
        own = stem(Path(out))
        beside = {"record": f"{own.name}.json"}
        if not isdefined(outputs["report"]) and not self.inputs.no_report:
            beside["report"] = f"{own.name}_report.html"
        return outputs | {name: str(own.with_name(file)) for name, file in beside.items()}


class Denoise(_Command):
    """quell denoise: one noisy scan in, the same scan without the noise out."""

    _cmd = "quell denoise"
    input_spec, output_spec = _inputs("denoise"), _outputs("denoise")


class Apply(_Command):
    """quell apply: a scan denoised with a model of many."""

    _cmd = "quell apply"
    input_spec, output_spec = _inputs("apply"), _outputs("apply")
