"""The edge of a gRPC server, the same for each service."""
