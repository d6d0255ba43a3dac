//! Where files of devices and of jobs go to: accounts of this server, which are asked without a request, and accounts elsewhere
//! (ADR 18).

use std::time::Duration;

use base::hosts::{Dialled, Hosts};
use base::secret::stable_hash;
use base::{Clock, ConnectionString, Timestamp};
use bytes::Bytes;
use delivery::{ForeignStorage, Requests, Trust};
use hub::StorageEndpoint;
use hub::file_upload::{
    Asked, ContainerFault, ContainerUri, FileStorage, Grant, Look, NoGrant, OwnStorage, Portion, Unreachable,
    UploadedBlob,
};
use resource_manager::storage_account::blob_endpoint;
use storage::block_list::{Entry, Source};
use storage::{
    Account, AccountAddress, Accounts, BlobHeaders, BlobKind, BlobName, ByteRange, Caller, Conditions,
    ContainerName, Error, InvalidName, Metadata, NewBlob,
};

/// How long devices may upload to the default account, as to any of which a hub says nothing else.
const UPLOAD: Duration = Duration::from_hours(1);

pub(crate) struct FileAccounts {
    own: Accounts,
    hosts: Hosts,
    /// The account of hubs that have none.
    default_account: String,
    elsewhere: ForeignStorage,
}

impl FileAccounts {
    pub(crate) fn new(own: Accounts, hosts: Hosts, clock: Clock, default_account: String) -> Self {
        let elsewhere = ForeignStorage::new(Requests::new(Trust::of_this_machine()), clock);
        Self { own, hosts, default_account, elsewhere }
    }

    fn own(&self, at: &StorageEndpoint) -> Option<Account> {
        let address = AccountAddress::parse(at.connection_string.expose()).ok()?;
        self.own.opened_by(&address)
    }

    /// A blob in a container of this server. `None`: it is elsewhere, or is no address of one, which is told there.
    async fn opened(&self, at: &ContainerUri, blob: &str) -> Option<Opened> {
        let (address, container) = AccountAddress::of_container(at.expose()).ok()?;
        let blob = blob.parse().ok()?;
        let (account, caller) = self.own.opened_by_signature(&address, &container).await?;
        Some(Opened { account, caller, container, blob })
    }

    async fn default_of(&self, hub: &str, dialled: &Dialled) -> Option<StorageEndpoint> {
        let account = self.own.find(&self.default_account)?;
        let container = container_of(hub).parse().ok()?;
        match account.get_container(&Caller::Key, &container).await {
            Ok(_) => {}
            Err(Error::ContainerNotFound) => {
                let made = account.create_container(&Caller::Key, &container, Metadata::default()).await;
                if let Err(error) = made
                    && error != Error::ContainerAlreadyExists
                {
                    tracing::error!(hub, %error, "the hub's container in the default storage account cannot be made");
                    return None;
                }
            }
            Err(error) => {
                tracing::error!(hub, %error, "the default storage account does not answer");
                return None;
            }
        }
        let name = account.name().as_str();
        let (endpoint, key) = (blob_endpoint(&self.hosts, name, dialled), account.settings().keys[0].clone());
        let connection_string =
            format!("AccountName={name};AccountKey={};BlobEndpoint={endpoint}", key.text());
        Some(StorageEndpoint {
            connection_string: ConnectionString::new(connection_string),
            container_name: container.to_string(),
            ttl: UPLOAD,
        })
    }
}

/// The container of a hub's own. Names of hubs may have dashes where those of containers may not.
fn container_of(hub: &str) -> String {
    let hub = hub.to_ascii_lowercase();
    let words: Vec<&str> = hub.split('-').filter(|word| !word.is_empty()).collect();
    let plain = format!("iothub-{}", words.join("-"));
    let is_same = plain.strip_prefix("iothub-") == Some(&hub);
    if is_same { plain } else { format!("{plain}-{:05x}", stable_hash(hub.as_bytes()) & 0xf_ffff) }
}

impl FileStorage for FileAccounts {
    /// Signed alike, wherever the account is.
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant> {
        self.elsewhere.grant(at, blob_name, expires)
    }

    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        match self.own(at) {
            Some(account) => Box::pin(look_at(account, at, blob_name)),
            None => self.elsewhere.look(at, blob_name),
        }
    }

    fn default_storage<'a>(&'a self, hub: &'a str, dialled: &'a Dialled) -> OwnStorage<'a> {
        Box::pin(self.default_of(hub, dialled))
    }

    fn read<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        from: u64,
        most: usize,
    ) -> Asked<'a, Option<Portion>> {
        Box::pin(async move {
            match self.opened(at, blob).await {
                Some(opened) => opened.read(from, most).await.map_err(fault),
                None => self.elsewhere.read(at, blob, from, most).await,
            }
        })
    }

    fn put_block<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        block_id: &'a str,
        bytes: Bytes,
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            match self.opened(at, blob).await {
                Some(opened) => opened.put_block(block_id, bytes).await.map_err(fault),
                None => self.elsewhere.put_block(at, blob, block_id, bytes).await,
            }
        })
    }

    fn commit_blocks<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        block_ids: &'a [String],
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            match self.opened(at, blob).await {
                Some(opened) => opened.commit_blocks(block_ids).await.map_err(fault),
                None => self.elsewhere.commit_blocks(at, blob, block_ids).await,
            }
        })
    }

    fn remove<'a>(&'a self, at: &'a ContainerUri, blob: &'a str) -> Asked<'a, bool> {
        Box::pin(async move {
            match self.opened(at, blob).await {
                Some(opened) => opened.remove().await.map_err(fault),
                None => self.elsewhere.remove(at, blob).await,
            }
        })
    }
}

