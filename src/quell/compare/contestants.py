"""Contestants: who takes part, and the command that runs each.

Idea    A denoiser is a command that reads one file and writes another: quell's methods and any
        other program stand on the same footing, are timed alike, and fail alone.
Trap    No shell is involved, so a file name can't be taken for a command. Where a person hands a
        line to a shell (sh -c 'a {in} | b > {out}'), the paths in it are quoted for it; quotes of
        the person's own around them would undo that, and are refused.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..methods import find, make, names
from ..options import Options, refuse_scan
from ..series import InputError, Series

PLACES = re.compile(r"\{(in|out|bval|bvec|mask|threads)\}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
SHELLS = ("sh", "bash", "dash", "ksh", "zsh")
QUOTED = re.compile(r"""(["'])[^"']*\{(in|out|bval|bvec|mask)\}[^"']*\1""")
PROBED = "probed.nii.gz"  # the scan with structures in it
OWN_FILES = {f"comparison.{ending}" for ending in ("csv", "json", "md", "html")} | {
    "recorrupted.nii.gz", "noise.nii.gz", PROBED,
}  # of a comparison's folder  # fmt: skip
NOISY = "noisy"  # the scan as it is, the first row of every table


@dataclass(frozen=True)
class Contestant:
    """One denoiser.

    name      as it stands in the table
    words     its command: `{in}`, `{out}`, `{bval}`, `{bvec}`, `{mask}` and `{threads}` are filled
    identity  changes with whatever may change its result
    about     what it is, in words
    is_own    a method that quell runs, not any other program
    """

    name: str
    words: tuple[str, ...]
    identity: str
    about: str
    is_own: bool = True  # a method of quell's, not a stranger's program

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.name.replace(":", "-")

    def command(self, places: Mapping[str, str]) -> list[str]:
        """What to run.

        places  a path or a number for each name in braces; InputError for one that is not there
        """

        def fill(word: str, is_line: bool) -> str:
            def place(match: re.Match[str]) -> str:
                if match[1] not in places:
                    raise InputError(f"{self.name} asks for {{{match[1]}}}, which there is none of")
                return shlex.quote(places[match[1]]) if is_line else places[match[1]]

            return PLACES.sub(place, word)

        return [fill(word, i in lines_for_a_shell(self.words)) for i, word in enumerate(self.words)]


def lines_for_a_shell(words: tuple[str, ...]) -> set[int]:
    """Which words of a command a shell reads as a line: those behind the -c of one."""
    is_shell = [Path(word).name in SHELLS for word in words]
    return {
        i
        for i in range(2, len(words))
        if re.fullmatch(r"-[a-z]*c", words[i - 1]) and any(is_shell[: i - 1])
    }


def quells_own(asked: str, preset: str, scan: Series, options: Options) -> list[Contestant]:
    """The methods that are asked for.

    asked    "all", "none", or names with commas, each with its own preset where wanted: c2s:paper
    preset   of the others; where a method has none of that name, its default
    options  noise, seed, device and threads of all

    Of "all", those that can't be used, or can't take the scan, are left out. Raises InputError
    (status 2) for a method or preset that does not exist.
    """
    if asked.strip() == "all":
        return [of_quell(name, preset, options) for name in names() if _takes(name, scan)]
    if asked.strip() == "none":
        return []
    found = []
    for word in filter(None, (word.strip() for word in asked.split(","))):
        name, colon, own = word.partition(":")
        found.append(of_quell(name, own if colon else preset, options, is_named=bool(colon)))
    if not found:
        raise InputError("no method is named; give --methods all, or names with commas", 2)
    return found


def of_quell(name: str, preset: str, options: Options, is_named: bool = False) -> Contestant:
    """One method of quell, or of a package that adds to it.

    is_named  the preset was named for this method: it must exist, and stands in the table, too
    """
    kind = find(name)
    if not is_named and preset not in kind.presets:
        preset = "default"
    method = make(name, preset)
    given = {"method": name, "preset": preset, "seed": options.seed, "device": options.device}
    given |= {"noise-law": options.noise_law, "fourth-axis": options.fourth_axis}
    if options.coils is not None:
        given["coils"] = options.coils
    words = [sys.executable, "-m", "quell", "denoise", "{in}", "{out}", "--no-report", "--force"]
    words += [word for option, value in given.items() for word in (f"--{option}", str(value))]
    return Contestant(
        f"{name}:{preset}" if is_named else name,
        (*words, "--threads", "{threads}"),
        f"{method!r}/{given}",
        kind.summary,
    )


def external(text: str) -> Contestant:
    """Any program, from NAME=COMMAND; InputError (status 2) where that can't be read."""
    name, equals, line = text.partition("=")
    name = name.strip()
    if not equals or not NAME.fullmatch(name):
        raise InputError(
            f"--external {text!r} is not understood; write it as "
            "--external 'name=command {in} {out}', the name of letters, digits, . _ + and -",
            2,
        )
    try:
        words = tuple(shlex.split(line))
    except ValueError as error:
        raise InputError(f"--external {name}: {error}; correct its quotes", 2) from None
    asked = {match for word in words for match in PLACES.findall(word)}
    if not {"in", "out"} <= asked:
        raise InputError(
            f"--external {name} does not say where to read or to write; put {{in}} and {{out}} "
            "into its command",
            2,
        )
    if any(QUOTED.search(words[i]) for i in lines_for_a_shell(words)):
        raise InputError(
            f"--external {name} has quotes around a place in braces; leave out those quotes",
            2,
        )
    return Contestant(name, words, repr(words), f"external: {line.strip()}", is_own=False)


def refuse_twins(contestants: list[Contestant]) -> None:
    """Raise InputError (status 2) where two would write to one place."""
    seen = {NOISY, *OWN_FILES}
    for one in contestants:
        if one.folder.lower() in seen:  # some file systems take A for a
            raise InputError(f"{one.name} stands twice or is quell's own name; give another", 2)
        seen.add(one.folder.lower())


def _takes(name: str, scan: Series) -> bool:
    try:
        refuse_scan(scan, make(name))
    except InputError:
        return False
    return True


def inputs_of(contestants: list[Contestant]) -> set[str]:
    """What their commands ask for, beside the scan and the result."""
    found = {match for one in contestants for word in one.words for match in PLACES.findall(word)}
    return found - {"in", "out"}


def gradients_of(scan: Series) -> dict[str, Path]:
    """The gradient files of a scan, by the name in braces."""
    known = {"bval": scan.bval_path, "bvec": scan.bvec_path}
    return {name: path for name, path in known.items() if path is not None}
