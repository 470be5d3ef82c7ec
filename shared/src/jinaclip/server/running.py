"""Puts the parts together: keys, admission, application, process."""

from __future__ import annotations

from jinaclip.server import life
from jinaclip.server.admission import Admission
from jinaclip.server.app import make_app
from jinaclip.server.engines import Engines
from jinaclip.server.keys import find_ring
from jinaclip.server.settings import Settings


def serve(settings: Settings, engines: Engines) -> int:
    """Serves until it is told to stop; gives the exit code.

    Raises:
        ConfigError: the keys are wrong or missing, or it cannot listen there.
        JinaClipError: the weights cannot be used.
    """
    ring = find_ring(settings.keys, settings.host)
    return life.run(make_app(settings, engines, ring, Admission(settings)), settings)
