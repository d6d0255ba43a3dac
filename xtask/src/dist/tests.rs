//! Packages are unpacked again and held against what they promise. The binary inside is one of the system's, so that nothing is built.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use md5::Md5;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;

/// Dynamically linked, and looks up users in the files that an image must have.
const BINARY: &str = "/usr/bin/getent";

static PARTS: LazyLock<Parts> = LazyLock::new(parts);

fn parts() -> Parts {
    let mut parts = gather(Path::new(BINARY), None).unwrap();
    parts.help.push(("usr/share/man/man1/twinhub.1".to_owned(), b".TH twinhub 1\n".to_vec()));
    parts
}

struct File {
    mode: u32,
    owner: (u64, u64),
    content: Vec<u8>,
}

fn untar(archive: &[u8]) -> BTreeMap<String, File> {
    let mut archive = tar::Archive::new(archive);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, File { mode: header.mode().unwrap(), owner, content });
    }
    files
}

fn gunzip(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(content).read_to_end(&mut plain).unwrap();
    plain
}

/// The members of an `ar` archive, read as its description says.
fn members(package: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = package.strip_prefix(b"!<arch>\n").unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = std::str::from_utf8(&rest[..60]).unwrap();
        assert!(header.ends_with("`\n"), "{header:?}");
        let length: usize = header[48..58].trim().parse().unwrap();
        found.push((header[..16].trim().to_owned(), rest[60..60 + length].to_vec()));
        rest = &rest[60 + length + length % 2..];
    }
    found
}

#[test]
fn a_package_holds_its_version_what_dpkg_reads_and_what_is_installed() {
    let parts = &*PARTS;
    let members = members(&deb::package(parts).unwrap());
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(members[0].1, b"2.0\n");
    let (control, data) = (untar(&gunzip(&members[1].1)), untar(&gunzip(&members[2].1)));
    let fields = String::from_utf8(control["./control"].content.clone()).unwrap();
    assert!(fields.contains(&format!("\nVersion: {}\n", parts.version)), "{fields}");
    assert!(fields.contains(&format!("libc6 (>= {})", parts.glibc)), "{fields}");
    assert_eq!(data["./usr/bin/twinhub"].content, parts.binary);
    assert_eq!(control["./conffiles"].content, b"/etc/twinhub/twinhub.toml\n");
    for path in ["./usr/lib/systemd/system/twinhub.service", "./etc/twinhub/twinhub.toml"] {
        assert_eq!(data[path].mode, 0o644, "{path}");
    }
    assert_eq!(gunzip(&data["./usr/share/man/man1/twinhub.1.gz"].content), b".TH twinhub 1\n");
}

#[test]
fn everything_in_a_package_is_roots_has_its_sum_and_says_nothing_of_this_machine() {
    let members = members(&deb::package(&PARTS).unwrap());
    let (control, data) = (untar(&gunzip(&members[1].1)), untar(&gunzip(&members[2].1)));
    let sums = String::from_utf8(control["./md5sums"].content.clone()).unwrap();
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").unwrap();
        assert_eq!(sum, hexadecimal(&Md5::digest(&data[&format!("./{path}")].content)), "{path}");
    }
    for (path, file) in control.iter().chain(&data) {
        assert!(path.starts_with("./") && !path.contains(".."), "{path}");
        assert_eq!(file.owner, (0, 0), "{path}");
        assert_eq!(file.mode & 0o022, 0, "{path} can be written by others");
        let is_packed = Path::new(path).extension().is_some_and(|extension| extension == "gz");
        let content = if is_packed { gunzip(&file.content) } else { file.content.clone() };
        assert_eq!(binary::says_nothing_of_this_machine(&content), Ok(()), "{path}");
    }
    for script in ["postinst", "prerm", "postrm"] {
        assert_eq!(control[&format!("./{script}")].mode, 0o755, "{script}");
        let source = root().join("packaging/debian").join(script);
        assert!(Command::new("sh").arg("-n").arg(source).status().unwrap().success(), "{script}");
    }
}

#[test]
fn debians_own_tool_reads_a_package() {
    if !crate::shell::exists("dpkg-deb") {
        assert!(!test_data::in_ci(), "dpkg-deb is missing");
        eprintln!("dpkg-deb is missing: not asked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twinhub.deb");
    fs::write(&path, deb::package(&PARTS).unwrap()).unwrap();
    let field = |name| output(Command::new("dpkg-deb").arg("--field").arg(&path).arg(name));
    assert_eq!(field("Package").as_deref(), Some("twinhub"));
    let unpacked = folder.path().join("unpacked");
    assert!(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&unpacked).status().unwrap().success());
    assert_eq!(fs::read(unpacked.join("usr/bin/twinhub")).unwrap(), fs::read(BINARY).unwrap());
}

