//! Files as they will lie on another machine, and the tar archives made of them: sorted, owned by numbers, stamped with one time, so
//! that the same input gives the same bytes. Used for packages and image layers.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

const ROOT: u32 = 0;

#[derive(Clone)]
enum Content {
    Directory,
    File(Vec<u8>),
}

#[derive(Clone)]
struct Entry {
    content: Content,
    mode: u32,
    owner: u32,
}

/// Paths have no slash in front.
#[derive(Clone, Default)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// A file of root's; the folders above it come by themselves.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.folders_above(path);
        self.0.insert(path.to_owned(), Entry { content: Content::File(content.into()), mode, owner: ROOT });
    }

    pub fn directory(&mut self, path: &str, mode: u32, owner: u32) {
        self.folders_above(path);
        self.0.insert(path.to_owned(), Entry { content: Content::Directory, mode, owner });
    }

    fn folders_above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let folder = Entry { content: Content::Directory, mode: 0o755, owner: ROOT };
            self.0.entry(path[..at].to_owned()).or_insert(folder);
        }
    }

    /// Every file with its content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter_map(|(path, entry)| match &entry.content {
            Content::File(content) => Some((path.as_str(), content.as_slice())),
            Content::Directory => None,
        })
    }

    /// The archive, with `prefix` before every path; a package wants "./" and a line for it, an image neither.
    pub fn tar(&self, prefix: &str, seconds: u64) -> Result<Vec<u8>, String> {
        let mut archive = tar::Builder::new(Vec::new());
        if !prefix.is_empty() {
            let here = Entry { content: Content::Directory, mode: 0o755, owner: ROOT };
            append(&mut archive, prefix, &here, seconds)?;
        }
        for (path, entry) in &self.0 {
            append(&mut archive, &format!("{prefix}{path}"), entry, seconds)?;
        }
        archive.into_inner().map_err(|error| error.to_string())
    }
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    entry: &Entry,
    seconds: u64,
) -> Result<(), String> {
    let (kind, content, slash): (_, &[u8], _) = match &entry.content {
        Content::Directory => (EntryType::Directory, &[], if path.ends_with('/') { "" } else { "/" }),
        Content::File(content) => (EntryType::Regular, content, ""),
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.owner));
    header.set_gid(u64::from(entry.owner));
    header.set_mtime(seconds);
    header.set_size(content.len() as u64);
    // `set_path` would take away the "./" that dpkg wants.
    let name = format!("{path}{slash}");
    let field = &mut header.as_gnu_mut().expect("it was made as one").name;
    if name.len() > field.len() {
        return Err(format!("{name} is too long for a tar header"));
    }
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    archive.append(&header, content).map_err(|error| error.to_string())
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("memory takes every byte")
}
