"""The headline: what the user of a result has to do, from all that is known about it.

Idea    Three headlines. "Use it." "Use it, but know this: ..." "Look first: ...", with the reason
        in the headline itself. Report, terminal, sidecar and the page of a study all take it here.
Order   Faults of the data come first: whatever the residual says, a result of a scan with an empty
        slice is to be looked at. Then what the residual says, then remarks of the checks. Notes of
        the checks (how the scan was acquired, what the method can take) are no reason.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..checks import Finding
from .judgement import LEVELS, Judgement

MOST_LINES = 2  # below the headline
FIRST = ("noise-from-differences",)  # of the remarks: the residual is judged by that noise, too


@dataclass(frozen=True)
class Reason:
    """Why a headline is not "Use it."; a phrase without capital and full stop."""

    code: str
    level: str  # one of LEVELS
    sentence: str
    advice: str


@dataclass(frozen=True)
class Verdict:
    """What to do with a result, and why.

    level     "good": use it; "note": use it, but know this; "warning", "error": look first
    sentence  the headline
    reasons   gravest first; that of the headline is the first
    """

    level: str
    sentence: str
    reasons: tuple[Reason, ...] = ()

    @property
    def lines(self) -> list[str]:
        """At most two lines below the headline: what to do, and what else there is."""
        if not self.reasons:
            return []
        said = [_sentence(self.reasons[0].advice)] if self.reasons[0].advice else []
        if others := self.reasons[1:]:
            more = f"; {len(others) - 1} more below" if len(others) > 1 else ""
            said.append(_sentence(f"also: {others[0].sentence}{more}"))
        return said[:MOST_LINES]

    def to_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        reasons = [asdict(reason) for reason in self.reasons]
        return {"Level": self.level, "Sentence": self.sentence, "Reasons": reasons}


def headline(judgements: Sequence[Judgement], findings: Sequence[Finding] = ()) -> Verdict:
    """What to do with a result.

    judgements  of its residual, from `verdict`
    findings    of the checks of the scan and of its noise model
    """
    grave = LEVELS[2:]
    faults = [_of_finding(f) for f in findings if f.is_fault and f.level in grave]
    off = [_of_judgement(j) for j in judgements if j.level in grave]
    off.sort(key=lambda reason: -LEVELS.index(reason.level))
    known = [_of_finding(f) for f in findings if not f.is_fault and f.level in grave]
    known = [Reason(r.code, "note", r.sentence, r.advice) for r in known]
    known.sort(key=lambda reason: reason.code not in FIRST)
    known += [_of_judgement(j) for j in judgements if j.level == "note" and j.is_remark]
    reasons = (*faults, *off, *known)
    if faults or off:
        worst = max((r.level for r in (*faults, *off)), key=LEVELS.index)
        return Verdict(worst, f"Look first: {reasons[0].sentence}.", reasons)
    if known:
        return Verdict("note", f"Use it, but know this: {reasons[0].sentence}.", reasons)
    return Verdict("good", "Use it.")


def _of_finding(finding: Finding) -> Reason:
    return Reason(finding.code, finding.level, _phrase(finding.sentence), _phrase(finding.advice))


def _of_judgement(judgement: Judgement) -> Reason:
    phrases = _phrase(judgement.sentence), _phrase(judgement.advice)
    return Reason(judgement.code, judgement.level, *phrases)


def _phrase(sentence: str) -> str:
    """Without its capital and full stop; names in capitals (FA, MD) stay."""
    is_name = len(sentence) > 1 and sentence[1].isupper()
    start = sentence[:1] if is_name else sentence[:1].lower()
    return start + sentence[1:].rstrip(".")


def _sentence(phrase: str) -> str:
    return f"{phrase[:1].upper()}{phrase[1:]}."
