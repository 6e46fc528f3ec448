//! The gate over real sockets: every pit-fall of HTTP/1.1 and HTTP/2 that the research measured, one row each.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "gate/echo.rs"]
mod echo;
#[path = "gate/http1.rs"]
mod http1;
#[path = "gate/http2.rs"]
mod http2;
#[path = "gate/pace.rs"]
mod pace;
#[path = "gate/rows.rs"]
mod rows;
#[path = "gate/scanner.rs"]
mod scanner;
