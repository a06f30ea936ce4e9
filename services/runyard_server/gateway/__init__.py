"""The HTTP edge: web application, JSON and Connect access to every unary RPC."""
