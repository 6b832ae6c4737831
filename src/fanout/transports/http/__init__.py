"""HTTP/1.1 over connections of our own: one connection, TLS without I/O, the pool, the sockets."""
