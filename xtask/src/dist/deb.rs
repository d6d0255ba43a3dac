//! The Debian package. It is an `ar` archive of three members, which we write ourselves, so that a package can be made where there
//! are no Debian tools; `dpkg-deb` and `lintian` read it by hand.

use std::fmt::Write as _;
use std::fs;

use md5::{Digest, Md5};

use super::tree::{Tree, gzip};
use super::{Parts, hexadecimal};
use crate::shell::root;

/// Files that an upgrade leaves as their owner changed them.
const KEPT_AS_CHANGED: &[&str] = &["etc/twinhub/twinhub.toml"];

const MAINTAINER: &str = "The twinhub developers <developers@twinhub.invalid>";

pub fn file_name(parts: &Parts) -> String {
    format!("twinhub_{}_{}.deb", parts.version, parts.architecture)
}

/// The package's bytes.
pub fn package(parts: &Parts) -> Result<Vec<u8>, String> {
    let data = data(parts)?;
    let control = control(parts, &data)?;
    let (control, data) = (control.tar("./", parts.seconds)?, data.tar("./", parts.seconds)?);
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&control)),
        ("data.tar.gz", gzip(&data)),
    ];
    Ok(archive(&members, parts.seconds))
}

/// An `ar` archive: a line, then each member behind a header of 60 bytes, on even offsets.
fn archive(members: &[(&str, Vec<u8>)], seconds: u64) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header =
            format!("{name:<16}{seconds:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
        assert_eq!(header.len(), 60, "every field of {name} keeps to its width");
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn packaging(name: &str) -> Result<Vec<u8>, String> {
    fs::read(root().join("packaging").join(name)).map_err(|error| format!("packaging/{name}: {error}"))
}

/// What is installed.
fn data(parts: &Parts) -> Result<Tree, String> {
    let mut tree = Tree::default();
    tree.file("usr/bin/twinhub", 0o755, parts.binary.clone());
    tree.file("usr/lib/systemd/system/twinhub.service", 0o644, packaging("twinhub.service")?);
    tree.file("etc/twinhub/twinhub.toml", 0o644, packaging("twinhub.toml")?);
    tree.file("usr/share/doc/twinhub/copyright", 0o644, packaging("copyright")?);
    tree.file("usr/share/doc/twinhub/third-party.txt.gz", 0o644, gzip(parts.licences.as_bytes()));
    let changes = fs::read(root().join("CHANGELOG.md")).map_err(|error| error.to_string())?;
    tree.file("usr/share/doc/twinhub/NEWS.gz", 0o644, gzip(&changes));
    tree.file("usr/share/doc/twinhub/changelog.gz", 0o644, gzip(changelog(parts).as_bytes()));
    for (path, text) in &parts.help {
        let is_page = path.ends_with(".1");
        let (path, text) =
            if is_page { (format!("{path}.gz"), gzip(text)) } else { (path.clone(), text.clone()) };
        tree.file(&path, 0o644, text);
    }
    Ok(tree)
}

/// Debian's form, which says no more than that there is a version.
fn changelog(parts: &Parts) -> String {
    let (version, date) = (&parts.version, parts.date());
    format!(
        "twinhub ({version}) stable; urgency=medium\n\n  * What a user can notice is in NEWS.gz.\n\n -- {MAINTAINER}  {date}\n"
    )
}

/// What dpkg reads of it, and the scripts that it runs.
fn control(parts: &Parts, data: &Tree) -> Result<Tree, String> {
    let mut tree = Tree::default();
    tree.file("control", 0o644, fields(parts, data));
    tree.file(
        "conffiles",
        0o644,
        KEPT_AS_CHANGED.iter().map(|path| format!("/{path}\n")).collect::<String>(),
    );
    let mut sums = String::new();
    for (path, content) in data.files().filter(|(path, _)| !KEPT_AS_CHANGED.contains(path)) {
        let _ = writeln!(sums, "{}  {path}", hexadecimal(&Md5::digest(content)));
    }
    tree.file("md5sums", 0o644, sums);
    for script in ["postinst", "prerm", "postrm"] {
        tree.file(script, 0o755, packaging(&format!("debian/{script}"))?);
    }
    Ok(tree)
}

fn fields(parts: &Parts, data: &Tree) -> String {
    let kilobytes: usize = data.files().map(|(_, content)| content.len().div_ceil(1024)).sum();
    format!(
        "Package: twinhub\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kilobytes}\n\
         Depends: libc6 (>= {}), libgcc-s1 (>= 4.2), adduser\n\
         Recommends: ca-certificates\n\
         Section: net\n\
         Priority: optional\n\
         Description: Azure's IoT platform on your own machine\n \
         IoT Hub, Device Provisioning Service and Azure Digital Twins, with the\n \
         Resource Manager and Entra endpoints in front of them, in one server that\n \
         speaks their wire protocols. Official clients work against it unmodified.\n",
        parts.version, parts.architecture, parts.glibc
    )
}
