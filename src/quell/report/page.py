"""The report: one HTML file that opens anywhere and asks nothing from the network.

Every text that comes from outside (file names, sidecars, settings) passes through the template's
autoescape; the page also carries a content policy that allows one script, the slice sliders', by
its hash, and no address at all. Without scripts all but the sliders is there.
"""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ..checks import Finding
from ..evaluate import headline, verdict
from ..evaluate.outliers import with_dropouts
from ..series import replacing
from . import figures
from .averages import average_maps, own_maps, pass_over
from .browse import browse
from .charts import charts
from .facts import ReportFacts
from .shown import outlier_pictures, pictures
from .summary import answers, facts_of_scan, listed, places, rows_of
from .tensors import tensor_maps_shown

LIMITS = (
    "This is research software, not a medical device: do not base a diagnosis on its output.",
    "No denoiser can restore detail that lies below the noise; it can only avoid removing what "
    "stands above it. A small lesion in a single volume is what is most easily lost.",
    "A clean residual is necessary, not sufficient: a method that changes nothing has one too, "
    "and detail that was added out of nothing is small in it.",
    "Motion, eddy-current distortion, Gibbs ringing and bias fields are not corrected here. "
    "Denoise first, before any step that interpolates.",
)
HERE = Path(__file__).parent


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the page, whole or not at all.

    path   where to; an existing file is replaced only by a complete one
    facts  what to show
    """
    page = page_of(facts).encode("utf-8", "backslashreplace")  # file names may hold bare bytes
    with replacing(path) as file:
        file.write(page)


def page_of(facts: ReportFacts) -> str:
    """The whole page as text."""
    findings = [Finding(**finding) for finding in facts.findings]
    findings += [Finding("run", "warning", said, "") for said in facts.warnings]
    judgements = verdict(facts.statistics, facts.floor_corrected, findings)
    view = figures.view_of(facts.mask, facts.affine)
    seen = pass_over(facts)
    dropped = [cell for finding in findings if finding.is_fault for cell in finding.slices]
    found = with_dropouts(facts.statistics.outliers, dropped, seen.slices)
    shown = pictures(facts, view)
    tensors, of_tensors = tensor_maps_shown(facts, view)
    script = (HERE / "browse.js").read_text("utf-8")
    return template("report.html.j2").render(
        facts=facts,
        judgements=judgements,
        verdict=headline(judgements, findings),
        answers=answers(judgements, findings, found, seen.slices),
        remarks=[finding for finding in findings if finding.level != "note"],
        notes=[finding for finding in findings if finding.level == "note"],
        scan=facts.facts_of_scan or facts_of_scan(facts),
        pictures=shown,
        averages=[tile.tile(view) for tile in average_maps(facts, seen)],
        browse=browse(facts, shown[0]["volume"], view, shown[0]["limits"]),
        outliers=listed(found),
        n_outliers=len(found),
        places=places(facts.statistics),
        outlier_pictures=outlier_pictures(facts, view, found),
        tensors=[tile.tile(view) for tile in tensors],
        of_tensors=of_tensors,
        own=[tile.tile(view) for tile in own_maps(facts, seen)],
        charts=charts(facts),
        settings=rows_of(facts.settings),
        run=rows_of(facts.run),
        versions=rows_of(facts.versions),
        limits=[*facts.limits, *LIMITS],
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def template(name: str) -> Template:
    """A page's template; whatever is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
