import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_OBSERVE: _ClassVar[Mode]
    MODE_APPROVE: _ClassVar[Mode]
    MODE_AUTO: _ClassVar[Mode]
MODE_UNSPECIFIED: Mode
MODE_OBSERVE: Mode
MODE_APPROVE: Mode
MODE_AUTO: Mode

class Mesh(_message.Message):
    __slots__ = ("name", "id", "mode", "controls", "plan_in_force", "latest_decision", "pending_decision", "connected_nodes", "division", "stopped")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    PLAN_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    LATEST_DECISION_FIELD_NUMBER: _ClassVar[int]
    PENDING_DECISION_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_NODES_FIELD_NUMBER: _ClassVar[int]
    DIVISION_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    mode: Mode
    controls: Controls
    plan_in_force: Plan
    latest_decision: Decision
    pending_decision: str
    connected_nodes: int
    division: str
    stopped: str
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., controls: _Optional[_Union[Controls, _Mapping]] = ..., plan_in_force: _Optional[_Union[Plan, _Mapping]] = ..., latest_decision: _Optional[_Union[Decision, _Mapping]] = ..., pending_decision: _Optional[str] = ..., connected_nodes: _Optional[int] = ..., division: _Optional[str] = ..., stopped: _Optional[str] = ...) -> None: ...

class Controls(_message.Message):
    __slots__ = ("mode", "routes", "clusters", "paused", "frozen_until", "held", "pins", "promoted", "overrides")
    class RoutesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Mode
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Mode, str]] = ...) -> None: ...
    class ClustersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Mode
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Mode, str]] = ...) -> None: ...
    class PinsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Weights
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Weights, _Mapping]] = ...) -> None: ...
    class OverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    FROZEN_UNTIL_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    routes: _containers.ScalarMap[str, Mode]
    clusters: _containers.ScalarMap[str, Mode]
    paused: str
    frozen_until: _timestamp_pb2.Timestamp
    held: str
    pins: _containers.MessageMap[str, Weights]
    promoted: _containers.RepeatedCompositeFieldContainer[RouteCluster]
    overrides: _containers.ScalarMap[str, float]
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., routes: _Optional[_Mapping[str, Mode]] = ..., clusters: _Optional[_Mapping[str, Mode]] = ..., paused: _Optional[str] = ..., frozen_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held: _Optional[str] = ..., pins: _Optional[_Mapping[str, Weights]] = ..., promoted: _Optional[_Iterable[_Union[RouteCluster, _Mapping]]] = ..., overrides: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Weights(_message.Message):
    __slots__ = ("weights",)
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.ScalarMap[str, float]
    def __init__(self, weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class RouteCluster(_message.Message):
    __slots__ = ("route", "cluster")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    route: str
    cluster: str
    def __init__(self, route: _Optional[str] = ..., cluster: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "id", "cluster", "subscriptions", "connected_for", "group", "max_requests")
    class MaxRequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FOR_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    cluster: str
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    connected_for: _duration_pb2.Duration
    group: str
    max_requests: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., cluster: _Optional[str] = ..., subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., connected_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., group: _Optional[str] = ..., max_requests: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("name", "id", "mode", "weights", "demand", "pins", "canaries", "missing")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class PinsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class CanariesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    CANARIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    mode: Mode
    weights: _containers.ScalarMap[str, float]
    demand: float
    pins: _containers.ScalarMap[str, float]
    canaries: _containers.ScalarMap[str, float]
    missing: str
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., weights: _Optional[_Mapping[str, float]] = ..., demand: _Optional[float] = ..., pins: _Optional[_Mapping[str, float]] = ..., canaries: _Optional[_Mapping[str, float]] = ..., missing: _Optional[str] = ...) -> None: ...

