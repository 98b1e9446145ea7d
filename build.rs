//! Tells the program which revision it was built from, and for which target.

use std::path::Path;
use std::process::Command;

/// Set by whoever builds from an archive, which has no repository to ask.
const REVISION: &str = "MT5_GATEWAY_REVISION";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={REVISION}");
    // The path differs in a worktree.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let revision = std::env::var(REVISION)
        .ok()
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env={REVISION}={revision}");
    let target = std::env::var("TARGET").expect("Cargo sets it");
    println!("cargo::rustc-env=MT5_GATEWAY_TARGET={target}");
}

/// What git says of this repository. Sources that were unpacked inside another one are not its.
fn git(arguments: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