/// A blob of this server, for whoever holds a signature.
struct Opened {
    account: Account,
    caller: Caller,
    container: ContainerName,
    blob: BlobName,
}

impl Opened {
    async fn read(&self, from: u64, most: usize) -> Result<Option<Portion>, Error> {
        let at = (&self.container, &self.blob);
        let found = match self.account.get_blob(&self.caller, at, &Conditions::default()).await {
            Err(Error::BlobNotFound | Error::ContainerNotFound) => return Ok(None),
            found => found?,
        };
        let blob_bytes = found.blob.length;
        let end = from.saturating_add(most as u64).min(blob_bytes);
        if from >= end {
            return Ok(Some(Portion { bytes: Bytes::new(), blob_bytes }));
        }
        let (_, mut reader) = self.account.read(&found, Some(ByteRange::between(from, end)))?;
        let mut bytes = Vec::with_capacity(usize::try_from(end - from).unwrap_or(most));
        while let Some(part) = reader.next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(Some(Portion { bytes: bytes.into(), blob_bytes }))
    }

    async fn put_block(&self, block_id: &str, bytes: Bytes) -> Result<(), Error> {
        let (at, id) = ((&self.container, &self.blob), block_id.parse()?);
        let mut writer = self.account.receive_block(&self.caller, at, Some(bytes.len() as u64)).await?;
        writer.write(bytes).await?;
        self.account.put_block(&self.caller, at, &id, writer, None).await.map(drop)
    }

    async fn commit_blocks(&self, block_ids: &[String]) -> Result<(), Error> {
        let entry = |id: &String| Ok::<_, Error>(Entry { source: Source::Latest, id: id.parse()? });
        let entries = block_ids.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let content_type = Some("application/octet-stream".to_owned());
        let headers = BlobHeaders { content_type, ..BlobHeaders::default() };
        let new = NewBlob { kind: BlobKind::Block, headers, metadata: Metadata::default() };
        let at = (&self.container, &self.blob);
        let any = Conditions::default();
        self.account.put_block_list(&self.caller, at, &entries, &new, &any).await.map(drop)
    }

    async fn remove(&self) -> Result<bool, Error> {
        let at = (&self.container, &self.blob);
        match self.account.delete_blob(&self.caller, at, &Conditions::default()).await {
            Err(Error::BlobNotFound | Error::ContainerNotFound) => Ok(false),
            done => done.map(|()| true),
        }
    }
}

/// What another request or the store was in the way of is worth another try.
fn fault(error: Error) -> ContainerFault {
    match error {
        Error::WrittenMeanwhile | Error::Store(_) => ContainerFault::Unreachable(error.to_string()),
        error => ContainerFault::Refused(format!("{error} ({})", error.code())),
    }
}

async fn look_at(
    account: Account,
    at: &StorageEndpoint,
    blob_name: &str,
) -> Result<Option<UploadedBlob>, Unreachable> {
    let no_name = |error: InvalidName| Unreachable(error.to_string());
    let container = at.container_name.parse().map_err(no_name)?;
    let blob = blob_name.parse().map_err(no_name)?;
    let found = account.length_of((&container, &blob)).await;
    let found = found.map_err(|error| Unreachable(error.to_string()))?;
    Ok(found.map(|(size_bytes, last_updated)| UploadedBlob { size_bytes, last_updated }))
}

#[cfg(test)]
mod tests {
    use base::hosts::NoMachine;
    use base::tasks::Tasks;
    use base::{InstanceId, Key, Scope};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use storage::AccountSettings;
    use store::{Durability, Location, Options, Store};

    use super::*;

    const NOW: i64 = 1_790_000_000;

    struct Test {
        files: FileAccounts,
        accounts: Accounts,
        clock: Clock,
        _directory: tempfile::TempDir,
    }

