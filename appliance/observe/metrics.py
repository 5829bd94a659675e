"""What a node measures of itself, in Prometheus' text format.

Rules: the registry is this object's own, never the library's global one, and the assembly owns it.
Whoever measures knows no library: it gives its figures when they are asked for, and counts nothing
here. Names begin with `memorystreamer_`; labels are ids of the cluster, never names of topics,
groups or users, and as many as there are key domains.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.ports import DomainStanding, ReplicationStanding

_BY_DOMAIN = ("domain",)


Standings = Callable[[], Iterable[DomainStanding]]


class Metrics:
    """The figures of one node."""

    def __init__(self) -> None:
        """Measures nothing until somebody is followed."""
        self._registry = CollectorRegistry(auto_describe=False)

    def follow_keys(self, standings: Standings, refusals: Mapping[str, int]) -> None:
        """Has both looked at in every scrape, on the event loop; they must be there at once.

        `refusals` are counted by cause since the start.
        """
        self._registry.register(_Keys(standings, refusals))

    def follow_replication(self, standing: Callable[[], ReplicationStanding | None]) -> None:
        """Has the replicas looked at in every scrape; None while the node has none open."""
        self._registry.register(_Replication(standing))

    def text(self) -> bytes:
        """Everything, as it is now."""
        return generate_latest(self._registry)


class _Keys(Collector):
    """`memorystreamer_keys_*`."""

    def __init__(self, standings: Standings, refusals: Mapping[str, int]) -> None:
        self._standings = standings
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        lease = GaugeMetricFamily(
            "memorystreamer_keys_lease_seconds",
            "Seconds that the node can go on without its key provider, by key domain.",
            labels=_BY_DOMAIN,
        )
        spares = GaugeMetricFamily(
            "memorystreamer_keys_spare_data_keys",
            "Data keys held ahead: so many logs can be made while the provider is away.",
            labels=_BY_DOMAIN,
        )
        sealed = GaugeMetricFamily(
            "memorystreamer_keys_sealed",
            "1 for a key domain whose lease has ended or whose key is gone.",
            labels=_BY_DOMAIN,
        )
        for each in self._standings():
            domain = [str(each.domain)]
            lease.add_metric(domain, each.lease_left_s)
            spares.add_metric(domain, each.spares)
            sealed.add_metric(domain, each.lease_left_s == 0)
        refusals = CounterMetricFamily(
            "memorystreamer_keys_refusals",
            "Keys that could not be had: the provider was away, refused, had no such key, gave"
            " a wrong one; or no spare data key was left.",
            labels=("cause",),
        )
        for cause, count in sorted(self._refusals.items()):
            refusals.add_metric([cause], count)
        yield from (lease, spares, sealed, refusals)


_REPLICAS = (
    ("held", "Replicas that are open here."),
    ("led", "Replicas that this node leads."),
    ("under_replicated", "Replicas led here of which another voter is not heard."),
    ("leaderless", "Replicas here whose leader is not known: what they hold cannot be had."),
)
_ALARMS = (
    (
        "shrunk",
        "Times that a member held less than it had acknowledged: an old disk, or none.",
    ),
    ("damaged", "Times that a log here could not be read or written."),
)


class _Replication(Collector):
    """`memorystreamer_replicas_*`."""

    def __init__(self, standing: Callable[[], ReplicationStanding | None]) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        standing = self._standing()
        if standing is None:
            return
        for name, text in _REPLICAS:
            yield GaugeMetricFamily(
                f"memorystreamer_replicas_{name}", text, value=getattr(standing, name)
            )
        for name, text in _ALARMS:
            yield CounterMetricFamily(
                f"memorystreamer_replicas_{name}", text, value=getattr(standing, name)
            )
