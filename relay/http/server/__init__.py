"""The HTTP server under both doors: connections, TLS, bodies, orderly close."""
