//! The four layers of settings and how the topmost value of each is found and read. Pure but for reading the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base::hosts::Dialable;
use base::{Secret, caps};
use resource_manager::endpoint::Mask;

use super::settings::{self, PREFIX, SETTINGS, Setting};
use super::{Config, Ports, Purpose};
use crate::data_directory;
use crate::logging::Format;

/// What the command line gave: (setting, flag, value).
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) values: Vec<(&'static str, &'static str, String)>,
    pub(crate) config_file: Option<PathBuf>,
    /// Defaults that are other ones for this command: (setting, value).
    pub(crate) defaults: Vec<(&'static str, &'static str)>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{setting} = {value:?} ({source_of_value}): {reason}")]
    Value { setting: &'static str, value: String, source_of_value: Source, reason: String },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{}: there is no setting {name:?}{}", path.display(), meant(nearest.as_deref()))]
    UnknownInFile { path: PathBuf, name: String, nearest: Option<String> },
    #[error("{variable}: there is no setting {name:?}{}", meant(nearest.as_deref()))]
    UnknownInEnvironment { variable: String, name: String, nearest: Option<String> },
    #[error("no place for data is known on this system: give --data-dir")]
    NoDataDirectory,
}

/// A value as it may be printed: a connection string, a misspelt one too, has a password in it.
fn shown(value: &str) -> &str {
    let has_user = value.contains("://") && value.contains('@');
    if has_user || value.starts_with("postgres") { "postgres://… (not shown)" } else { value }
}

/// Variables with our prefix that are no settings: `twinhub env` prints the first two, our tests read the third.
const NOT_SETTINGS: &[&str] = &["TWINHUB_CA_FILE", "TWINHUB_MQTT_PORT", "TWINHUB_SHARED", "TWINHUB_CONFIG"];
const FILE_NAME: &str = "twinhub.toml";

