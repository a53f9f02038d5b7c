"""The gRPC API: both services, and the standard ones for health and reflection."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from eigenmesh.api.auth import Access
from eigenmesh.api.gate import Gate
from eigenmesh.api.read import Reads
from eigenmesh.api.subject import Subject
from eigenmesh.api.write import Writes
from eigenmesh.control.api_settings import ApiListen, Role
from eigenmesh.v1 import mesh_service_pb2, operations_service_pb2
from eigenmesh.v1.mesh_service_pb2_grpc import add_MeshServiceServicer_to_server
from eigenmesh.v1.operations_service_pb2_grpc import add_OperationsServiceServicer_to_server

ROLES = {
    mesh_service_pb2.DESCRIPTOR.services_by_name["MeshService"].full_name: Role.READ,
    operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"].full_name: Role.WRITE,
}
"""What the callers of each service need."""


class ApiServer:
    """`port` is the bound port after `start`. count: called with the method and the code of every
    call."""

    def __init__(
        self, settings: ApiListen, subject: Subject, count: Callable[[str, str], None]
    ) -> None:
        """Raises TlsError for certificates that cannot be used."""
        self._listen = settings.listen
        self._certificates = settings.certificates()
        # Without so_reuseport=0 a second server would share the port unseen.
        self._server = grpc.aio.server(
            interceptors=[Gate(Access(settings), ROLES, count)],
            options=[("grpc.so_reuseport", 0)],
        )
        self._writes = Writes(subject)
        add_MeshServiceServicer_to_server(Reads(subject), self._server)  # type: ignore[no-untyped-call]
        add_OperationsServiceServicer_to_server(self._writes, self._server)  # type: ignore[no-untyped-call]
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*ROLES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self.port = 0

    async def start(self) -> int:
        """Raises RuntimeError when the address is taken."""
        if self._certificates is None:
            self.port = self._server.add_insecure_port(self._listen)
        else:
            credentials = self._certificates.credentials()
            self.port = self._server.add_secure_port(self._listen, credentials)
        await self._server.start()
        for service in ("", *ROLES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return self.port

    async def stop(self, grace: float = 0.5) -> None:
        """What writes have begun is finished."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        await self._writes.finish()
