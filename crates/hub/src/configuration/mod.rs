//! Configurations: desired properties for all twins of which a condition is true (`iothub-service.md` §13). A configuration is stored
//! here and judged by `rules`. `targets` says what a twin becomes by all of them: with every write of a twin (`known`), and behind every
//! change of a configuration (`walk`). `metrics` counts, `apply_now` brings a content to one device without one.

mod apply_now;
mod input;
mod known;
mod metrics;
#[cfg(test)]
mod model;
mod record;
mod rules;
mod targets;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use access::{Caller, Permission};
use base::json::Object;
use base::{IfMatch, Meter, caps};
use store::{Batch, CommitError, Counter, Key, Scan, Stored, retry_on_conflict};

pub use self::input::{ConfigurationInput, ContentInput};
pub(crate) use self::known::{Fence, Gate};
use self::metrics::Metrics;
use self::record::configuration_key;
pub use self::record::{Configuration, ConfigurationEtag, ConfigurationId, Content, Held, Standing, Status};
use crate::due::Work;
use crate::error::{ETAG_STALE, Error};
use crate::hub::Hub;

/// What a caller writes. Of an existing configuration the content stays as it is, whatever is sent.
#[derive(Clone, Debug)]
pub struct ConfigurationSpec {
    pub id: ConfigurationId,
    pub schema_version: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub content: ContentSpec,
    /// `*` is for all; nothing, or an empty one, for nobody.
    pub target_condition: Option<String>,
    pub priority: i32,
    pub metrics: BTreeMap<String, String>,
}

/// A content as it was sent; exactly one of these makes one.
#[derive(Clone, Debug, Default)]
pub struct ContentSpec {
    pub device: Option<Object>,
    pub module: Option<Object>,
    pub modules: Option<Object>,
}

/// What is wrong with queries that are tried before they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryFaults {
    pub target_condition: Option<String>,
    /// By the names of those that are wrong.
    pub metrics: BTreeMap<String, String>,
}

/// A configuration and what its metrics were when they were counted last.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationView {
    pub configuration: Configuration,
    /// Those that the hub keeps itself, in their order.
    pub system_queries: Vec<(&'static str, String)>,
    /// By the names of the queries; nothing where one has not been answered yet.
    pub system_results: BTreeMap<String, u64>,
    pub custom_results: BTreeMap<String, u64>,
}

impl ConfigurationView {
    fn new(configuration: Configuration, metrics: Option<Metrics>) -> Self {
        let system_queries = rules::system_queries(&configuration);
        let (system_results, mut custom_results) =
            metrics.map_or_else(Default::default, |metrics| (metrics.system, metrics.custom));
        // It may have other metrics since.
        custom_results.retain(|name, _| configuration.metrics.contains_key(name));
        Self { configuration, system_queries, system_results, custom_results }
    }
}

