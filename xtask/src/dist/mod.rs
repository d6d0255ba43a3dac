//! `cargo xtask dist`: what people install. One stripped binary with its symbols aside, a Debian package, a container image, the
//! licences of everything inside, and checksums. The package and the image hold the same binary.

mod binary;
mod deb;
mod licences;
mod oci;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::shell::{Outcome, output, root, take_option, target};

/// What packages are made of.
struct Parts {
    version: String,
    /// Debian's word, which is OCI's too.
    architecture: &'static str,
    /// The time that every file carries: the last commit's.
    seconds: u64,
    /// The least version of the C library that does.
    glibc: String,
    binary: Vec<u8>,
    libraries: Vec<binary::Library>,
    /// Ours.
    licence: Vec<u8>,
    /// Everybody else's.
    licences: String,
    /// Manual pages and completions, by where they are installed.
    help: Vec<(String, Vec<u8>)>,
}

impl Parts {
    /// The time again, as an image writes it.
    fn created(&self) -> String {
        self.time().format(&Rfc3339).expect("a year of four digits")
    }

    /// And as a package does.
    fn date(&self) -> String {
        self.time().format(&Rfc2822).expect("a year of four digits")
    }

    fn time(&self) -> OffsetDateTime {
        let seconds = i64::try_from(self.seconds).unwrap_or_default();
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// `dist [--binary PATH] [--output DIR] [--version VERSION]`: packs another binary than a build of its own.
pub fn run(arguments: &[String]) -> Outcome {
    let mut arguments = arguments.to_vec();
    let given = take_option(&mut arguments, "--binary")?.map(PathBuf::from);
    let folder =
        take_option(&mut arguments, "--output")?.map_or_else(|| target().join("dist"), PathBuf::from);
    let version = take_option(&mut arguments, "--version")?;
    if let Some(unknown) = arguments.first() {
        return Err(format!("unknown argument {unknown}"));
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let built = given.is_none();
    let from = given.map_or_else(binary::build, Ok)?;
    let packed = folder.join("twinhub");
    binary::strip(&from, &packed)?;
    let parts = gather(&packed, version)?;
    match binary::says_nothing_of_this_machine(&parts.binary) {
        Err(why) if built => return Err(why),
        Err(why) => eprintln!("hint: {why}"),
        Ok(()) => {}
    }
    let made = write_all(&parts, &folder)?;
    tell(&parts, &packed, &folder, &made)
}

/// Writes package, image, licences and checksums, and gives the names of the files.
fn write_all(parts: &Parts, folder: &Path) -> Result<Vec<String>, String> {
    let files = [
        ("twinhub".to_owned(), parts.binary.clone()),
        (deb::file_name(parts), deb::package(parts)?),
        (oci::file_name(parts), oci::image(parts)?),
        ("third-party.txt".to_owned(), parts.licences.clone().into_bytes()),
    ];
    let mut sums = String::new();
    for (name, content) in &files {
        let path = folder.join(name);
        // The binary is there already, with its mode.
        if name != "twinhub" {
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let _ = writeln!(sums, "{}  {name}", hexadecimal(&Sha256::digest(content)));
    }
    fs::write(folder.join("SHA256SUMS"), sums).map_err(|error| error.to_string())?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn tell(parts: &Parts, packed: &Path, folder: &Path, made: &[String]) -> Outcome {
    let versions = binary::glibc_versions(packed)?;
    let versions: Vec<_> = versions.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    println!("needs symbols of glibc {}", versions.join(", "));
    println!(
        "needs at run time: {}",
        parts.libraries.iter().map(|one| one.path.as_str()).collect::<Vec<_>>().join(", ")
    );
    for name in made.iter().map(String::as_str).chain(["twinhub.debug", "SHA256SUMS"]) {
        let bytes = fs::metadata(folder.join(name)).map_err(|error| format!("{name}: {error}"))?.len();
        println!("{:>12} bytes  {}", bytes, folder.join(name).display());
    }
    Ok(())
}

fn gather(packed: &Path, version: Option<String>) -> Result<Parts, String> {
    let architecture = binary::architecture(packed)?;
    let (major, minor) = *binary::glibc_versions(packed)?.last().expect("there is one, or it failed");
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    Ok(Parts {
        version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        architecture,
        seconds: last_commit(),
        glibc: format!("{major}.{minor}"),
        binary: read(packed)?,
        libraries: binary::libraries(packed, architecture)?,
        licence: read(&root().join("LICENSE"))?,
        licences: licences::collect()?,
        help: help(packed),
    })
}

/// A packer's own time if one is set, as distributions do; else the last commit's.
fn last_commit() -> u64 {
    let set = std::env::var("SOURCE_DATE_EPOCH").ok();
    let committed = || output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]));
    set.or_else(committed).and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// What the binary says of itself; one for another processor cannot be asked.
fn help(packed: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/twinhub"),
        ("zsh", "usr/share/zsh/vendor-completions/_twinhub"),
        ("fish", "usr/share/fish/vendor_completions.d/twinhub.fish"),
    ] {
        let said = output(Command::new(packed).args(["completions", shell])).filter(|said| !said.is_empty());
        found.extend(said.map(|said| (path.to_owned(), format!("{said}\n").into_bytes())));
    }
    let pages = target().join("dist/man");
    let _ = fs::remove_dir_all(&pages);
    let written = output(Command::new(packed).arg("man").arg(&pages)).is_some();
    let files = fs::read_dir(&pages).ok().filter(|_| written).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read(file.path()).unwrap_or_default();
        found.push((format!("usr/share/man/man1/{name}"), text));
    }
    if found.is_empty() {
        eprintln!("hint: {} prints neither completions nor manual pages", packed.display());
    }
    found
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
