"""The endpoint picker behind a real Envoy, against a do-nothing server on grpc.aio."""