impl Hub {
    /// `Configuration_CreateOrUpdate`: creates without If-Match, updates with one.
    pub async fn put_configuration(
        &self,
        caller: &Caller,
        spec: &ConfigurationSpec,
        if_match: &IfMatch,
    ) -> Result<ConfigurationView, Error> {
        caller.require(Permission::ConfigurationWrite, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let content = rules::check(spec)?;
        let (hub, spec, if_match) = (self.clone(), spec.clone(), if_match.clone());
        self.to_the_end(async move {
            let write = async || hub.write_configuration(&spec, &content, &if_match).await;
            let written = retry_on_conflict(write).await?;
            hub.begin_walk().await;
            hub.configuration_view(written).await
        })
        .await
    }

    async fn write_configuration(
        &self,
        spec: &ConfigurationSpec,
        content: &Content,
        if_match: &IfMatch,
    ) -> Result<Configuration, Error> {
        match (self.configuration(&spec.id).await?, if_match) {
            (Some(_), IfMatch::Absent) => Err(Error::ConfigurationAlreadyExists(spec.id.to_string())),
            (None, IfMatch::Absent) => self.insert_configuration(spec, content).await,
            (None, _) => Err(Error::ConfigurationNotFound(spec.id.to_string())),
            (Some(old), _) if if_match.allows(&old.record.etag.to_string()) => {
                self.update_configuration(spec, &old).await
            }
            (Some(_), _) => Err(Error::PreconditionFailed(ETAG_STALE)),
        }
    }

    /// Counts behind the walk, or at once where there is nothing to walk for. What cannot be begun now is found when it is looked for
    /// next.
    async fn begin_walk(&self) {
        let begun = async {
            self.take_up_walk().await?;
            let is_over = self.walk().await?.is_none_or(|walk| walk.record.is_over);
            if is_over { self.take_up_metrics().await } else { Ok(()) }
        };
        if let Err(error) = begun.await {
            tracing::debug!(%error, "the walk begins later");
        }
    }

    async fn configuration_view(&self, configuration: Configuration) -> Result<ConfigurationView, Error> {
        let key = configuration_key(self.instance(), &configuration.id);
        let metrics = self.store().get::<Metrics>(&key).await?;
        Ok(ConfigurationView::new(configuration, metrics.map(|stored| stored.record)))
    }

    async fn insert_configuration(
        &self,
        spec: &ConfigurationSpec,
        content: &Content,
    ) -> Result<Configuration, Error> {
        let now = self.now();
        let configuration = Configuration {
            instance: self.instance().clone(),
            id: spec.id.clone(),
            schema_version: spec.schema_version.clone(),
            labels: spec.labels.clone(),
            content: content.clone(),
            target_condition: spec.target_condition.clone(),
            created: now,
            updated: now,
            priority: spec.priority,
            metrics: spec.metrics.clone(),
            etag: ConfigurationEtag(1),
        };
        let mut batch = Batch::default();
        batch.insert(&configuration);
        batch.put(&self.due(now, Work::Metrics));
        batch.add(self.configurations(), 1, caps::CONFIGURATIONS_MAX);
        match self.commit_configurations(batch).await {
            Ok(()) => Ok(configuration),
            Err(CommitError::CounterLimit { .. }) => {
                Err(Error::ConfigurationCountLimitExceeded(caps::CONFIGURATIONS_MAX))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn update_configuration(
        &self,
        spec: &ConfigurationSpec,
        old: &Stored<Configuration>,
    ) -> Result<Configuration, Error> {
        // The content that stays is another one, perhaps of another kind.
        rules::target(spec.target_condition.as_deref(), &old.record.content)?;
        let configuration = Configuration {
            schema_version: spec.schema_version.clone(),
            labels: spec.labels.clone(),
            target_condition: spec.target_condition.clone(),
            updated: self.now(),
            priority: spec.priority,
            metrics: spec.metrics.clone(),
            etag: ConfigurationEtag(old.record.etag.0 + 1),
            ..old.record.clone()
        };
        let is_felt = |one: &Configuration| (one.target_condition.clone(), one.priority);
        let mut batch = Batch::default();
        batch.replace(old, &configuration);
        if is_felt(&old.record) == is_felt(&configuration) {
            self.store().commit(batch).await?;
        } else {
            self.commit_configurations(batch).await?;
        }
        Ok(configuration)
    }

    /// `Configuration_Get`.
    pub async fn get_configuration(
        &self,
        caller: &Caller,
        id: &ConfigurationId,
    ) -> Result<ConfigurationView, Error> {
        caller.require(Permission::ConfigurationRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let stored = self.configuration(id).await?;
        let stored = stored.ok_or_else(|| Error::ConfigurationNotFound(id.to_string()))?;
        self.configuration_view(stored.record).await
    }

    /// `Configuration_GetConfigurations`: all of them, by id; there are never many.
    pub async fn list_configurations(&self, caller: &Caller) -> Result<Vec<ConfigurationView>, Error> {
        caller.require(Permission::ConfigurationRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let all = self.stored_configurations().await?;
        let max = usize::try_from(caps::CONFIGURATIONS_MAX).expect("a small number");
        let counted = self.store().scan::<Metrics>(Scan::new(Key::instance(self.instance()), max)).await?;
        let mut metrics: BTreeMap<_, _> =
            counted.into_iter().map(|stored| (stored.record.id.clone(), stored.record)).collect();
        let view = |stored: Stored<Configuration>| {
            let metrics = metrics.remove(&stored.record.id);
            ConfigurationView::new(stored.record, metrics)
        };
        Ok(all.into_iter().map(view).collect())
    }

    /// `Configuration_Delete`. What twins have of it they keep.
    pub async fn delete_configuration(
        &self,
        caller: &Caller,
        id: &ConfigurationId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        caller.require(Permission::ConfigurationDelete, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let (hub, id, if_match) = (self.clone(), id.clone(), if_match.clone());
        self.to_the_end(async move {
            retry_on_conflict(async || hub.remove_configuration(&id, &if_match).await).await?;
            hub.begin_walk().await;
            Ok(())
        })
        .await
    }

    async fn remove_configuration(&self, id: &ConfigurationId, if_match: &IfMatch) -> Result<(), Error> {
        let stored = self.configuration(id).await?;
        let stored = stored.ok_or_else(|| Error::ConfigurationNotFound(id.to_string()))?;
        if !if_match.allows(&stored.record.etag.to_string()) {
            return Err(Error::PreconditionFailed(ETAG_STALE));
        }
        let mut batch = Batch::default();
        batch.delete(&stored);
        batch.remove::<Metrics>(configuration_key(self.instance(), id));
        batch.add(self.configurations(), -1, caps::CONFIGURATIONS_MAX);
        self.commit_configurations(batch).await?;
        Ok(())
    }

    /// `Configuration_TestQueries`: what is wrong is the answer and no refusal.
    pub fn test_configuration_queries(
        &self,
        caller: &Caller,
        target_condition: Option<&str>,
        metrics: &BTreeMap<String, String>,
    ) -> Result<QueryFaults, Error> {
        caller.require(Permission::ConfigurationTestQueries, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let target_condition = match target_condition.map(str::trim) {
            None | Some("") => None,
            // The service takes it in a configuration, and calls it wrong here.
            Some("*") => Some("'*' is no condition that can be tested.".to_owned()),
            Some(text) => rules::condition(text).err().map(|error| error.to_string()),
        };
        let fault = |(name, text): (&String, &String)| Some((name.clone(), rules::metric(text).err()?));
        Ok(QueryFaults { target_condition, metrics: metrics.iter().filter_map(fault).collect() })
    }

    pub(crate) async fn configuration(
        &self,
        id: &ConfigurationId,
    ) -> Result<Option<Stored<Configuration>>, Error> {
        Ok(self.store().get(&configuration_key(self.instance(), id)).await?)
    }

    async fn stored_configurations(&self) -> Result<Vec<Stored<Configuration>>, Error> {
        let max = usize::try_from(caps::CONFIGURATIONS_MAX).expect("a small number");
        Ok(self.store().scan(Scan::new(Key::instance(self.instance()), max)).await?)
    }

    /// How many there are, so that no race brings more than may be.
    fn configurations(&self) -> Counter {
        Counter::new(self.instance(), "configurations")
    }
}
