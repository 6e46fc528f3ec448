//! Builds the worker extension, so that the program can carry it inside itself and `cargo run` needs no second command.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a ready-made extension instead (packaging, cross builds).
const READY_MADE: &str = "MONOCEROS_WORKER_EXTENSION_FILE";

fn main() {
    for input in ["crates/worker", "crates/wire", "static/welcome.html", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed={READY_MADE}");
    let extension = env::var_os(READY_MADE).map_or_else(build, PathBuf::from);
    println!("cargo::rustc-env=MONOCEROS_WORKER_EXTENSION={}", extension.display());
}

/// Runs cargo for the extension with a target directory of its own: this one is locked by the build we are part of.
fn build() -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let target_directory = shared_target(&out).join("worker-extension");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(&root)
        .args(["build", "--package", "monoceros-worker", "--locked", "--target-dir"])
        .arg(&target_directory)
        // The outer build's flags (clippy's wrapper, coverage) are not meant for this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if is_release {
        cargo.arg("--release");
    }
    if let Some(target) = env::var_os("CARGO_BUILD_TARGET") {
        cargo.arg("--target").arg(target);
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "the worker extension could not be built");
    target_directory.join(if is_release { "release" } else { "debug" }).join("libmonoceros_worker.so")
}

/// The target directory above `OUT_DIR` (`…/target/debug/build/monoceros-hash/out`), so that all build profiles of one
/// checkout share one build of the extension.
fn shared_target(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).to_path_buf()
}