pub(crate) struct Layers(BTreeMap<&'static str, (String, Source)>);

impl Layers {
    /// Lays the four layers over each other. An unknown name is refused: it is a misspelling.
    pub(crate) fn gather(
        flags: &Flags,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: BTreeMap<String, String> =
            environment.filter(|(n, _)| n.starts_with(PREFIX)).collect();
        let mut layers =
            Self(SETTINGS.iter().map(|s| (s.name, (s.default.to_owned(), Source::Default))).collect());
        if let Some(directory) = data_directory::platform_default() {
            layers.set("data_dir", directory.to_string_lossy().into_owned(), Source::Default);
        }
        for (name, value) in &flags.defaults {
            layers.set(name, (*value).to_owned(), Source::Default);
        }
        let mut upper = Self(BTreeMap::new());
        for (variable, value) in environment.iter().filter(|(n, _)| !NOT_SETTINGS.contains(&n.as_str())) {
            let name = variable[PREFIX.len()..].replace("__", ".").to_ascii_lowercase();
            let known = setting(&name).ok_or_else(|| ConfigError::UnknownInEnvironment {
                variable: variable.clone(),
                nearest: settings::nearest(&name).map(Setting::variable),
                name,
            })?;
            upper.set(known, value.clone(), Source::Environment(variable.clone()));
        }
        for (name, flag, value) in &flags.values {
            upper.set(name, value.clone(), Source::Flag(flag));
        }
        let named =
            flags.config_file.clone().or_else(|| environment.get("TWINHUB_CONFIG").map(PathBuf::from));
        let data_dir =
            upper.0.get("data_dir").or_else(|| layers.0.get("data_dir")).map(|(value, _)| value.clone());
        if let Some(path) = named.or_else(|| find_file(data_dir.as_deref())) {
            layers.add_file(&path)?;
        }
        layers.0.append(&mut upper.0);
        Ok(layers)
    }

    fn set(&mut self, name: &'static str, value: String, source: Source) {
        self.0.insert(name, (value, source));
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| failed(error.to_string()))?;
        for (name, value) in flatten(&table, "") {
            let known = setting(&name).ok_or_else(|| ConfigError::UnknownInFile {
                path: path.to_owned(),
                nearest: settings::nearest(&name).map(|setting| setting.name.to_owned()),
                name,
            })?;
            let text = scalar(&value).ok_or_else(|| failed(format!("{known} must be a single value")))?;
            self.set(known, text, Source::File(path.to_owned()));
        }
        Ok(())
    }

    /// Every setting with its value and source, in the order of the table.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static Setting, &str, &Source)> {
        SETTINGS.iter().map(|setting| {
            let (value, source) = &self.0[setting.name];
            (setting, shown(value), source)
        })
    }

    fn text(&self, name: &'static str) -> &str {
        &self.0[name].0
    }

    fn wrong(&self, setting: &'static str, reason: impl fmt::Display) -> ConfigError {
        let (value, source) = self.0[setting].clone();
        let (value, reason) = (shown(&value).to_owned(), reason.to_string());
        ConfigError::Value { setting, value, source_of_value: source, reason }
    }

    fn read<T: FromStr<Err: fmt::Display>>(&self, name: &'static str) -> Result<T, ConfigError> {
        self.text(name).trim().parse().map_err(|error| self.wrong(name, error))
    }

    fn path(&self, name: &'static str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// The settings as types, or the first that does not read.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let data_dir = self.path("data_dir").ok_or(ConfigError::NoDataDirectory)?;
        // Clients read its files from wherever they run.
        let data_dir = std::path::absolute(&data_dir).map_err(|error| self.wrong("data_dir", error))?;
        let hosts_file = self.path("hosts_file").filter(|_| self.text("manage_hosts") == "true");
        self.read::<bool>("manage_hosts")?;
        let ports = Ports {
            https: self.read("ports.https")?,
            https_standard: self.read("ports.https_standard")?,
            mqtt: self.read("ports.mqtt")?,
            mqtt_plain: self.read("ports.mqtt_plain")?,
        };
        if ports.https == 0 || ports.mqtt == 0 {
            let which = if ports.https == 0 { "ports.https" } else { "ports.mqtt" };
            return Err(self.wrong(which, "it cannot be switched off"));
        }
        Ok(Config {
            listen: self.read("listen")?,
            advertise: self.advertise()?,
            domain: self.domain()?,
            store: self.store(&data_dir)?,
            cluster_key_file: self.path("cluster_key_file"),
            durability: self.durability()?,
            declared_paths: self.declared_paths()?,
            hosts_file,
            ports,
            tls: self.tls()?,
            queue_depth: self.queue_depth()?,
            resource_manager: self.resource_manager()?,
            log: self.text("log").to_owned(),
            log_format: self.log_format()?,
            workers: self.read("workers")?,
            allow_clock_control: self.read("test.allow_clock_control")?,
            purpose: Purpose::default(),
            seed: None,
            well_known_keys: false,
            data_dir,
        })
    }

    fn advertise(&self) -> Result<Option<Dialable>, ConfigError> {
        if self.text("advertise").trim().is_empty() { Ok(None) } else { self.read("advertise").map(Some) }
    }

    fn domain(&self) -> Result<String, ConfigError> {
        let domain = self.text("domain").trim().trim_matches('.').to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if domain.split('.').all(label) {
            Ok(domain)
        } else {
            Err(self.wrong("domain", "it is not a domain name"))
        }
    }

    fn store(&self, data_dir: &Path) -> Result<store::Location, ConfigError> {
        if let Some(path) = self.path("store_file") {
            let url = std::fs::read_to_string(&path).map_err(|error| self.wrong("store_file", error))?;
            return self.store_at(url.trim(), "store_file", data_dir);
        }
        self.store_at(self.text("store"), "store", data_dir)
    }

    fn store_at(
        &self,
        url: &str,
        setting: &'static str,
        data_dir: &Path,
    ) -> Result<store::Location, ConfigError> {
        match url.split_once(':') {
            Some(("sqlite", ":memory:")) => Ok(store::Location::Memory),
            Some(("sqlite", "" | "//")) => Ok(store::Location::File(data_dir.to_owned())),
            Some(("sqlite", path)) => {
                Ok(store::Location::File(path.strip_prefix("//").unwrap_or(path).into()))
            }
            Some(("postgres" | "postgresql", _)) => Ok(store::Location::Postgres(Secret::new(url))),
            _ => Err(self.wrong(
                setting,
                "use sqlite://, sqlite:///a/directory, sqlite::memory: or postgres://user:password@host/database",
            )),
        }
    }

    fn durability(&self) -> Result<store::Durability, ConfigError> {
        match self.text("durability") {
            "full" => Ok(store::Durability::Full),
            "relaxed" => Ok(store::Durability::Relaxed),
            _ => Err(self.wrong("durability", "use full or relaxed")),
        }
    }

    fn log_format(&self) -> Result<Format, ConfigError> {
        match self.text("log_format") {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(self.wrong("log_format", "use text or json")),
        }
    }

    /// With commas in between; named twice is named once.
    fn declared_paths(&self) -> Result<Vec<store::DeclaredPath>, ConfigError> {
        let mut paths = Vec::new();
        for text in self.text("indexed_paths").split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let path = text.parse().map_err(|error| self.wrong("indexed_paths", error))?;
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        if paths.len() > caps::DECLARED_PATHS_MAX {
            let most = format!("at most {} paths can have an index", caps::DECLARED_PATHS_MAX);
            return Err(self.wrong("indexed_paths", most));
        }
        Ok(paths)
    }

    fn queue_depth(&self) -> Result<u32, ConfigError> {
        const DEPTH: &str = "cloud_to_device_queue";
        let depth: u32 = self.read(DEPTH)?;
        let most = caps::CLOUD_TO_DEVICE_QUEUE_MAX;
        let is_allowed = (1..=most).contains(&usize::try_from(depth).unwrap_or(usize::MAX));
        if is_allowed { Ok(depth) } else { Err(self.wrong(DEPTH, format!("it lies between 1 and {most}"))) }
    }

    fn resource_manager(&self) -> Result<resource_manager::Settings, ConfigError> {
        const RETRY_AFTER: &str = "resource_manager.retry_after_seconds";
        let retry_after_seconds = self.read(RETRY_AFTER)?;
        if retry_after_seconds > caps::RETRY_AFTER_SECONDS_MAX {
            let most = format!("at most {} seconds", caps::RETRY_AFTER_SECONDS_MAX);
            return Err(self.wrong(RETRY_AFTER, most));
        }
        let mask = match self.text("resource_manager.mask") {
            "stars" => Mask::Stars,
            "placeholder" => Mask::Placeholder,
            _ => return Err(self.wrong("resource_manager.mask", "use stars or placeholder")),
        };
        Ok(resource_manager::Settings { retry_after_seconds, mask, ..resource_manager::Settings::default() })
    }

    fn tls(&self) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        match (self.path("tls.certificate"), self.path("tls.key")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.wrong("tls.key", "tls.certificate needs its key")),
            (None, Some(_)) => Err(self.wrong("tls.certificate", "tls.key needs its certificate")),
        }
    }
}

fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.iter().map(|setting| setting.name).find(|known| *known == name)
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; twinhub config check lists them all".to_owned(),
    }
}

/// `twinhub.toml` where we stand, else in the data directory.
fn find_file(data_dir: Option<&str>) -> Option<PathBuf> {
    let in_data_dir = data_dir.map(|directory| Path::new(directory).join(FILE_NAME));
    [Some(PathBuf::from(FILE_NAME)), in_data_dir].into_iter().flatten().find(|path| path.is_file())
}

fn flatten(table: &toml::Table, prefix: &str) -> Vec<(String, toml::Value)> {
    let mut all = Vec::new();
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            // The format's own parser bounds the depth.
            toml::Value::Table(inner) => all.extend(flatten(inner, &format!("{name}."))),
            _ => all.push((name, value.clone())),
        }
    }
    all
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}
