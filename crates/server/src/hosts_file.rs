//! A marked block of the system's hosts file, kept while serving with `--manage-hosts`.
//! It must never touch a line outside the block.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub(crate) struct HostsFile {
    path: PathBuf,
    /// In both marker lines, so that two servers keep two blocks.
    label: String,
    names: Mutex<BTreeMap<String, IpAddr>>,
}

impl HostsFile {
    pub(crate) fn new(path: &Path, data_dir: &Path) -> Self {
        let label = format!("twinhub {}", data_dir.display());
        Self { path: path.to_owned(), label, names: Mutex::default() }
    }

    pub(crate) fn add(&self, name: &str, address: IpAddr) -> std::io::Result<()> {
        let mut names = self.names.lock();
        if names.insert(name.to_owned(), address) == Some(address) {
            return Ok(());
        }
        self.write(&names)
    }

    pub(crate) fn remove(&self, name: &str) -> std::io::Result<()> {
        let mut names = self.names.lock();
        if names.remove(name).is_none() { Ok(()) } else { self.write(&names) }
    }

    /// Takes the whole block away.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        let mut names = self.names.lock();
        names.clear();
        self.write(&names)
    }

    /// Written in place and not renamed over: in containers the file is a mount of its own.
    fn write(&self, names: &BTreeMap<String, IpAddr>) -> std::io::Result<()> {
        let old = std::fs::read_to_string(&self.path)?;
        let new = replace_block(&old, &self.label, names);
        if new == old { Ok(()) } else { std::fs::write(&self.path, new) }
    }
}

/// `text` with the block of `label` holding exactly `names`; without names there is no block.
fn replace_block(text: &str, label: &str, names: &BTreeMap<String, IpAddr>) -> String {
    let (begin, end) = (format!("# BEGIN {label}"), format!("# END {label}"));
    let lines: Vec<&str> = text.lines().collect();
    let at = |marker: &str| lines.iter().position(|line| line.trim_end() == marker);
    // A block without its end is somebody's edit: nothing of it is taken away.
    let block = at(&begin).zip(at(&end)).filter(|(first, last)| first < last);
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        if !block.is_some_and(|(first, last)| (first..=last).contains(&number)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    if !names.is_empty() {
        let _ = writeln!(out, "{begin}");
        for (name, address) in names {
            let _ = writeln!(out, "{address}\t{name}");
        }
        let _ = writeln!(out, "{end}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_comes_changes_and_goes_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let original = "127.0.0.1 localhost\n\n# mine\n10.0.0.1 printer\n";
        std::fs::write(&path, original).unwrap();
        let file = HostsFile::new(&path, Path::new("/data"));
        file.add("hub.azure-devices.localhost", [127, 0, 0, 1].into()).unwrap();
        file.add("b.azure-devices.localhost", [127, 0, 3, 4].into()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(original), "{text}");
        assert!(text.contains("\n127.0.3.4\tb.azure-devices.localhost\n"), "{text}");
        assert_eq!(text.matches("BEGIN twinhub /data").count(), 1, "{text}");
        file.remove("b.azure-devices.localhost").unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("127.0.3.4"));
        file.clear().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), original);
    }

    #[test]
    fn a_block_that_another_server_keeps_stays() {
        let names = BTreeMap::from([("a".to_owned(), IpAddr::from([127, 0, 0, 1]))]);
        let other = replace_block("x\n", "twinhub /other", &names);
        let both = replace_block(&other, "twinhub /mine", &names);
        assert_eq!(replace_block(&both, "twinhub /mine", &BTreeMap::new()), other);
    }
}
