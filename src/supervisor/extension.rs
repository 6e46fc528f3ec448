//! The worker extension, inside the program: one file to deploy, and it always fits.

/// The shared object built from `crates/worker` by build.rs.
pub const EXTENSION: &[u8] = include_bytes!(env!("MONOCEROS_WORKER_EXTENSION"));
