"""A whole study: BIDS in, BIDS derivatives out, every scan on a worker of its own.

The way: find the scans -> what is done stays -> each scan is a job, sent to a worker with memory
for it -> denoised, judged, put into place -> one record a scan, one table and page for all.

Reading order: asked, folder, bids, job, manifest, work, placing, names, judging, memory, cluster,
batch, admission, progress, shared, group, showing.
"""

from .asked import Cohort
from .folder import denoise_participants
from .manifest import Entry
from .showing import write_group

__all__ = ["Cohort", "Entry", "denoise_participants", "write_group"]
