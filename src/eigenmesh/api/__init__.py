"""The gRPC API (proto/eigenmesh/v1): server and client. Generated code is in `eigenmesh.v1`."""
