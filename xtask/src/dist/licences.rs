//! The licences of everything in the binary, collected from the crates' own sources at the time of packing. None of these texts is in
//! this repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shell::{output, root};

struct Crate {
    title: String,
    licence: String,
    folder: PathBuf,
}

/// One file: who is in it and under what, then each text once.
pub fn collect() -> Result<String, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::new();
    for one in linked(&metadata()?)? {
        let _ = writeln!(list, "  {}: {}", one.title, one.licence);
        let found = texts_of(&one)?;
        for text in found {
            texts.entry(text).or_default().push(one.title.clone());
        }
    }
    let (title, found) = of_the_standard_library()?;
    let _ = writeln!(list, "  {title}: MIT OR Apache-2.0, and what is said below of its parts");
    texts.entry(found).or_default().push(title);
    let mut file = format!("twinhub is under Apache-2.0 and holds these libraries:\n\n{list}");
    for (text, whose) in &texts {
        let rule = "=".repeat(80);
        let _ = write!(file, "\n{rule}\n{}\n{rule}\n\n{}\n", whose.join(", "), text.trim_end());
    }
    Ok(file)
}

fn metadata() -> Result<Value, String> {
    let mut command = crate::shell::cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))
        .ok_or("rustc does not tell its host")?;
    let json = output(command.arg(host)).ok_or("cargo metadata failed: is Cargo.lock up to date?")?;
    serde_json::from_str(&json).map_err(|error| error.to_string())
}

/// The crates of others that are linked into the server: not what only builds or tests it.
fn linked(metadata: &Value) -> Result<Vec<Crate>, String> {
    let by_id = |list: &'static str| {
        let all = metadata.pointer(list).and_then(Value::as_array).into_iter().flatten();
        all.map(|one| (one["id"].as_str().unwrap_or_default(), one)).collect::<BTreeMap<_, _>>()
    };
    let (packages, nodes) = (by_id("/packages"), by_id("/resolve/nodes"));
    let server = packages
        .iter()
        .find(|(_, package)| package["name"] == "server")
        .ok_or("no crate is called server")?;
    let (mut seen, mut next) = (BTreeSet::new(), vec![*server.0]);
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let needs = nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let is_linked = |dependency: &&Value| {
            dependency["dep_kinds"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        };
        next.extend(needs.filter(is_linked).filter_map(|dependency| dependency["pkg"].as_str()));
    }
    let of_others =
        seen.iter().filter_map(|id| packages.get(id)).filter(|package| !package["source"].is_null());
    of_others.map(|package| described(package)).collect()
}

fn described(package: &Value) -> Result<Crate, String> {
    let text = |name: &str| package[name].as_str().unwrap_or_default();
    let manifest = Path::new(text("manifest_path"));
    Ok(Crate {
        title: format!("{} {}", text("name"), text("version")),
        licence: text("license").to_owned(),
        folder: manifest.parent().ok_or("a manifest lies in a folder")?.to_path_buf(),
    })
}

/// The texts that come with a crate. One that brings none and may be had under Apache-2.0 is given that, which is our own licence.
fn texts_of(one: &Crate) -> Result<Vec<String>, String> {
    // What a crate has taken in from elsewhere lies a folder below.
    let folders = [one.folder.clone(), one.folder.join("aws-lc"), one.folder.join("sqlite3")];
    let mut paths: Vec<_> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .map(|file| file.path())
        .collect();
    paths.retain(|path| path.is_file() && is_about_licences(path));
    paths.sort();
    let texts: Vec<_> = paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    if !texts.is_empty() {
        return Ok(texts);
    }
    if !one.licence.contains("Apache-2.0") {
        return Err(format!("{} is under {} and brings no text of it", one.title, one.licence));
    }
    fs::read_to_string(root().join("LICENSE")).map(|text| vec![text]).map_err(|error| error.to_string())
}

fn is_about_licences(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
    let is_code = path.extension().is_some_and(|extension| extension == "rs" || extension == "toml");
    !is_code
        && ["LICEN", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT"].iter().any(|word| name.starts_with(word))
}

/// Rust's own, which comes with the compiler.
fn of_the_standard_library() -> Result<(String, String), String> {
    let sysroot =
        output(Command::new("rustc").args(["--print", "sysroot"])).ok_or("rustc does not tell its folder")?;
    let version = output(Command::new("rustc").arg("--version")).unwrap_or_default();
    let path = Path::new(&sysroot).join("share/doc/rust/COPYRIGHT-library.html");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((format!("the standard library of {version}"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_a_text_and_what_only_tests_is_not() {
        let file = collect().unwrap();
        assert!(file.contains("\n  tokio 1.") && file.contains("\n  aws-lc-sys 0."), "{}", &file[..2000]);
        assert!(!file.contains("\n  proptest ") && !file.contains("\n  cc "));
        assert!(file.contains("Permission is hereby granted") && file.contains("Apache License"));
    }

    #[test]
    fn a_crate_that_brings_no_text_and_is_not_under_ours_stops_the_packing() {
        let folder = std::env::temp_dir().join("twinhub-no-such-crate");
        let one = |licence: &str| Crate {
            title: "one 1.0".into(),
            licence: licence.into(),
            folder: folder.clone(),
        };
        assert!(texts_of(&one("MIT")).is_err());
        assert!(texts_of(&one("MIT/Apache-2.0")).unwrap()[0].contains("Apache License"));
    }
}
