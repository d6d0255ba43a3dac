//! An import or export as it lies in the store, with its progress. What opens its containers is forgotten at its end.

use base::{InstanceId, Timestamp, caps, secret};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

use crate::file_upload::ContainerUri;
use crate::twin::TwinEtag;

base::checked_string!(
    /// The id that the hub gives such a job.
    RegistryJobId,
    "1 to 64 letters, digits and dashes",
    is_registry_job_id
);

fn is_registry_job_id(text: &str) -> bool {
    (1..=caps::JOB_ID_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl RegistryJobId {
    /// A GUID, as every client expects it.
    pub(super) fn generate() -> Self {
        let hex = secret::random_hex(16);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-").parse().expect("a GUID is made of hexadecimal digits and dashes")
    }
}

/// What the job does, by the containers that it reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Action {
    Export {
        output: ContainerUri,
        blob: String,
        excludes_keys: bool,
        configurations: Option<String>,
    },
    Import {
        input: ContainerUri,
        blob: String,
        /// Where failures are told.
        output: ContainerUri,
        configurations: Option<String>,
        /// Whether whoever asked for it may write twins of devices that are there.
        writes_twins: bool,
    },
}

impl Action {
    /// The spelling of `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Export { .. } => "export",
            Self::Import { .. } => "import",
        }
    }

    pub fn excludes_keys(&self) -> bool {
        matches!(self, Self::Export { excludes_keys: true, .. })
    }

    pub fn configurations(&self) -> Option<&str> {
        match self {
            Self::Export { configurations, .. } | Self::Import { configurations, .. } => {
                configurations.as_deref()
            }
        }
    }

    /// The same without what opens a container.
    pub(super) fn closed(&self) -> Self {
        let mut closed = self.clone();
        match &mut closed {
            Self::Export { output, .. } => *output = ContainerUri::new(""),
            Self::Import { input, output, .. } => {
                (*input, *output) = (ContainerUri::new(""), ContainerUri::new(""));
            }
        }
        closed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    Enqueued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryJob {
    pub instance: InstanceId,
    pub job_id: RegistryJobId,
    pub action: Action,
    pub created: Timestamp,
    pub end: Option<Timestamp>,
    pub status: Status,
    pub failure: Option<String>,
    /// Tries in a row in which a container did not answer.
    #[serde(default)]
    pub(super) faults: u32,
    pub(super) progress: Progress,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    pub(super) stage: Stage,
    /// Of an export: every identity of the stage up to this one is written.
    pub(super) after: Option<String>,
    /// Blocks that wait for being committed: of the exported file, or of the log of failures.
    pub(super) blocks: u32,
    /// Of an import: all lines before this byte are done.
    pub(super) offset: u64,
    /// Identities, or bytes of the file: those that are done, and all as far as is known.
    pub(super) done: u64,
    pub(super) all: u64,
    pub(super) failures: u64,
    /// Lines that were taken up, as things were before.
    pub(super) under_way: Option<UnderWay>,
}

/// Files are written in this order, so that a device is there when something comes that rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    /// Of an export: devices of IoT Edge. Of an import: all lines of the file.
    #[default]
    First,
    /// All other devices.
    Devices,
    Modules,
    Configurations,
}

/// Lines up to a byte, and what was there of each before the first of them was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnderWay {
    pub(super) until: u64,
    pub(super) before: Vec<Before>,
}

/// An identity and its twin, as far as a write changes them. Nothing: there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Before {
    /// Generation and number of the write.
    pub(super) identity: Option<(String, u64)>,
    pub(super) twin: Option<TwinEtag>,
}

pub(super) fn key_of(instance: &InstanceId, job_id: &RegistryJobId) -> Key {
    Key::instance(instance).child(job_id.as_str())
}

impl Record for RegistryJob {
    const TABLE: Table = table::REGISTRY_JOB;

    fn key(&self) -> Key {
        key_of(&self.instance, &self.job_id)
    }
}
