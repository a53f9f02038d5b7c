"""How patient the xDS server is. Light: settings read it without gRPC."""

from __future__ import annotations

from dataclasses import dataclass

_OPTIONS = (
    # Without it a second server would share the port unseen.
    ("grpc.so_reuseport", 0),
    # A client that vanished without a word is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The bootstrap's keepalive pings must not count as abuse.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True)
class ServerOptions:
    """All in seconds.

    fallback_after: how long a refused version is left parked before the group is served the last
        one that it took; None: for ever.
    write_timeout: how long a client may leave a response unread before its stream is reset.
    max_connection_age: after about this long (10% more or less, by chance) a connection is ended,
        so that clients spread over the servers that there are; None: never.
    """

    fallback_after: float | None = 10.0
    write_timeout: float = 20.0
    max_connection_age: float | None = None

    def of_grpc(self) -> tuple[tuple[str, int], ...]:
        if self.max_connection_age is None:
            return _OPTIONS
        # gRPC adds the chance itself (its A9 proposal); the grace ends streams, which never end.
        age = ("grpc.max_connection_age_ms", round(1000 * self.max_connection_age))
        return (*_OPTIONS, age, ("grpc.max_connection_age_grace_ms", 1_000))
