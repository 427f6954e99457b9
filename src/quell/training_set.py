"""A training set: many scans, each prepared once, kept on disk, read where a patch is drawn.

Idea    A training sees small patches of large scans. So a scan is loaded, its noise learned, and
        its scaled volumes written to a cache; then it is let go. The training maps these files
        into memory and touches a few pages a step: the set may be larger than the memory.
Here    A scan's folder is named by the content of its files, so that an interrupted run finds
        what is there and a changed file is prepared anew. See `prepared` for what lies in it.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .images import shown_together
from .methods import LearnsMany
from .noise import describe_noise
from .options import Options
from .pipeline import known
from .prepared import CacheError, Prepared, write_manifest
from .run import Run, Voice
from .series import IMAGE_ENDINGS, InputError, load, open_scan, sources_of, stem

GRADIENTS = ("bval", "bvals", "bvec", "bvecs")


# ---- which files ---------------------------------------------------------------------------------


NO_SCAN = re.compile(r"(mask|noise[-_]?map|residuals?|sigma)$", re.IGNORECASE)


def find_scans(sources: Iterable[Path], voice: Voice, ignored: Path | None = None) -> list[Path]:
    """The files that are meant, in order, each once.

    sources  files, and folders that are searched through and through
    voice    told which files are left out: those that quell denoised and, in folders, those named
             as masks, noise maps and residuals are
    ignored  a file that is no scan, such as the mask

    Raises InputError where there is none. Hidden files and folders are passed over.
    """
    found: dict[str, Path] = {}
    for source in sources:
        for path in _below(source) if source.is_dir() else [source]:
            if source.is_dir() and NO_SCAN.search(stem(path).name):
                voice.say(f"left out: {path}, by its name no scan; name the file itself if it is")
                continue
            found.setdefault(os.path.realpath(path), path)
    if ignored is not None:
        found.pop(os.path.realpath(ignored), None)
    scans = []
    for path in found.values():
        if _is_denoised(path):
            voice.say(f"left out: {path} was written by quell; only noisy scans teach")
        else:
            scans.append(path)
    if not scans:
        raise InputError(
            f"there is no noisy scan (.nii, .nii.gz or .mif) in {', '.join(map(str, sources))}; "
            "give others"
        )
    return scans


def _below(folder: Path) -> list[Path]:
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            Path(place, name)
            for name in names
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
        ]
    return sorted(paths)


def _is_denoised(path: Path) -> bool:
    """Whether the file's sidecar says that quell denoised it."""
    try:
        said = json.loads(stem(path).with_name(stem(path).name + ".json").read_text("utf-8"))
    except (OSError, ValueError):  # none, or none that can be read: `load` says what is wrong
        return False
    return isinstance(said, dict) and "Denoising" in said


# ---- all of them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preparation:
    """How scans become a training set.

    cache     folder of the prepared scans
    method    which is to learn from them
    options   noise law, coils, strict
    mask      file, for scans of one grid; None: computed for each
    skip_bad  leave out what can't be used, instead of refusing the set
    voice     told how far it is
    """

    cache: Path
    method: LearnsMany
    options: Options
    mask: Path | None
    skip_bad: bool
    voice: Voice

    def prepare(self, paths: list[Path]) -> list[Prepared]:
        """Prepare what is not in the cache yet; what else is there goes.

        Raises InputError in one sentence for the first scan that can't be used, and for a disk
        that can't hold the set.
        """
        keys = self._keys(paths)
        self.cache.mkdir(parents=True, exist_ok=True)
        for old in self.cache.iterdir():
            if old.name not in keys.values() and old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
        self._refuse_full_disk([p for p, key in keys.items() if not (self.cache / key).exists()])
        made: list[Prepared] = []
        warnings: dict[str, list[str]] = {}  # by their code
        for i, (path, key) in enumerate(keys.items(), start=1):
            try:
                made.append(self._one(path, self.cache / key, made, warnings))
            except CacheError:
                raise
            except InputError as error:
                sentence = str(error) if str(path) in str(error) else f"{path}: {error}"
                if not self.skip_bad:
                    advice = "or leave the file out, or say --skip-bad"
                    raise InputError(f"{sentence}; {advice}", error.status) from error
                self.voice.say(f"left out: {sentence}")
            self.voice.progress("preparing", i, len(keys), path.name)
        if not made:
            raise InputError("none of the scans can be used; see above", 1)
        for sentences in warnings.values():
            others = f" (and {len(sentences) - 1} more scans)" if len(sentences) > 1 else ""
            self.voice.say(f"warning: {sentences[0]}{others}")
        write_manifest(self.cache, made)
        return made

    def _keys(self, paths: list[Path]) -> dict[Path, str]:
        """The name of each scan's folder, by the bytes that decide what is in it; copies go."""
        keys: dict[str, Path] = {}
        for path in paths:
            key = self._key(path)
            if key in keys:
                self.voice.say(f"left out: {path} is the same scan as {keys[key]}")
            keys.setdefault(key, path)
        return {path: key for key, path in keys.items()}

    def _key(self, path: Path) -> str:
        own = [stem(path).with_name(f"{stem(path).name}.{ending}") for ending in GRADIENTS]
        shared = [path.with_name(ending) for ending in GRADIENTS]
        chosen = self.options
        how = chosen.noise_law, chosen.coils, chosen.strict, chosen.fourth_axis
        words = hashlib.sha256(f"{version('quell')}/{how!r}".encode())
        for file in (*sources_of(path), *own, *shared, self.mask):
            words.update(b"/")
            with suppress(OSError):  # mostly not there; what must be there is missed by `load`
                if file is not None:
                    words.update(_digest(file))
        return words.hexdigest()[:16]

    def _refuse_full_disk(self, paths: list[Path]) -> None:
        needed, free = sum(map(_scaled_bytes, paths)), shutil.disk_usage(self.cache).free
        if free < needed:
            raise CacheError(
                f"{self.cache.parent.parent} has {free / 1e9:.1f} GB free and the prepared scans "
                f"need {needed / 1e9:.1f} GB; free space or give --work a place on another disk"
            )

    def _one(
        self, path: Path, folder: Path, made: list[Prepared], warnings: dict[str, list[str]]
    ) -> Prepared:
        """One scan, prepared now or found in the cache; its warnings are added to the others'."""
        prepared = Prepared.read(folder)
        if prepared is None:
            shutil.rmtree(folder, ignore_errors=True)
            scan = load(path, mask=self.mask)
            _, scan, _, noise, findings = known(scan, self.options, Run())
            self.voice.say(f"{path}: {describe_noise(noise, scan.where)}")
            for finding in findings:
                if finding.level == "warning":
                    warnings.setdefault(finding.code, []).append(f"{path}: {finding.sentence}")
            prepared = Prepared.write(folder, scan, noise)
        channels, *before = (shown_together(p.series(), self.method) for p in (prepared, *made[:1]))
        if before and channels != before[0]:
            raise InputError(
                f"{path} has {channels} images to show at once and the scans before it "
                f"{before[0]}; train with --set others=0"
            )
        return prepared


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _scaled_bytes(path: Path) -> int:
    """What a scan takes in the cache; 0 for a file that will be refused."""
    try:
        return 4 * math.prod(open_scan(path).shape)
    except InputError:  # `load` says what is wrong
        return 0
