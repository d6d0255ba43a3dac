//! Files that a device uploads to the account of the house: back ends are told of each that was completed, and not again once they
//! have settled it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::hosts::Dialled;
use base::{ConnectionString, Timestamp};
use hub::file_upload::{
    FileNotification, FileStorage, Grant, Look, NoGrant, StartedUpload, Unreachable, UploadedBlob,
};
use hub::service_bound::Given;
use hub::{Error, FileUpload, HubSettings, Settlement, StorageEndpoint};
use parking_lot::Mutex;
use storage::sas::Permission;
use storage::{AccountAddress, Accounts};

use crate::blobs;
use crate::house::{House, text};
use crate::registry::identity;
use crate::world::{Outcome, World};

pub(crate) const DEVICE: &str = "uploader";
/// An upload that nobody ends is over by then, and makes room.
const TTL: Duration = Duration::from_secs(20);
/// Given back more often than that, a notification is dropped.
const GIVEN_BACK_MAX: u32 = 8;

/// Accounts of the house, asked without a request, as the server does it.
pub(crate) struct OwnAccounts(pub(crate) Accounts);

impl FileStorage for OwnAccounts {
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant> {
        let address = AccountAddress::parse(at.connection_string.expose());
        let address = address.map_err(|error| NoGrant::Account(error.to_string()))?;
        let (container, blob) = (blobs::container(), blobs::blob(blob_name));
        let sas_token = address.sign_blob((&container, &blob), &[Permission::Write], expires);
        let sas_token = sas_token.ok_or_else(|| NoGrant::Account("it has no key".to_owned()))?;
        Ok(Grant { host_name: address.host_name(), blob_uri: address.blob_uri(&container, &blob), sas_token })
    }

    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        Box::pin(async move {
            let unreachable = |error: &dyn std::fmt::Display| Unreachable(error.to_string());
            let address =
                AccountAddress::parse(at.connection_string.expose()).map_err(|error| unreachable(&error))?;
            let account =
                self.0.opened_by(&address).ok_or_else(|| unreachable(&"no account of the house"))?;
            let found = account.length_of((&blobs::container(), &blobs::blob(blob_name))).await;
            let found = found.map_err(|error| unreachable(&error))?;
            Ok(found.map(|(size_bytes, last_updated)| UploadedBlob { size_bytes, last_updated }))
        })
    }
}

/// The hub's storage is the default account, whose container is made here.
pub(crate) async fn furnish(house: &House) -> Result<(), String> {
    let account = blobs::account(house);
    let (caller, container) = (storage::Caller::Key, blobs::container());
    account.create_container(&caller, &container, storage::Metadata::new()).await.map_err(text)?;
    let key = account.settings().keys[0].text().to_owned();
    let connection_string =
        ConnectionString::new(format!("AccountName=storage;AccountKey={key};EndpointSuffix=example.test"));
    let container_name = container.to_string();
    let storage = Some(StorageEndpoint { connection_string, container_name, ttl: TTL });
    let file_upload = FileUpload { storage, is_notified: true, ..FileUpload::default() };
    let settings = HubSettings { file_upload, ..(*house.hub().settings()).clone() };
    house.hubs.ensure(settings).await.map(drop).map_err(text)
}

/// Names of files, by what is known of them.
#[derive(Default)]
pub(crate) struct Told {
    /// The device was answered that the hub knows of the file, whose length this is.
    completed: BTreeMap<String, u64>,
    /// Nobody knows.
    perhaps: BTreeSet<String>,
    /// What somebody was told, and how often he gave it back.
    heard: BTreeMap<String, u32>,
    settled: BTreeSet<String>,
}

pub(crate) type Shared = Arc<Mutex<Told>>;

pub(crate) async fn upload(world: Arc<World>, told: Shared) {
    let mut rng = world.fork();
    let mut number = 0;
    while !world.is_over() {
        world.pause(&mut rng, 800).await;
        number += 1;
        let name = format!("file{number}");
        let begun = world.ask(format!("begin {name}"), async |house| {
            let hub = house.hub();
            let caller = Caller::identity(hub.scope().clone(), identity(DEVICE));
            hub.start_file_upload(&caller, &identity(DEVICE).device_id, &name, &Dialled::here()).await
        });
        let begun = match begun.await {
            Outcome::Answered(Err(Error::DefaultStorageEndpointNotConfigured)) => {
                return world.fail("the hub has no storage any more".to_owned());
            }
            begun => begun.ok(),
        };
        let Some(begun) = begun else { continue };
        let what = format!("upload {name}");
        let put = world.ask(what, async |house| blobs::put(house, &begun.blob_name, number).await);
        let is_success = put.await.ok().is_some();
        if is_success {
            told.lock().perhaps.insert(begun.blob_name.clone());
        }
        complete(&world, &begun, is_success.then_some(number), &told).await;
    }
}

