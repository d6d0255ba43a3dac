//! `cargo xtask tidy`: the layers of the house, what ARCHITECTURE.md says is absent, the licences we accept, text that does not
//! belong; and, as hints only, sizes.

mod absent;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Outcome, root};

const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "OpenSSL",
    "BSL-1.0",
    "Unlicense",
    "MIT-0",
    "0BSD",
    "LLVM-exception",
];

/// The versions that are installed where there are none.
const CARGO_DENY: &str = "0.20.2";
const CARGO_MACHETE: &str = "0.9.2";

const LINES_LOOK_AGAIN: usize = 600;
const FUNCTION_LOOK_AGAIN: usize = 70;

pub fn run(_: &[String]) -> Outcome {
    let mut faults = layers::check(&metadata(&["--no-deps"])?);
    faults.extend(absent::check(&sources()));
    faults.extend(crate::docs::check());
    stray_text(&mut faults);
    size_hints();
    if faults.is_empty() {
        eprintln!("tidy: the house is in order");
        return Ok(());
    }
    Err(format!("{} faults:\n  {}", faults.len(), faults.join("\n  ")))
}

/// What cargo says of the workspace.
fn metadata(arguments: &[&str]) -> Result<serde_json::Value, String> {
    let mut command = shell::cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]).args(arguments);
    let json = shell::output(&mut command).ok_or("cargo metadata failed: is Cargo.lock up to date?")?;
    serde_json::from_str(&json).map_err(|error| error.to_string())
}

/// The Rust files of our crates, by their path from the root.
fn sources() -> Vec<(String, String)> {
    let paths = tracked_files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let read =
        |path: PathBuf| Some((path.display().to_string(), fs::read_to_string(root().join(&path)).ok()?));
    paths.filter_map(read).collect()
}

/// Words that mean a file speaks of the machine it was written on, or that a test cannot fail.
fn stray_text(faults: &mut Vec<String>) {
    let needles = [
        concat!("/", "root/"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    for path in tracked_files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if needles.iter().any(|needle| line.contains(needle)) {
                faults.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
}

/// The files of the project below these folders, those too that are about to be added.
pub fn tracked(folders: &[&str]) -> Vec<String> {
    let mut git = Command::new("git");
    git.current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--"])
        .args(folders);
    let listing = shell::output(&mut git).unwrap_or_default();
    listing.lines().filter(|path| root().join(path).exists()).map(str::to_owned).collect()
}

fn tracked_files() -> Vec<PathBuf> {
    let listing = shell::output(Command::new("git").current_dir(root()).arg("ls-files")).unwrap_or_default();
    let is_text = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        matches!(extension, "rs" | "toml" | "md" | "py" | "mjs" | "js" | "sh" | "txt")
    };
    listing.lines().map(PathBuf::from).filter(is_text).collect()
}

/// Prints what is past the right column of the style's table. A hint, never a failure.
fn size_hints() {
    for path in tracked_files().iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        let production = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = production.lines().count();
        if lines > LINES_LOOK_AGAIN && !is_test(path) {
            eprintln!("hint: {} has {lines} lines: perhaps two nouns in one", path.display());
        }
        for (name, length) in long_functions(production) {
            if !is_test(path) {
                eprintln!("hint: {}: fn {name} has {length} lines", path.display());
            }
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// Functions longer than the style likes, found by indentation, which rustfmt guarantees.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match &open {
            Some((name, start, depth)) if indent == *depth && line.trim() == "}" => {
                if number - start > FUNCTION_LOOK_AGAIN {
                    found.push((name.clone(), number - start + 1));
                }
                open = None;
            }
            Some(_) => {}
            None => {
                let name = line.split("fn ").nth(1).filter(|_| !line.trim_start().starts_with("//"));
                if let Some(name) = name.and_then(|rest| rest.split(['(', '<']).next()) {
                    open = Some((name.to_owned(), number, indent));
                }
            }
        }
        if open.is_some() && line.trim_end().ends_with(';') && line.contains("fn ") {
            open = None;
        }
    }
    found
}

/// Licences of everything we build from, and what cargo-deny says of it.
pub fn dependencies() -> Outcome {
    let metadata = metadata(&[])?;
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (name, licence) = (package["name"].as_str().unwrap_or_default(), package["license"].as_str());
        if !licence.is_some_and(is_accepted) {
            faults.push(format!("{name}: licence {licence:?} is not accepted"));
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    let deny = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    with_tool("cargo-deny", CARGO_DENY, &deny, "sources and refused crates were not checked")?;
    // Reads manifests and sources and builds nothing, so that it costs less than a second.
    with_tool("cargo-machete", CARGO_MACHETE, &["machete"], "unused dependencies were not looked for")
}

/// Runs a tool of cargo's over the workspace. Where it is missing it is installed below the target directory; where that fails,
/// as without a network, it is said what was left out, and in CI it is a failure.
fn with_tool(tool: &str, version: &str, arguments: &[&str], otherwise: &str) -> Outcome {
    let tools = shell::target().join("tools");
    if !shell::exists(tool) && !tools.join("bin").join(tool).exists() {
        let mut install = shell::cargo();
        install.args(["install", "--quiet", "--locked", "--version", version, tool, "--root"]).arg(&tools);
        if let Err(error) = shell::step(tool, &mut install) {
            return missing_tool(&format!("{error}; {otherwise}"), test_data::in_ci());
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:{}", tools.join("bin").display());
    // cargo-machete takes the name of a package that is being run for a sign that cargo did not call it.
    shell::step(tool, shell::cargo().args(arguments).env("PATH", path).env_remove("CARGO_PKG_NAME"))
}

fn missing_tool(what: &str, in_ci: bool) -> Outcome {
    if in_ci {
        return Err(what.to_owned());
    }
    eprintln!("hint: {what}");
    Ok(())
}

/// Whether an SPDX expression can be satisfied with licences we accept.
fn is_accepted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ").replace(" WITH ", " AND ");
    let has_choice = expression.contains(" AND ") && expression.contains('(');
    let accepted = |name: &str| LICENCES.contains(&name.trim());
    let all = |text: &str| text.split(" AND ").all(|part| part.split(" OR ").any(accepted));
    if has_choice { all(&flat) } else { flat.split(" OR ").any(|choice| choice.split(" AND ").all(accepted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_cannot_be_had_is_a_hint_here_and_a_failure_in_ci() {
        assert_eq!(missing_tool("no network", false), Ok(()));
        assert_eq!(missing_tool("no network", true), Err("no network".to_owned()));
    }
}
