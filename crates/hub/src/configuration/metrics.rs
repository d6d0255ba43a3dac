//! The metrics of configurations: how many twins their queries find. Counted in the background, by one house at a time under a lease,
//! now and then and behind every walk; what was counted last is a record.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{InstanceId, caps};
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Key, Record, Revision, Table, table};

use super::record::{Configuration, ConfigurationId, configuration_key};
use super::rules;
use crate::due::Work;
use crate::error::Error;
use crate::held::Held;
use crate::hub::Hub;

const LEASE: Duration = Duration::from_secs(caps::CONFIGURATION_LEASE_SECONDS);

/// By the names of the queries; none where one has not been answered yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics {
    pub(super) instance: InstanceId,
    pub(super) id: ConfigurationId,
    pub(super) system: BTreeMap<String, u64>,
    pub(super) custom: BTreeMap<String, u64>,
}

/// One count of all metrics.
pub(super) struct Count {
    held: Held,
    /// Which walk was over before it began.
    walked: Option<Revision>,
}

impl Record for Metrics {
    const TABLE: Table = table::CONFIGURATION_METRICS;

    fn key(&self) -> Key {
        configuration_key(&self.instance, &self.id)
    }
}

impl Hub {
    /// Counts, unless another house is at it, and once more in a while as long as there is a configuration.
    pub(crate) async fn take_up_metrics(&self) -> Result<(), Error> {
        if self.stored_configurations().await?.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(&self.due_again(caps::CONFIGURATION_METRICS_SECONDS, Work::Metrics));
        self.store().commit(batch).await?;
        let Some(mut count) = self.take_count().await? else { return Ok(()) };
        let hub = self.clone();
        self.context().tasks.spawn(async move {
            loop {
                if let Err(error) = hub.count_metrics().await {
                    tracing::debug!(%error, metrics = count.held.name(), "they are counted later");
                }
                match hub.end_count(count).await {
                    Ok(Some(next)) => count = next,
                    Ok(None) => return,
                    Err(error) => return tracing::debug!(%error, "metrics are counted later"),
                }
            }
        });
        Ok(())
    }

    /// `None`: another house counts.
    pub(super) async fn take_count(&self) -> Result<Option<Count>, Error> {
        // Before the lease: who finds that taken relies on its holder to see what ended until then.
        let walked = self.walked().await?;
        let held = self.hold(&format!("metrics/{}", self.instance().as_str()), LEASE).await?;
        Ok(held.map(|held| Count { held, walked }))
    }

    /// Gives the next one to be made where a walk has ended meanwhile, which found the lease taken.
    pub(super) async fn end_count(&self, count: Count) -> Result<Option<Count>, Error> {
        self.give_back(&count.held).await;
        let walked = self.walked().await?;
        if walked.is_none() || walked == count.walked || self.is_ending() {
            return Ok(None);
        }
        self.take_count().await
    }

    /// Which walk is over; none while there is one.
    async fn walked(&self) -> Result<Option<Revision>, Error> {
        Ok(self.walk().await?.filter(|walk| walk.record.is_over).map(|walk| walk.revision))
    }

    /// Two houses that do it at the same time do no harm: what either writes was true a moment ago.
    pub(super) async fn count_metrics(&self) -> Result<(), Error> {
        for stored in self.stored_configurations().await? {
            if self.is_ending() {
                return Ok(());
            }
            let metrics = self.counted(&stored.record).await;
            let mut batch = Batch::default();
            batch.guard_exists::<Configuration>(stored.record.key());
            batch.put(&metrics);
            match self.store().commit(batch).await {
                // It was deleted.
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn counted(&self, configuration: &Configuration) -> Metrics {
        let (mut system, mut custom) = (BTreeMap::new(), BTreeMap::new());
        for (name, text) in rules::system_queries(configuration) {
            system.extend(self.metric(&text).await.map(|count| (name.to_owned(), count)));
        }
        for (name, text) in &configuration.metrics {
            custom.extend(self.metric(text).await.map(|count| (name.clone(), count)));
        }
        Metrics { instance: self.instance().clone(), id: configuration.id.clone(), system, custom }
    }

    /// How many rows a query has; of one that does nothing but count, what it counts.
    async fn metric(&self, text: &str) -> Option<u64> {
        let select = rules::metric(text).ok()?;
        match self.count_rows(&select).await {
            Ok(count) => Some(count),
            Err(error) => {
                tracing::debug!(%error, query = text, "a metric could not be counted");
                None
            }
        }
    }
}