/// Says so until it is answered.
async fn complete(world: &World, begun: &StartedUpload, number: Option<u64>, told: &Shared) {
    let StartedUpload { correlation_id, blob_name, .. } = begun;
    let mut tries = 0;
    loop {
        tries += 1;
        let completing = world.ask(format!("complete {blob_name}: {}", number.is_some()), async |house| {
            let hub = house.hub();
            let caller = Caller::identity(hub.scope().clone(), identity(DEVICE));
            let device = identity(DEVICE).device_id;
            hub.complete_file_upload(&caller, &device, correlation_id, number.is_some()).await
        });
        match completing.await {
            Outcome::Answered(Ok(())) => {}
            // By a try of which nobody knew.
            Outcome::Answered(Err(Error::InvalidFileUploadCorrelationId)) if tries > 1 => {}
            Outcome::Answered(Err(Error::InvalidFileUploadCorrelationId)) => {
                return world.fail(format!("{blob_name} was begun, and is not known"));
            }
            Outcome::Answered(Err(Error::ExpiredFileUploadCorrelationId)) => return,
            Outcome::Answered(Err(_)) | Outcome::Cut => {
                world.clock.sleep(Duration::from_millis(200)).await;
                continue;
            }
        }
        if let Some(number) = number {
            told.lock().completed.insert(blob_name.clone(), blobs::bytes(number).len() as u64);
        }
        return;
    }
}

/// A back end that fetches, and settles, gives back, or forgets.
pub(crate) async fn listen(world: Arc<World>, told: Shared) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 800).await;
        let received = world.ask("fetch a notification", async |house| receive(house).await).await;
        let Some(given) = received.ok().flatten() else { continue };
        is_heard(&world, &given, &told);
        match rng.u8(0..6) {
            0 => {}
            1 => give_back(&world, &given, &told).await,
            _ => settle(&world, &given, &told).await,
        }
    }
}

async fn receive(house: &House) -> Result<Option<Given<FileNotification>>, Error> {
    house.hub().receive_file_notification(&Caller::system()).await
}

fn is_heard(world: &World, given: &Given<FileNotification>, told: &Shared) {
    let mut told = told.lock();
    for one in &given.told {
        let name = &one.blob_name;
        if told.settled.contains(name) {
            world.fail(format!("{name} was told of after it was settled"));
        }
        if !told.perhaps.contains(name) {
            world.fail(format!("{name} is told of, and was never uploaded"));
        }
        // An account that does not answer has a length of none.
        let length = told.completed.get(name).copied().filter(|length| *length != one.size_bytes);
        if one.size_bytes != 0 && length.is_some() {
            world.fail(format!("{name} has {length:?} bytes, and is told of with {}", one.size_bytes));
        }
        told.heard.entry(name.clone()).or_default();
    }
}

async fn give_back(world: &World, given: &Given<FileNotification>, told: &Shared) {
    let mut back = 0;
    for one in &given.told {
        let mut told = told.lock();
        let times = told.heard.entry(one.blob_name.clone()).or_default();
        *times += 1;
        back = back.max(*times);
    }
    if back > GIVEN_BACK_MAX {
        return;
    }
    let token = given.lock_token;
    let settled = world.ask("give a notification back", async |house| {
        house.hub().settle_file_notification(&Caller::system(), token, Settlement::Abandon).await
    });
    settled.await;
}

async fn settle(world: &World, given: &Given<FileNotification>, told: &Shared) {
    let token = given.lock_token;
    let names: Vec<String> = given.told.iter().map(|one| one.blob_name.clone()).collect();
    let settled = world.ask(format!("settle {names:?}"), async |house| {
        house.hub().settle_file_notification(&Caller::system(), token, Settlement::Complete).await
    });
    if settled.await.ok().is_some() {
        told.lock().settled.extend(names);
    }
}

/// What nobody has settled is fetched once nobody holds it; then everything that was completed has been told of.
pub(crate) async fn check(world: &World, told: &Shared) {
    world.clock.advance(Duration::from_mins(2));
    while let Some(given) = world.insist("fetch what is left", async |house| receive(house).await).await {
        is_heard(world, &given, told);
        let token = given.lock_token;
        let settled = world.insist("settle what is left", async |house| {
            let settled =
                house.hub().settle_file_notification(&Caller::system(), token, Settlement::Complete).await;
            // By a try of which nobody knew.
            if settled == Err(Error::DeviceMessageLockLost) { Ok(()) } else { settled }
        });
        settled.await;
        told.lock().settled.extend(given.told.into_iter().map(|one| one.blob_name));
        if world.fault().is_some() {
            return;
        }
    }
    let told = told.lock();
    let missing: Vec<_> = told.completed.keys().filter(|name| !told.heard.contains_key(*name)).collect();
    if !missing.is_empty() {
        world.fail(format!("nobody was told of {missing:?}"));
    }
    world.note(&format!("{} files were uploaded, {} told of", told.completed.len(), told.heard.len()));
}
