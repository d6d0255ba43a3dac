//! `cargo xtask tidy`: the layers of the house, the licences we accept, text that does not belong; and, as hints only, sizes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Outcome, root};

/// Each crate's layer (ARCHITECTURE.md). A crate may use lower numbers only, never the same.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("test_data", 0),
    ("dtdl", 1),
    ("query", 1),
    ("store", 2),
    ("access", 3),
    ("events", 3),
    ("hub", 4),
    ("digital_twins", 4),
    ("event_hubs", 4),
    ("provisioning", 5),
    ("resource_manager", 6),
    ("mqtt", 7),
    ("rest", 7),
    ("delivery", 7),
    ("server", 8),
];

/// Tools beside the house: they may use everything, nothing may use them.
const TOOLS: &[&str] = &["xtask", "bench"];

/// Crates that only some of ours may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("http", &["rest", "delivery", "server"]),
    ("hyper", &["rest", "delivery", "server", "bench"]),
    ("rcgen", &["access"]),
];

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

/// The version that is installed where none is.
const CARGO_DENY: &str = "0.20.2";

const LINES_LOOK_AGAIN: usize = 600;
const FUNCTION_LOOK_AGAIN: usize = 70;

pub fn run(_: &[String]) -> Outcome {
    let mut faults = Vec::new();
    layers(&mut faults);
    stray_text(&mut faults);
    size_hints();
    if faults.is_empty() {
        eprintln!("tidy: the house is in order");
        return Ok(());
    }
    Err(format!("{} faults:\n  {}", faults.len(), faults.join("\n  ")))
}

/// Every manifest's dependencies against the layers. Dev-dependencies count too, except that tests may use anything below 7.
fn layers(faults: &mut Vec<String>) {
    let layer_of: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap_or_default();
        let Ok(table) = text.parse::<toml::Table>() else {
            faults.push(format!("{}: not TOML", manifest.display()));
            continue;
        };
        let name = table["package"]["name"].as_str().unwrap_or_default().to_owned();
        if TOOLS.contains(&name.as_str()) {
            continue;
        }
        let Some(own) = layer_of.get(name.as_str()) else {
            faults
                .push(format!("{name}: has no layer; give it one in xtask/src/tidy.rs and ARCHITECTURE.md"));
            continue;
        };
        let dependencies = table.get("dependencies").and_then(|d| d.as_table());
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            if TOOLS.contains(&dependency.as_str()) {
                faults.push(format!("{name} uses the tool {dependency}"));
            }
            if layer_of.get(dependency.as_str()).is_some_and(|other| other >= own) {
                faults.push(format!("{name} (layer {own}) uses {dependency} of the same or a higher layer"));
            }
            let reserved = RESERVED.iter().find(|(reserved, _)| reserved == dependency);
            if reserved.is_some_and(|(_, users)| !users.contains(&name.as_str())) {
                faults.push(format!("{name} names {dependency}, which is not its business"));
            }
        }
    }
}

fn manifests() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("crates")).into_iter().flatten().flatten();
    let mut paths: Vec<_> =
        folder.map(|entry| entry.path().join("Cargo.toml")).filter(|p| p.exists()).collect();
    paths.sort();
    paths
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
    let mut command = shell::cargo();
    let json = shell::output(command.args(["metadata", "--format-version", "1", "--locked"]));
    let json = json.ok_or("cargo metadata failed: is Cargo.lock up to date?")?;
    let metadata: serde_json::Value = serde_json::from_str(&json).map_err(|error| error.to_string())?;
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
    deny()
}

/// cargo-deny over the same manifest: sources, and crates that we refuse. Installed below the target directory where it is missing.
fn deny() -> Outcome {
    let tools = shell::target().join("tools");
    if !shell::exists("cargo-deny") && !tools.join("bin/cargo-deny").exists() {
        let mut install = shell::cargo();
        install
            .args(["install", "--quiet", "--locked", "--version", CARGO_DENY, "cargo-deny", "--root"])
            .arg(&tools);
        if let Err(error) = shell::step("cargo-deny", &mut install) {
            eprintln!("hint: {error}; licences were checked, sources and refused crates were not");
            return Ok(());
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:{}", tools.join("bin").display());
    let check = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    shell::step("cargo deny", shell::cargo().args(check).env("PATH", path))
}

/// Whether an SPDX expression can be satisfied with licences we accept.
fn is_accepted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ").replace(" WITH ", " AND ");
    let has_choice = expression.contains(" AND ") && expression.contains('(');
    let accepted = |name: &str| LICENCES.contains(&name.trim());
    let all = |text: &str| text.split(" AND ").all(|part| part.split(" OR ").any(accepted));
    if has_choice { all(&flat) } else { flat.split(" OR ").any(|choice| choice.split(" AND ").all(accepted)) }
}
