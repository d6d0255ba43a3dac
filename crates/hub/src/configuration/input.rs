//! A configuration as clients send it and as a line of a file holds it (`iothub-service.md` §9, §13). What they send back along with it
//! is ours, and is not looked at.

use std::collections::BTreeMap;

use base::json::Object;
use serde::Deserialize;

use super::{ConfigurationId, ConfigurationSpec, ContentSpec};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationInput {
    pub id: Option<String>,
    schema_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    content: Option<ContentInput>,
    target_condition: Option<String>,
    priority: Option<i32>,
    metrics: Option<MetricsInput>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the service's names")]
pub struct ContentInput {
    device_content: Option<Object>,
    module_content: Option<Object>,
    modules_content: Option<Object>,
}

#[derive(Clone, Debug, Deserialize)]
struct MetricsInput {
    queries: Option<BTreeMap<String, String>>,
}

impl ConfigurationInput {
    /// `id` is what it is called where it was sent to; whether that is the id that it names is another question.
    pub fn into_spec(self, id: ConfigurationId) -> ConfigurationSpec {
        ConfigurationSpec {
            id,
            schema_version: self.schema_version,
            labels: self.labels,
            content: self.content.unwrap_or_default().into_spec(),
            target_condition: self.target_condition,
            priority: self.priority.unwrap_or_default(),
            metrics: self.metrics.and_then(|metrics| metrics.queries).unwrap_or_default(),
        }
    }
}

impl ContentInput {
    pub fn into_spec(self) -> ContentSpec {
        ContentSpec {
            device: self.device_content,
            module: self.module_content,
            modules: self.modules_content,
        }
    }
}