/// The image's files, and from them the blob that a descriptor names, whose digest and size are checked.
struct Image(BTreeMap<String, File>);

impl Image {
    fn of(parts: &Parts) -> Self {
        Self(untar(&oci::image(parts).unwrap()))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.0[name].content).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let content = &self.0[&format!("blobs/sha256/{digest}")].content;
        assert_eq!(hexadecimal(&Sha256::digest(content)), digest);
        assert_eq!(descriptor["size"], content.len());
        content
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(self.blob(&self.json("index.json")["manifests"][0])).unwrap()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(self.blob(&self.manifest()["config"])).unwrap()
    }

    /// The layers, as the tar files that they are.
    fn layers(&self) -> Vec<Vec<u8>> {
        let manifest = self.manifest();
        manifest["layers"].as_array().unwrap().iter().map(|layer| gunzip(self.blob(layer))).collect()
    }
}

#[test]
fn an_image_is_what_its_digests_say() {
    let image = Image::of(&PARTS);
    assert_eq!(image.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let layers: Vec<_> = image
        .layers()
        .iter()
        .map(|layer| format!("sha256:{}", hexadecimal(&Sha256::digest(layer))))
        .collect();
    assert_eq!(image.config()["rootfs"]["diff_ids"], serde_json::json!(layers));
    // What Docker's older `load` reads leads to the same blobs.
    let older = &image.json("manifest.json")[0];
    let manifest = image.manifest();
    for (path, descriptor) in
        older["Layers"].as_array().unwrap().iter().zip(manifest["layers"].as_array().unwrap())
    {
        let digest = descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        assert_eq!(path, &digest);
    }
    assert!(image.0.contains_key(older["Config"].as_str().unwrap()));
}

#[test]
fn an_image_runs_as_nobody_in_particular_with_a_volume_of_its_own() {
    let image = Image::of(&PARTS);
    let config = &image.config()["config"];
    assert_eq!(config["User"], "10001:10001");
    assert_eq!(config["Volumes"], serde_json::json!({"/var/lib/twinhub": {}}));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/twinhub"]));
    let files: BTreeMap<_, _> = image.layers().iter().flat_map(|layer| untar(layer)).collect();
    let data = &files["var/lib/twinhub/"];
    assert_eq!((data.owner, data.mode), ((10001, 10001), 0o711));
    assert_eq!(files["tmp/"].mode, 0o1777);
    for (path, file) in &files {
        assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
        assert!(file.owner.0 == 0 || path == "var/lib/twinhub/", "{path}");
    }
}

#[test]
fn the_binary_finds_in_the_image_alone_all_that_it_needs() {
    if output(Command::new("id").arg("--user")).as_deref() != Some("0") {
        assert!(!test_data::in_ci(), "CI runs as root, which chroot wants");
        eprintln!("not root: nothing was run inside of the image");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for layer in Image::of(&PARTS).layers() {
        let mut archive = tar::Archive::new(layer.as_slice());
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(folder.path()).unwrap();
    }
    // chroot itself needs a root that others may enter.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), mode).unwrap();
    let mut inside = Command::new("chroot");
    inside.arg("--userspec=10001:10001").arg(folder.path()).args(["/usr/bin/twinhub", "passwd", "twinhub"]);
    let said = output(&mut inside).expect("it starts inside of the image");
    assert!(said.starts_with("twinhub:x:10001:10001:"), "{said}");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, two) = (parts(), parts());
    assert!(deb::package(&one) == deb::package(&two) && oci::image(&one) == oci::image(&two));
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    if !crate::shell::exists("systemd-analyze") {
        assert!(!test_data::in_ci(), "systemd-analyze is missing");
        eprintln!("systemd-analyze is missing: not asked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(root().join("packaging/twinhub.service")).unwrap();
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nUser=twinhub\n"), "{unit}");
    // The program need not be installed here.
    let path = folder.path().join("twinhub.service");
    fs::write(&path, unit.replace("/usr/bin/twinhub ", &format!("{BINARY} "))).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let done = verify.args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
}
