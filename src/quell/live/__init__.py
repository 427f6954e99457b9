"""What `quell denoise --live` and `quell train --live` show: a page of the run, while it runs.

The way: a voice (`follower`) hears how far the run is and keeps a slice of it as pictures
(`pictures`); `server` hands both to the page in `page/`, over loopback only. Whoever works draws
the pictures, between two steps and at most 2 % of the time; what is computed stays the same to
the byte.
"""

from .follower import Follower
from .server import Server

__all__ = ["Follower", "Server"]
