//! The file of configurations beside that of identities: one in each line, with the names of members as the service writes them there
//! (`iothub-service.md` §9).

use std::collections::BTreeMap;

use base::IfMatch;
use base::reading::{self, Reading};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::{
    ConfigurationId, ConfigurationInput, ConfigurationSpec, ConfigurationView, Content,
};
use crate::device::ImportMode;
use crate::error::Error;

pub(super) fn write(views: &[ConfigurationView]) -> Bytes {
    let mut file = Vec::new();
    for view in views {
        file.extend_from_slice(body(view).to_string().as_bytes());
        file.push(b'\n');
    }
    file.into()
}

fn body(view: &ConfigurationView) -> Value {
    let one = &view.configuration;
    let (kind, content) = match &one.content {
        Content::DeviceContent(keys) => ("DeviceContent", keys),
        Content::ModuleContent(keys) => ("ModuleContent", keys),
        Content::ModulesContent(modules) => ("ModulesContent", modules),
    };
    let system: BTreeMap<&str, &str> =
        view.system_queries.iter().map(|(name, text)| (*name, text.as_str())).collect();
    json!({
        "Id": one.id.as_str(),
        "SchemaVersion": one.schema_version,
        "Labels": one.labels,
        "Content": {kind: content},
        "TargetCondition": one.target_condition,
        "CreatedTimeUtc": one.created.iso7(),
        "LastUpdatedTimeUtc": one.updated.iso7(),
        "Priority": one.priority,
        "SystemMetrics": {"Results": view.system_results, "Queries": system},
        "Metrics": {"Results": view.custom_results, "Queries": one.metrics},
        "ETag": one.etag.to_string(),
    })
}

/// What a line says beside its configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    etag: Option<String>,
    import_mode: Option<String>,
}

/// A line as it was read; whether its id is one is judged when it is done.
#[derive(Clone, Debug)]
pub(super) struct ConfigurationLine {
    pub(super) id: String,
    mode: ImportMode,
    etag: Option<String>,
    input: ConfigurationInput,
}

/// What is done with a line.
pub(super) enum Plan {
    Put(Box<ConfigurationSpec>, IfMatch),
    Delete(ConfigurationId, IfMatch),
}

impl ConfigurationLine {
    pub(super) fn read(text: &[u8]) -> Result<Self, Error> {
        let wrong = Error::DeserializationError;
        let unreadable = |why: reading::Unreadable| wrong(why.to_string());
        let input: ConfigurationInput = reading::read(text, Reading::Tolerant).map_err(unreadable)?;
        let Asked { etag, import_mode } = reading::read(text, Reading::Tolerant).map_err(unreadable)?;
        let id = input.id.clone().ok_or_else(|| wrong("id is missing".to_owned()))?;
        let mode = match import_mode.as_deref() {
            None => ImportMode::CreateOrUpdate,
            Some(mode) => {
                ImportMode::parse(mode).ok_or_else(|| wrong(format!("'{mode}' is not an importMode")))?
            }
        };
        Ok(Self { id, mode, etag, input })
    }
}

/// `is_there`: there is a configuration of that id now.
pub(super) fn plan(line: &ConfigurationLine, is_there: bool) -> Result<Plan, Error> {
    let id: ConfigurationId =
        line.id.parse().map_err(|error: base::ids::InvalidId| Error::invalid(error.to_string()))?;
    let tag = || match IfMatch::parse(line.etag.as_deref()) {
        IfMatch::Absent => Err(Error::ArgumentNull("ETag")),
        tag => Ok(tag),
    };
    let if_match = match (line.mode, is_there) {
        (ImportMode::Create, _)
        | (ImportMode::CreateOrUpdate | ImportMode::CreateOrUpdateIfMatchEtag, false) => IfMatch::Absent,
        (ImportMode::Update | ImportMode::CreateOrUpdate, _) => IfMatch::Any,
        (ImportMode::UpdateIfMatchEtag, _) => tag()?,
        // As of devices: one that is not given is not asked for.
        (ImportMode::CreateOrUpdateIfMatchEtag, true) => tag().unwrap_or(IfMatch::Any),
        (ImportMode::Delete, _) => return Ok(Plan::Delete(id, IfMatch::Any)),
        (ImportMode::DeleteIfMatchEtag, _) => return Ok(Plan::Delete(id, tag()?)),
        (ImportMode::UpdateTwin | ImportMode::UpdateTwinIfMatchEtag, _) => {
            return Err(Error::invalid("A configuration has no twin."));
        }
    };
    Ok(Plan::Put(Box::new(line.input.clone().into_spec(id)), if_match))
}
