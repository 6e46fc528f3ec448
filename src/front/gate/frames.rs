//! Counts what an HTTP/2 client can flood a server with, from the frame headers alone (RFC 9113 §4.1).
