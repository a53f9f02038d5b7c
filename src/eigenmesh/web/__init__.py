"""What a browser, a load balancer or Prometheus asks for over plain HTTP."""

from eigenmesh.web.http import HttpServer
from eigenmesh.web.page import Page

__all__ = ["HttpServer", "Page"]
