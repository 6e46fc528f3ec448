//! The request path, read from top to bottom.
