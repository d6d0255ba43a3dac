//! Many identities in one call (`iothub-service.md` §3.4), or of one import. Each item is what a call for it alone would be, and succeeds
//! or fails for itself; one that rests on another before it is done behind that one, and all others at the same time.

use std::collections::{BTreeMap, HashMap, HashSet};

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{IfMatch, Meter, caps};
use tokio::sync::mpsc;

use super::rules::{Expected, device_of_scope};
use super::{DeviceSpec, ModuleSpec};
use crate::error::Error;
use crate::hub::Hub;
use crate::twin::TwinPatch;
use crate::twin::rules::InitialTwin;

/// What is to happen with an item. Where it says so, the item's etag must be the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    Create,
    Update,
    UpdateIfMatchEtag,
    CreateOrUpdate,
    CreateOrUpdateIfMatchEtag,
    Delete,
    DeleteIfMatchEtag,
    UpdateTwin,
    UpdateTwinIfMatchEtag,
}

impl ImportMode {
    /// In any case, as the service takes it.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, ImportMode); 9] = [
            ("create", ImportMode::Create),
            ("update", ImportMode::Update),
            ("updateIfMatchETag", ImportMode::UpdateIfMatchEtag),
            ("createOrUpdate", ImportMode::CreateOrUpdate),
            ("createOrUpdateIfMatchETag", ImportMode::CreateOrUpdateIfMatchEtag),
            ("delete", ImportMode::Delete),
            ("deleteIfMatchETag", ImportMode::DeleteIfMatchEtag),
            ("updateTwin", ImportMode::UpdateTwin),
            ("updateTwinIfMatchETag", ImportMode::UpdateTwinIfMatchEtag),
        ];
        NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, mode)| mode)
    }

    /// What a call for the item alone asks of its caller.
    fn permission(self) -> Permission {
        match self {
            Self::Delete | Self::DeleteIfMatchEtag => Permission::RegistryDelete,
            Self::UpdateTwin | Self::UpdateTwinIfMatchEtag => Permission::TwinWrite,
            Self::Create
            | Self::Update
            | Self::UpdateIfMatchEtag
            | Self::CreateOrUpdate
            | Self::CreateOrUpdateIfMatchEtag => Permission::RegistryWrite,
        }
    }
}

/// An identity as a caller wrote it.
#[derive(Clone, Debug)]
pub enum Draft {
    Device(DeviceSpec),
    Module(ModuleSpec, InitialTwin),
}

/// What an item asks for.
#[derive(Clone, Debug)]
pub enum Change {
    Write(Box<Draft>, Expected),
    Delete(IdentityId, IfMatch),
    Twin(IdentityId, TwinPatch, IfMatch),
}

/// One item of a call, as far as it could be read.
#[derive(Clone, Debug)]
pub struct BulkItem {
    /// As they were sent.
    pub device_id: String,
    pub module_id: Option<String>,
    pub mode: ImportMode,
    pub change: Result<Change, Error>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkFailure {
    pub device_id: String,
    pub module_id: Option<String>,
    pub error: Error,
}

impl Hub {
    /// `BulkRegistry_UpdateRegistry`: the failures, in the order of the items.
    pub async fn update_registry(
        &self,
        caller: &Caller,
        items: &[BulkItem],
    ) -> Result<Vec<BulkFailure>, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        if items.len() > caps::BULK_IDENTITIES_MAX {
            return Err(Error::TooManyDevices(items.len()));
        }
        // All are charged before the first is done: a throttled call has changed nothing.
        items.iter().try_for_each(|_| self.charge(Meter::RegistryWrite))?;
        let repeated = repeated(items);
        let work = |at: usize| {
            let (hub, caller, item, is_repeated) =
                (self.clone(), caller.clone(), items[at].clone(), repeated[at]);
            async move { hub.update_one(&caller, &item, is_repeated).await.err() }
        };
        let outcomes = self.in_waves(&waves(items.iter().map(BulkItem::touched)), work).await?;
        let failure = |(at, error): (usize, Option<Error>)| {
            let BulkItem { device_id, module_id, .. } = items[at].clone();
            error.map(|error| BulkFailure { device_id, module_id, error })
        };
        Ok(outcomes.into_iter().enumerate().filter_map(failure).collect())
    }

