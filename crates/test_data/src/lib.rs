//! What tests read that is not in the checkout: the shared folder of published facts. Tests use it, and `xtask`;
//! nothing that is shipped does.
//! What is missing is said where a passing test's words are seen too, and fails in CI.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// `CI` with any value but an empty one, `0` and `false`: services set it to `true` or to `1`.
pub fn in_ci() -> bool {
    is_set(&std::env::var("CI").unwrap_or_default())
}

fn is_set(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "false")
}

/// Says that a test did not run, and why.
///
/// # Panics
/// In CI, where everything must run.
#[track_caller]
pub fn did_not_run(why: &str) {
    assert!(!in_ci(), "must run in CI: {why}");
    // Not `eprintln!`, which the test harness keeps to itself when the test passes.
    let _ = writeln!(std::io::stderr(), "did not run: {why}");
}

/// `../shared` beside the checkout, or where `TWINHUB_SHARED` says.
pub fn shared_folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("TWINHUB_SHARED").map_or_else(beside, PathBuf::from)
}

/// A file or folder of the shared folder.
#[track_caller]
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = shared_folder().join(path);
    if found.exists() {
        return Some(found);
    }
    did_not_run(&format!("{} is missing; set TWINHUB_SHARED to the shared folder", found.display()));
    None
}

/// A JSON file of the shared folder.
///
/// # Panics
/// When it is there and is not JSON.
#[track_caller]
pub fn shared_json(path: &str) -> Option<Value> {
    let text = std::fs::read(shared(path)?).unwrap_or_else(|error| panic!("{path}: {error}"));
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_usual_value_of_ci_counts() {
        assert!(["true", "1", "TRUE", "yes", "github"].into_iter().all(is_set));
        assert!(["", " ", "0", "false", "False"].into_iter().all(|value| !is_set(value)));
    }
}
