//! Listening sockets and the one accept loop.
