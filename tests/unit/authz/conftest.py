"""A gate over a policy that the test can change, with fakes behind the real ports."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import pytest

from appliance.authz.actions import Action, Resource, ResourceKind
from appliance.authz.baseline import baseline_text
from appliance.authz.catalogue import CatalogueEntry
from appliance.authz.decision import Decision, Denied
from appliance.authz.gate import Authorized, Gate
from appliance.authz.peer_rows import ALL_ROWS
from appliance.authz.snapshot import Asker, PolicySnapshot
from appliance.types import Principal, PrincipalKind, TimestampMs, TopicId, TopicName
from appliance.wire.requests import ApiVersions, Request

R = TypeVar("R", bound=Request)


class Bench(Generic[R]):
    """A gate, its policy, its topics and its clock, all in the test's hands."""

    def __init__(
        self, text: str, catalogue: Mapping[type[Request], CatalogueEntry] = ALL_ROWS
    ) -> None:
        self.text = text
        self.version = 1
        self.age_s = 0.0
        self.topics: tuple[TopicName, ...] = (TopicName("demo"), TopicName("other"))
        self.ids: dict[TopicId, TopicName] = {}
        self.policies_read = 0
        self.gate = Gate(self, self, self, catalogue=catalogue)

    def policy(self) -> tuple[int, str]:
        self.policies_read += 1
        return self.version, self.text

    def contact_age_s(self) -> float:
        return self.age_s

    def topic_names(self) -> tuple[TopicName, ...]:
        return self.topics

    def name_of(self, topic: TopicId) -> TopicName | None:
        return self.ids.get(topic)

    def monotonic(self) -> float:
        return 0.0

    def now_ms(self) -> TimestampMs:
        return TimestampMs(0)

    def replace(self, text: str) -> None:
        self.text = text
        self.version += 1

    def judge(
        self, name: str, request: R, *, listener: str = "native", address: str = "127.0.0.1"
    ) -> Authorized[R] | Denied:
        principal = Principal(PrincipalKind.USER, name)
        return self.gate.judge(principal, request, listener=listener, address=address)

    def decide(
        self, who: str, action: str, kind: str, name: str, address: str = "127.0.0.1"
    ) -> Decision:
        authorized = self.judge(who, ApiVersions(), address=address)
        assert isinstance(authorized, Authorized)
        snapshot = PolicySnapshot.of(self.version, self.text)
        asker = Asker(Principal(PrincipalKind.USER, who), "native", address)
        decision = snapshot.decide(asker, Action(action), ResourceKind(kind), name)
        again = snapshot.decide(asker, Action(action), ResourceKind(kind), name)
        assert again == decision
        return decision


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return Bench


@pytest.fixture
def topic() -> Callable[[str], Resource]:
    return lambda name: Resource(ResourceKind.TOPIC, name)


@pytest.fixture
def baseline_policy() -> str:
    return baseline_text()
