//! The container image: an OCI image layout in one tar file, from scratch. Two layers: what the binary needs of the system that it was
//! linked on (loader, C library), and twinhub. `docker load`, `podman load` and `skopeo` read it; the `manifest.json` beside the
//! layout is for Docker's older `load`.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tree::{Tree, gzip};
use super::{Parts, hexadecimal};

/// The user inside, and its group.
pub const USER: u32 = 10001;
const NAME: &str = "docker.io/library/twinhub";
const PORTS: &[&str] = &["443/tcp", "8443/tcp", "8883/tcp"];
const DATA: &str = "/var/lib/twinhub";

pub fn file_name(parts: &Parts) -> String {
    format!("twinhub-{}-{}-image.tar", parts.version, parts.architecture)
}

/// A blob and what refers to it.
struct Blob {
    kind: &'static str,
    content: Vec<u8>,
}

impl Blob {
    fn digest(&self) -> String {
        hexadecimal(&Sha256::digest(&self.content))
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.kind,
            "digest": format!("sha256:{}", self.digest()),
            "size": self.content.len(),
        })
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest())
    }
}

/// The image's bytes.
pub fn image(parts: &Parts) -> Result<Vec<u8>, String> {
    let plain = [system(parts).tar("", parts.seconds)?, own(parts).tar("", parts.seconds)?];
    let layers = plain
        .each_ref()
        .map(|layer| Blob { kind: "application/vnd.oci.image.layer.v1.tar+gzip", content: gzip(layer) });
    let config = config(parts, &plain.each_ref().map(|layer| hexadecimal(&Sha256::digest(layer))));
    let config =
        Blob { kind: "application/vnd.oci.image.config.v1+json", content: config.to_string().into() };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor(),
        "layers": layers.each_ref().map(Blob::descriptor),
    });
    let manifest =
        Blob { kind: "application/vnd.oci.image.manifest.v1+json", content: manifest.to_string().into() };
    let mut tree = Tree::default();
    tree.file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string());
    tree.file("index.json", 0o644, index(parts, &manifest).to_string());
    let tags = [format!("{NAME}:{}", parts.version), format!("{NAME}:latest")];
    let for_older =
        json!([{"Config": config.path(), "RepoTags": tags, "Layers": layers.each_ref().map(Blob::path)}]);
    tree.file("manifest.json", 0o644, for_older.to_string());
    for blob in layers.into_iter().chain([config, manifest]) {
        tree.file(&blob.path(), 0o644, blob.content);
    }
    tree.tar("", parts.seconds)
}

fn index(parts: &Parts, manifest: &Blob) -> Value {
    let named = |tag: &str| {
        let mut descriptor = manifest.descriptor();
        descriptor["platform"] = json!({"architecture": parts.architecture, "os": "linux"});
        descriptor["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": format!("{NAME}:{tag}"),
        });
        descriptor
    };
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named(&parts.version), named("latest")],
    })
}

/// Loader and libraries, with their licences, and the files in which the C library looks up users and names.
fn system(parts: &Parts) -> Tree {
    let mut tree = Tree::default();
    for library in &parts.libraries {
        tree.file(library.path.trim_start_matches('/'), 0o755, library.content.clone());
        tree.file(&format!("usr/share/doc/{}/copyright", library.package), 0o644, library.copyright.clone());
    }
    tree.file(
        "etc/passwd",
        0o644,
        format!("root:x:0:0:root:/:/nonexistent\ntwinhub:x:{USER}:{USER}:twinhub:{DATA}:/nonexistent\n"),
    );
    tree.file("etc/group", 0o644, format!("root:x:0:\ntwinhub:x:{USER}:\n"));
    tree.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
    tree.directory("tmp", 0o1777, 0);
    tree
}

fn own(parts: &Parts) -> Tree {
    let mut tree = Tree::default();
    tree.file("usr/bin/twinhub", 0o755, parts.binary.clone());
    tree.file("usr/share/doc/twinhub/LICENSE", 0o644, parts.licence.clone());
    tree.file("usr/share/doc/twinhub/third-party.txt", 0o644, parts.licences.clone());
    tree.directory(DATA.trim_start_matches('/'), 0o711, USER);
    tree
}

fn config(parts: &Parts, layers: &[String; 2]) -> Value {
    let ports: serde_json::Map<_, _> = PORTS.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
    json!({
        "created": parts.created(),
        "architecture": parts.architecture,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "ExposedPorts": ports,
            "Env": ["PATH=/usr/bin", format!("TWINHUB_DATA_DIR={DATA}"), "TWINHUB_LISTEN=0.0.0.0"],
            "Entrypoint": ["/usr/bin/twinhub"],
            "Cmd": ["serve"],
            "Volumes": {DATA: {}},
            "WorkingDir": DATA,
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "twinhub",
                "org.opencontainers.image.version": parts.version,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.description": "Azure's IoT platform on your own machine",
            },
            // Not of OCI's specification but of Docker's; who does not know it passes it over.
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/twinhub", "wait", "--timeout", "4"],
                "Interval": 10_000_000_000_u64,
                "Timeout": 5_000_000_000_u64,
                "StartPeriod": 10_000_000_000_u64,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|digest| format!("sha256:{digest}"))},
        "history": [
            {"created": parts.created(), "created_by": "cargo xtask dist: loader and C library"},
            {"created": parts.created(), "created_by": "cargo xtask dist: twinhub"},
        ],
    })
}
