//! The one table of settings: what there is, its default and its meaning. `config check`, the manual page and docs/settings.md
//! say what stands here; the layers read and check it.

/// A setting; a dot in its name stands for a level in the file and for `__` in the environment.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) meaning: &'static str,
}

pub(super) const PREFIX: &str = "TWINHUB_";

impl Setting {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_ascii_uppercase())
    }
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "data_dir",
        "",
        "where everything is kept; the platform's place for application data unless given",
    ),
    setting("listen", "127.0.0.1", "the address of this machine to listen on; 0.0.0.0 for all of them"),
    setting(
        "advertise",
        "",
        "the host name or address at which clients reach this server; the one that each of them dialled unless given",
    ),
    setting("domain", "localhost", "the domain below which instances have their host names"),
    setting(
        "store",
        "sqlite://",
        "where everything is kept: sqlite:// (in the data directory), sqlite:///a/directory, sqlite::memory: (gone at the end), or postgres://user:password@host/database",
    ),
    setting("store_file", "", "a file with the value of store in it, for one that has a password"),
    setting(
        "cluster_key_file",
        "",
        "a file with 32 random bytes, as openssl rand -base64 32 prints them, that seals the server's own secrets in a PostgreSQL database",
    ),
    setting(
        "durability",
        "full",
        "full: acknowledged means synced to the disk; relaxed: a power cut loses what was acknowledged last, for tests",
    ),
    setting(
        "indexed_paths",
        "",
        "properties by which queries shall find fast, with commas between them: DIGITALTWINS.name, RELATIONSHIPS.since, devices.tags.site",
    ),
    setting("manage_hosts", "false", "true keeps a marked block of the hosts file in sync while serving"),
    setting("hosts_file", "/etc/hosts", "the hosts file that manage_hosts keeps in sync"),
    setting("ports.https", "8443", "HTTPS on a port that needs no rights; it must be free"),
    setting(
        "ports.https_standard",
        "443",
        "HTTPS on the port that most SDKs want, used where the system allows it; 0 switches it off",
    ),
    setting("ports.mqtt", "8883", "MQTT with TLS"),
    setting("ports.mqtt_plain", "0", "MQTT without TLS, for benchmarks; 0 switches it off"),
    setting("tls.certificate", "", "a PEM file with a certificate of your own, and its chain; needs tls.key"),
    setting("tls.key", "", "a PEM file with the key of tls.certificate"),
    setting(
        "cloud_to_device_queue",
        "50",
        "messages that may wait for one device, at most 1000; Azure's number is 50",
    ),
    setting(
        "resource_manager.retry_after_seconds",
        "1",
        "what Retry-After of long-running operations says; Azure says 10",
    ),
    setting(
        "resource_manager.mask",
        "stars",
        "how secrets are masked in answers: stars, as Azure's pages show it, or placeholder, as the live service does it",
    ),
    setting(
        "log",
        "info",
        "what is told on stderr: error, warn, info, debug or trace, for parts too: info,hub=debug",
    ),
    setting("log_format", "text", "how lines of the log are written: text for people, json for programs"),
    setting("workers", "0", "threads that serve; 0: as many as there are cores"),
    setting("test.allow_clock_control", "false", "true lets tests move the server's time at /_twinhub/clock"),
];

/// The setting that was probably meant.
pub(super) fn nearest(name: &str) -> Option<&'static Setting> {
    let likeness = |setting: &&Setting| strsim::jaro_winkler(name, setting.name);
    let best = SETTINGS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    // A level that was forgotten or is too much (`mqtt` for `ports.mqtt`) is no nearness of letters.
    let same_end = SETTINGS.iter().find(|setting| setting.name.rsplit('.').next() == name.rsplit('.').next());
    same_end.or_else(|| Some(best).filter(|best| likeness(best) > 0.8))
}
