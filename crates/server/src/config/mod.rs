//! The configuration: flags over `TWINHUB_*` over `twinhub.toml` over defaults, each value knowing where it came from.
//! `serve` reads it once at start; nothing else in the house reads the environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use base::hosts::Dialable;
use server::out;

use crate::Failure;
use crate::logging::Format;
use crate::seed::Seed;

mod layers;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use layers::{ConfigError, Flags, Layers};
pub(crate) use settings::SETTINGS;

/// Every setting, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: IpAddr,
    /// Where clients reach the default instances; `None`: where each of them did.
    pub(crate) advertise: Option<Dialable>,
    pub(crate) domain: String,
    pub(crate) store: store::Location,
    /// What seals the server's own secrets in a database.
    pub(crate) cluster_key_file: Option<PathBuf>,
    pub(crate) durability: store::Durability,
    /// Paths into digital twins and relationships by which queries shall find fast.
    pub(crate) declared_paths: Vec<store::DeclaredPath>,
    /// The hosts file to keep in sync, if any.
    pub(crate) hosts_file: Option<PathBuf>,
    pub(crate) ports: Ports,
    /// The operator's own certificate and key, in PEM files.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Cloud-to-device messages that may wait for one device.
    pub(crate) queue_depth: u32,
    pub(crate) resource_manager: resource_manager::Settings,
    pub(crate) log: String,
    pub(crate) log_format: Format,
    /// 0: as many as there are cores.
    pub(crate) workers: usize,
    /// For tests: `/_twinhub/clock` may move time.
    pub(crate) allow_clock_control: bool,
    pub(crate) purpose: Purpose,
    /// What the server shall have from the beginning. No setting, nor is the next: each start says so.
    pub(crate) seed: Option<Arc<Seed>>,
    pub(crate) well_known_keys: bool,
}

/// What a server is there for. No setting: each command knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients that know where it is: what it is told to listen on it must have.
    #[default]
    Serve,
    /// One command that is told where it is: it takes ports that are free, and with `any_address` an address too.
    OneCommand { any_address: bool },
}

impl Config {
    /// As the setting spells it.
    pub(crate) fn durability_name(&self) -> &'static str {
        match self.durability {
            store::Durability::Full => "full",
            store::Durability::Relaxed => "relaxed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// HTTPS on a port that needs no rights; it must be free.
    pub(crate) https: u16,
    /// HTTPS where clients expect it; used where the system lets us. 0: not at all.
    pub(crate) https_standard: u16,
    pub(crate) mqtt: u16,
    /// MQTT without TLS, for benchmarks. 0: not at all.
    pub(crate) mqtt_plain: u16,
}

impl Ports {
    /// Whether HTTPS is wanted on a second port, the one that clients expect.
    pub(crate) fn has_standard(self) -> bool {
        self.https_standard != 0 && self.https_standard != self.https
    }
}

pub(crate) fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let environment =
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    Layers::gather(flags, environment)?.config()
}

/// `twinhub config check`: prints every setting and fails when one does not read.
pub(crate) fn check(flags: &Flags) -> Result<ExitCode, Failure> {
    let environment =
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    let layers = Layers::gather(flags, environment)?;
    let rows: Vec<_> = layers.rows().collect();
    let width = rows.iter().map(|(s, value, _)| s.name.len() + value.len()).max().unwrap_or_default() + 3;
    for (setting, value, source) in rows {
        let stands = format!("{} = {value}", setting.name);
        out::line(format_args!("{stands:width$}  # {source}"));
        out::line(format_args!("    {}: {}", setting.variable(), setting.meaning));
    }
    layers.config()?;
    Ok(ExitCode::SUCCESS)
}
