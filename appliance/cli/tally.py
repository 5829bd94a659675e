"""One line of progress for a terminal: records, megabytes, and the rate."""

import time

from rich.text import Text

from appliance.limits import MIB


class Tally:
    """Counts; rich draws it as often as it likes."""

    def __init__(self, verb: str) -> None:
        self.records = 0
        self.size_bytes = 0
        self._verb = verb
        self._started = time.monotonic()

    def add(self, records: int, size_bytes: int) -> None:
        """Counts some more."""
        self.records += records
        self.size_bytes += size_bytes

    def finish(self, verb: str) -> None:
        """What has become of all of them."""
        self._verb = verb

    def __rich__(self) -> Text:
        """`1,234 records, 5.6 MiB sent, 7.8 MiB/s`."""
        elapsed_s = max(time.monotonic() - self._started, 1e-9)
        size_mib = self.size_bytes / MIB
        return Text(
            f"{self.records:,} records, {size_mib:,.1f} MiB {self._verb},"
            f" {size_mib / elapsed_s:,.1f} MiB/s"
        )