    /// Does the work of each item: wave by wave, and those of a wave at the same time, so that they share commits. Goes on to its end
    /// when the caller goes away in the middle of a wave.
    pub(crate) async fn in_waves<T, F>(
        &self,
        waves: &[Vec<usize>],
        work: impl Fn(usize) -> F,
    ) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut done = BTreeMap::new();
        for wave in waves {
            let (tell, mut told) = mpsc::channel(caps::BULK_IDENTITIES_MAX);
            for at in wave {
                let (at, work, tell) = (*at, work(*at), tell.clone());
                // Tasks of their own: what is committed alone is committed by its own thread.
                self.context().tasks.spawn(async move { drop(tell.send((at, work.await)).await) });
            }
            drop(tell);
            while let Some((at, outcome)) = told.recv().await {
                done.insert(at, outcome);
            }
        }
        // One that panicked is the server's fault, and what became of it unknown.
        let count: usize = waves.iter().map(Vec::len).sum();
        if done.len() == count { Ok(done.into_values().collect()) } else { Err(Error::ServerError) }
    }

    async fn update_one(&self, caller: &Caller, item: &BulkItem, is_repeated: bool) -> Result<(), Error> {
        caller.require(item.mode.permission(), self.scope())?;
        if is_repeated {
            let id = item.module_id.as_ref().map(|module_id| format!("{}/{module_id}", item.device_id));
            return Err(Error::DeviceDefinedMultipleTimes(id.unwrap_or_else(|| item.device_id.clone())));
        }
        self.change_registry(caller, item).await
    }

    pub(crate) async fn change_registry(&self, caller: &Caller, item: &BulkItem) -> Result<(), Error> {
        match item.change.as_ref().map_err(Clone::clone)? {
            Change::Write(draft, expected) => match &**draft {
                Draft::Device(spec) => self.write_device(spec, expected).await.map(drop),
                Draft::Module(spec, twin) => self.write_module(caller, spec, twin, expected).await.map(drop),
            },
            Change::Delete(id, if_match) if id.module_id.is_some() => {
                self.delete_module_if(caller, id, if_match).await
            }
            Change::Delete(id, if_match) => self.delete_device_if(&id.device_id, if_match).await,
            Change::Twin(id, patch, if_match) => self.patch_twin(id, patch, if_match).await.map(drop),
        }
    }
}

/// Whether an item names whom one before it has named.
fn repeated(items: &[BulkItem]) -> Vec<bool> {
    let mut seen = HashSet::new();
    items.iter().map(|item| !seen.insert((&item.device_id, &item.module_id))).collect()
}

/// Places of items in the order in which they are done: each one behind those before it that touch something that it touches.
pub(crate) fn waves(items: impl Iterator<Item = Vec<String>>) -> Vec<Vec<usize>> {
    let (mut last, mut waves): (HashMap<String, usize>, Vec<Vec<usize>>) = (HashMap::new(), Vec::new());
    for (at, touched) in items.enumerate() {
        let before = touched.iter().filter_map(|name| last.get(name)).max();
        let wave = before.map_or(0, |wave| wave + 1);
        if wave == waves.len() {
            waves.push(Vec::new());
        }
        waves[wave].push(at);
        last.extend(touched.into_iter().map(|name| (name, wave)));
    }
    waves
}

impl BulkItem {
    /// What a write of it may change or rests on: the device, also of a module, and those that it is below.
    pub(crate) fn touched(&self) -> Vec<String> {
        let mut touched = vec![self.device_id.clone()];
        if let Ok(Change::Write(draft, _)) = &self.change
            && let Draft::Device(spec) = &**draft
        {
            let scopes = spec.scopes.device_scope.iter().chain(&spec.scopes.parent_scopes);
            touched.extend(scopes.filter_map(|scope| Some(device_of_scope(scope)?.to_string())));
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(device_id: &str, below: Option<&str>) -> BulkItem {
        let mut spec = DeviceSpec::new(device_id.parse().unwrap());
        spec.scopes.device_scope = below.map(|parent| format!("ms-azure-iot-edge://{parent}-1"));
        let change = Change::Write(Box::new(Draft::Device(spec)), Expected::Put(IfMatch::Absent));
        BulkItem {
            device_id: device_id.to_owned(),
            module_id: None,
            mode: ImportMode::Create,
            change: Ok(change),
        }
    }

    fn module(device_id: &str) -> BulkItem {
        let id: IdentityId = format!("{device_id}/m").parse().unwrap();
        let change = Ok(Change::Delete(id, IfMatch::Any));
        BulkItem { module_id: Some("m".to_owned()), change, ..item(device_id, None) }
    }

    #[test]
    fn only_what_rests_on_another_item_waits_for_it() {
        let items = [
            item("a", None),
            item("b", None),
            module("a"),
            item("c", Some("b")),
            item("d", Some("elsewhere")),
            module("a"),
            item("b", None),
        ];
        assert_eq!(waves(items.iter().map(BulkItem::touched)), [vec![0, 1, 4], vec![2, 3], vec![5, 6]]);
        assert!(waves(std::iter::empty()).is_empty());
    }
}