class Cluster(_message.Message):
    __slots__ = ("name", "id", "mode", "state", "limits", "max_requests", "weights", "host", "adaptive", "missing")
    class MaxRequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADAPTIVE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    mode: Mode
    state: ClusterState
    limits: ClusterLimits
    max_requests: _containers.ScalarMap[str, int]
    weights: _containers.ScalarMap[str, float]
    host: str
    adaptive: bool
    missing: str
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., state: _Optional[_Union[ClusterState, _Mapping]] = ..., limits: _Optional[_Union[ClusterLimits, _Mapping]] = ..., max_requests: _Optional[_Mapping[str, int]] = ..., weights: _Optional[_Mapping[str, float]] = ..., host: _Optional[str] = ..., adaptive: _Optional[bool] = ..., missing: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("name", "number", "time", "who", "action", "detail", "outcome")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: int
    time: _timestamp_pb2.Timestamp
    who: str
    action: str
    detail: _struct_pb2.Struct
    outcome: str
    def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., who: _Optional[str] = ..., action: _Optional[str] = ..., detail: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., outcome: _Optional[str] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("type_url", "sent_version", "acked_version", "nack", "names", "nack_count", "answered_ago")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    SENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACKED_VERSION_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    NACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AGO_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    sent_version: str
    acked_version: str
    nack: str
    names: _containers.RepeatedScalarFieldContainer[str]
    nack_count: int
    answered_ago: _duration_pb2.Duration
    def __init__(self, type_url: _Optional[str] = ..., sent_version: _Optional[str] = ..., acked_version: _Optional[str] = ..., nack: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., nack_count: _Optional[int] = ..., answered_ago: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("routes", "clusters")
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[RouteWeights]
    clusters: _containers.RepeatedCompositeFieldContainer[ClusterLimits]
    def __init__(self, routes: _Optional[_Iterable[_Union[RouteWeights, _Mapping]]] = ..., clusters: _Optional[_Iterable[_Union[ClusterLimits, _Mapping]]] = ...) -> None: ...

class RouteWeights(_message.Message):
    __slots__ = ("route", "weights")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    route: str
    weights: _containers.ScalarMap[str, float]
    def __init__(self, route: _Optional[str] = ..., weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ClusterLimits(_message.Message):
    __slots__ = ("cluster", "max_requests", "max_connections", "max_pending_requests", "max_retries", "retry_budget")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    RETRY_BUDGET_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    max_requests: int
    max_connections: int
    max_pending_requests: int
    max_retries: int
    retry_budget: RetryBudget
    def __init__(self, cluster: _Optional[str] = ..., max_requests: _Optional[int] = ..., max_connections: _Optional[int] = ..., max_pending_requests: _Optional[int] = ..., max_retries: _Optional[int] = ..., retry_budget: _Optional[_Union[RetryBudget, _Mapping]] = ...) -> None: ...

class RetryBudget(_message.Message):
    __slots__ = ("budget_percent", "min_retry_concurrency")
    BUDGET_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MIN_RETRY_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    budget_percent: float
    min_retry_concurrency: int
    def __init__(self, budget_percent: _Optional[float] = ..., min_retry_concurrency: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("name", "number", "time", "action", "why", "plan", "proposed", "clusters", "demands", "candidates", "cuts", "predicted", "incumbent_predicted", "took", "missing", "predicted_latency", "queries", "source", "left_out", "observed_at", "window", "proxies", "couplings", "check")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[Decision.Action]
        ACTION_PUSH: _ClassVar[Decision.Action]
        ACTION_HOLD: _ClassVar[Decision.Action]
        ACTION_RECOMMEND: _ClassVar[Decision.Action]
        ACTION_AWAIT: _ClassVar[Decision.Action]
        ACTION_ROLLBACK: _ClassVar[Decision.Action]
    ACTION_UNSPECIFIED: Decision.Action
    ACTION_PUSH: Decision.Action
    ACTION_HOLD: Decision.Action
    ACTION_RECOMMEND: Decision.Action
    ACTION_AWAIT: Decision.Action
    ACTION_ROLLBACK: Decision.Action
    class MissingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LeftOutEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class CouplingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    INCUMBENT_PREDICTED_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LATENCY_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    COUPLINGS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: int
    time: _timestamp_pb2.Timestamp
    action: Decision.Action
    why: str
    plan: Plan
    proposed: Plan
    clusters: _containers.RepeatedCompositeFieldContainer[ClusterState]
    demands: _containers.RepeatedCompositeFieldContainer[RouteDemand]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    cuts: _containers.RepeatedCompositeFieldContainer[Cut]
    predicted: float
    incumbent_predicted: float
    took: _duration_pb2.Duration
    missing: _containers.ScalarMap[str, str]
    predicted_latency: float
    queries: _containers.RepeatedScalarFieldContainer[str]
    source: str
    left_out: _containers.ScalarMap[str, str]
    observed_at: _timestamp_pb2.Timestamp
    window: _duration_pb2.Duration
    proxies: _containers.RepeatedCompositeFieldContainer[ProxyLoad]
    couplings: _containers.ScalarMap[str, float]
    check: Check
    def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action: _Optional[_Union[Decision.Action, str]] = ..., why: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., proposed: _Optional[_Union[Plan, _Mapping]] = ..., clusters: _Optional[_Iterable[_Union[ClusterState, _Mapping]]] = ..., demands: _Optional[_Iterable[_Union[RouteDemand, _Mapping]]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., cuts: _Optional[_Iterable[_Union[Cut, _Mapping]]] = ..., predicted: _Optional[float] = ..., incumbent_predicted: _Optional[float] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., missing: _Optional[_Mapping[str, str]] = ..., predicted_latency: _Optional[float] = ..., queries: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ..., left_out: _Optional[_Mapping[str, str]] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., proxies: _Optional[_Iterable[_Union[ProxyLoad, _Mapping]]] = ..., couplings: _Optional[_Mapping[str, float]] = ..., check: _Optional[_Union[Check, _Mapping]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("verdict", "change", "error", "windows", "failed", "why")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Check.Verdict]
        VERDICT_WAITING: _ClassVar[Check.Verdict]
        VERDICT_ACCEPTED: _ClassVar[Check.Verdict]
        VERDICT_WORSE: _ClassVar[Check.Verdict]
        VERDICT_INCONCLUSIVE: _ClassVar[Check.Verdict]
        VERDICT_VOID: _ClassVar[Check.Verdict]
    VERDICT_UNSPECIFIED: Check.Verdict
    VERDICT_WAITING: Check.Verdict
    VERDICT_ACCEPTED: Check.Verdict
    VERDICT_WORSE: Check.Verdict
    VERDICT_INCONCLUSIVE: Check.Verdict
    VERDICT_VOID: Check.Verdict
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    verdict: Check.Verdict
    change: float
    error: float
    windows: int
    failed: int
    why: str
    def __init__(self, verdict: _Optional[_Union[Check.Verdict, str]] = ..., change: _Optional[float] = ..., error: _Optional[float] = ..., windows: _Optional[int] = ..., failed: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class ProxyLoad(_message.Message):
    __slots__ = ("proxy", "cluster", "load", "in_flight")
    PROXY_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    proxy: str
    cluster: str
    load: float
    in_flight: float
    def __init__(self, proxy: _Optional[str] = ..., cluster: _Optional[str] = ..., load: _Optional[float] = ..., in_flight: _Optional[float] = ...) -> None: ...

class RouteDemand(_message.Message):
    __slots__ = ("route", "requests_per_second")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    route: str
    requests_per_second: float
    def __init__(self, route: _Optional[str] = ..., requests_per_second: _Optional[float] = ...) -> None: ...

class ClusterState(_message.Message):
    __slots__ = ("cluster", "load", "throughput", "mean_seconds", "p50_seconds", "p99_seconds", "in_flight", "upstream_errors", "breaker_errors", "curve", "retries", "connections", "pending", "errors", "quantiles")
    class ErrorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_FIELD_NUMBER: _ClassVar[int]
    MEAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    P50_SECONDS_FIELD_NUMBER: _ClassVar[int]
    P99_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_ERRORS_FIELD_NUMBER: _ClassVar[int]
    BREAKER_ERRORS_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    load: float
    throughput: float
    mean_seconds: float
    p50_seconds: float
    p99_seconds: float
    in_flight: float
    upstream_errors: float
    breaker_errors: float
    curve: Curve
    retries: float
    connections: float
    pending: float
    errors: _containers.ScalarMap[str, float]
    quantiles: _containers.RepeatedCompositeFieldContainer[Quantile]
    def __init__(self, cluster: _Optional[str] = ..., load: _Optional[float] = ..., throughput: _Optional[float] = ..., mean_seconds: _Optional[float] = ..., p50_seconds: _Optional[float] = ..., p99_seconds: _Optional[float] = ..., in_flight: _Optional[float] = ..., upstream_errors: _Optional[float] = ..., breaker_errors: _Optional[float] = ..., curve: _Optional[_Union[Curve, _Mapping]] = ..., retries: _Optional[float] = ..., connections: _Optional[float] = ..., pending: _Optional[float] = ..., errors: _Optional[_Mapping[str, float]] = ..., quantiles: _Optional[_Iterable[_Union[Quantile, _Mapping]]] = ...) -> None: ...

class Quantile(_message.Message):
    __slots__ = ("q", "seconds", "resolution_seconds")
    Q_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    q: float
    seconds: float
    resolution_seconds: float
    def __init__(self, q: _Optional[float] = ..., seconds: _Optional[float] = ..., resolution_seconds: _Optional[float] = ...) -> None: ...

class Curve(_message.Message):
    __slots__ = ("t0_seconds", "capacity", "variability", "t0_error", "capacity_error", "changed_at")
    T0_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    VARIABILITY_FIELD_NUMBER: _ClassVar[int]
    T0_ERROR_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_ERROR_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    t0_seconds: float
    capacity: float
    variability: float
    t0_error: float
    capacity_error: float
    changed_at: _timestamp_pb2.Timestamp
    def __init__(self, t0_seconds: _Optional[float] = ..., capacity: _Optional[float] = ..., variability: _Optional[float] = ..., t0_error: _Optional[float] = ..., capacity_error: _Optional[float] = ..., changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("part", "solver", "objective", "took", "won", "detail")
    class DetailEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PART_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    WON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    part: str
    solver: str
    objective: float
    took: _duration_pb2.Duration
    won: bool
    detail: _containers.ScalarMap[str, str]
    def __init__(self, part: _Optional[str] = ..., solver: _Optional[str] = ..., objective: _Optional[float] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., won: _Optional[bool] = ..., detail: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Cut(_message.Message):
    __slots__ = ("rule", "subject", "proposed", "allowed")
    RULE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    rule: str
    subject: str
    proposed: float
    allowed: float
    def __init__(self, rule: _Optional[str] = ..., subject: _Optional[str] = ..., proposed: _Optional[float] = ..., allowed: _Optional[float] = ...) -> None: ...

class ClusterForecast(_message.Message):
    __slots__ = ("load", "capacity", "latency", "blocked")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    load: float
    capacity: float
    latency: float
    blocked: float
    def __init__(self, load: _Optional[float] = ..., capacity: _Optional[float] = ..., latency: _Optional[float] = ..., blocked: _Optional[float] = ...) -> None: ...