    /// A server with the account `storage`, which is the default one.
    async fn with_account() -> Test {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::File(directory.path().to_owned());
        let store = Store::open(&Options::new(location, Durability::Relaxed)).unwrap();
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        let hosts = Hosts::new("localhost", 8443, NoMachine);
        let context = storage::Context::new(store, clock.clone(), hosts.clone(), Tasks::new());
        let accounts = Accounts::new(context);
        let name = "storage".parse().unwrap();
        let scope = Scope::new("/subscriptions/s/a");
        let settings =
            AccountSettings::new(InstanceId::generate("storage", "storage"), name, scope, clock.now());
        let account = accounts.ensure(settings).await.unwrap();
        let container = "registry".parse().unwrap();
        account.create_container(&Caller::Key, &container, Metadata::default()).await.unwrap();
        let files = FileAccounts::new(accounts.clone(), hosts, clock.clone(), "storage".to_owned());
        Test { files, accounts, clock, _directory: directory }
    }

    impl Test {
        fn key(&self) -> Key {
            self.accounts.find("storage").unwrap().settings().keys[1].clone()
        }

        /// The container as a client signs it, for an hour.
        fn uri(permissions: &str, key: &Key) -> ContainerUri {
            let expiry = format!("{}Z", Timestamp::from_unix_seconds(NOW + 3600).iso_seconds());
            let version = "2020-12-06";
            let lines =
                [permissions, "", &expiry, "/blob/storage/registry", "", "", "", version, "c", "", ""];
            let text = lines.join("\n") + "\n\n\n\n\n";
            let signature = STANDARD.encode(key.hmac_sha256(text.as_bytes()));
            let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
            let query = format!("sp={permissions}&se={expiry}&sv={version}&sr=c&sig={signature}");
            ContainerUri::new(format!("https://127.0.0.1:1/storage/registry?{query}"))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_container_of_this_server_is_written_and_read_without_a_request_by_what_its_signature_permits()
    {
        let test = with_account().await;
        let (files, at) = (&test.files, Test::uri("racwdl", &test.key()));
        let ids: Vec<String> = ["one", "two"].map(|id| STANDARD.encode(id)).into();
        assert_eq!(files.read(&at, "a/b.txt", 0, 10).await, Ok(None));
        for (id, text) in ids.iter().zip(["hello ", "world"]) {
            files.put_block(&at, "a/b.txt", id, text.into()).await.unwrap();
        }
        for _ in 0..2 {
            files.commit_blocks(&at, "a/b.txt", &ids).await.unwrap();
        }
        for (from, most, expected) in [(0, 100, "hello world"), (6, 3, "wor"), (11, 5, ""), (50, 5, "")] {
            let portion = files.read(&at, "a/b.txt", from, most).await.unwrap().unwrap();
            assert_eq!((&portion.bytes[..], portion.blob_bytes), (expected.as_bytes(), 11));
        }
        let reader = Test::uri("rl", &test.key());
        let refused = files.put_block(&reader, "a/b.txt", &ids[0], "x".into()).await;
        assert!(matches!(refused, Err(ContainerFault::Refused(_))), "{refused:?}");
        assert!(matches!(files.remove(&reader, "a/b.txt").await, Err(ContainerFault::Refused(_))));
        // Signed with another key, it is some other account's, where nobody listens.
        let foreign = Test::uri("racwdl", &Key::generate(64));
        assert!(matches!(files.read(&foreign, "a/b.txt", 0, 1).await, Err(ContainerFault::Unreachable(_))));
        test.clock.advance(Duration::from_hours(1));
        assert!(matches!(files.read(&at, "a/b.txt", 0, 1).await, Err(ContainerFault::Refused(_))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hub_without_storage_has_a_container_in_the_default_account_as_long_as_that_is_there() {
        let test = with_account().await;
        for _ in 0..2 {
            let storage = test.files.default_storage("Plant", &Dialled::here()).await.unwrap();
            assert_eq!((&*storage.container_name, storage.ttl), ("iothub-plant", UPLOAD));
            let expires = test.clock.now().plus(UPLOAD);
            let grant = test.files.grant(&storage, "dev1/f", expires).unwrap();
            assert!(grant.host_name.contains(":8443"), "{}", grant.host_name);
            assert_eq!(test.files.look(&storage, "dev1/f").await, Ok(None));
        }
        let account = test.accounts.find("storage").unwrap();
        test.accounts.remove(account.instance()).await.unwrap();
        assert_eq!(test.files.default_storage("Plant", &Dialled::here()).await, None);
    }

    #[test]
    fn every_hub_has_a_container_of_its_own_whatever_its_name() {
        assert_eq!(container_of("Hub"), "iothub-hub");
        let longest = "a-".repeat(24) + "bc";
        let names = ["a-b", "a--b", "a---b", "ab", "a-b-", &longest, &"x".repeat(50)];
        let containers: std::collections::HashSet<String> =
            names.iter().map(|name| container_of(name)).collect();
        assert_eq!(containers.len(), names.len());
        for container in containers {
            assert!(container.parse::<ContainerName>().is_ok(), "{container}");
        }
    }
}
