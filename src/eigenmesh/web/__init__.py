"""What a browser, a load balancer or Prometheus asks for over plain HTTP."""

from eigenmesh.web.http import HttpServer

__all__ = ["HttpServer"]
