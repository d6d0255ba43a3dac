//! Logs go to stderr, as text, so that stdout stays for what a command prints.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The crates of the house, which print no secret at any level.
const OWN: &[&str] = &[
    "access",
    "base",
    "digital_twins",
    "dtdl",
    "event_hubs",
    "events",
    "hub",
    "mqtt",
    "provisioning",
    "query",
    "resource_manager",
    "rest",
    "server",
    "store",
    "twinhub",
];

/// `filter` is `tracing`'s syntax: `info`, `warn,hub=debug`.
pub(crate) fn start(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    // A second call, which only tests make, keeps the first one's settings.
    let _ =
        tracing_subscriber::registry().with(lines.with_filter(filter_fn(may_pass))).with(filter).try_init();
    Ok(())
}

/// Libraries print what passes through them below `info`, headers and passwords included, whatever the filter asks for.
fn may_pass(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    OWN.contains(&name) || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_of_the_house_may_speak_at_every_level() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for entry in std::fs::read_dir(crates).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("Cargo.toml").is_file() {
                let name = entry.file_name().into_string().unwrap();
                assert!(OWN.contains(&name.as_str()), "{name}");
            }
        }
    }
}
