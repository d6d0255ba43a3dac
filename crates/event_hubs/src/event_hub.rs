//! An event hub of a namespace: its partitions and retention, its rules, and the stream that it stands for.

use base::InstanceId;
use events::EventStreamSettings;
use serde::{Deserialize, Serialize};

use crate::authorization_rule::{self, AuthorizationRule};
use crate::error::Error;
use crate::namespace::Namespace;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHub {
    pub name: String,
    /// Never changes.
    pub partition_count: u32,
    pub retention_days: u32,
    #[serde(with = "authorization_rule::record")]
    pub rules: Vec<AuthorizationRule>,
}

impl Namespace {
    /// Makes the event hub, or changes how long it keeps events. Safe to repeat.
    pub async fn ensure_event_hub(
        &self,
        name: &str,
        partition_count: u32,
        retention_days: u32,
    ) -> Result<(), Error> {
        self.change(|settings| {
            match settings.event_hub_mut(name) {
                Ok(known) => known.retention_days = retention_days,
                Err(_) => settings.event_hubs.push(EventHub {
                    name: name.to_owned(),
                    partition_count,
                    retention_days,
                    rules: Vec::new(),
                }),
            }
            Ok(())
        })
        .await?;
        let settings = self.settings();
        let stream = stream(self.instance(), self.name(), settings.event_hub(name)?);
        self.events().ensure_stream(stream).await?;
        Ok(())
    }

    /// Forgets the event hub with everything in it. Safe to repeat.
    pub async fn remove_event_hub(&self, name: &str) -> Result<(), Error> {
        self.change(|settings| {
            settings.event_hubs.retain(|known| !known.name.eq_ignore_ascii_case(name));
            Ok(())
        })
        .await?;
        Ok(self.events().remove_stream(self.instance(), name).await?)
    }
}

fn stream(instance: &InstanceId, namespace: &str, event_hub: &EventHub) -> EventStreamSettings {
    EventStreamSettings {
        instance: instance.clone(),
        name: event_hub.name.clone(),
        namespace: Some(namespace.to_owned()),
        partition_count: event_hub.partition_count,
        retention_seconds: u64::from(event_hub.retention_days) * 24 * 3600,
    }
}
