"""What clients tell of themselves, in the node's log."""

from typing import Final

import structlog

from appliance.limits import MAX_LOGGED_CLIENT_METRICS
from appliance.ports import ClientReport

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class ClientLog:
    """A line for each report: the instance and its numbers, never its principal."""

    def report(self, report: ClientReport) -> None:
        """Writes the first MAX_LOGGED_CLIENT_METRICS numbers, and how many there were."""
        shown = dict(report.metrics[:MAX_LOGGED_CLIENT_METRICS])
        _log.info(
            "a client told of itself",
            instance=str(report.instance),
            count=len(report.metrics),
            metrics=shown,
        )
