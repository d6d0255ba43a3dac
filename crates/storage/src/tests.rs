//! Accounts over a store of their own, with a clock that moves when told: what is there, what is not, and what is left of it.

mod blocks;
mod containers;
mod removals;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base::hosts::{EveryName, Hosts};
use base::tasks::Tasks;
use base::{Clock, InstanceId, Scope, Timestamp, caps};
use bytes::Bytes;
use store::chunks::ChunkId;
use store::{Key, Scan, Store};

use crate::blob::conditions::Conditions;
use crate::removal::Removal;
use crate::*;

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) accounts: Accounts,
    pub(super) account: Account,
}

pub(super) const KEY: Caller = Caller::Key;

pub(super) fn container() -> ContainerName {
    "uploads".parse().unwrap()
}

pub(super) fn blob(name: &str) -> BlobName {
    name.parse().unwrap()
}

pub(super) fn new(kind: BlobKind) -> NewBlob {
    NewBlob { kind, headers: BlobHeaders::default(), metadata: Metadata::new() }
}

/// Bytes that tell where they stand.
pub(super) fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from((at + at / 251) % 253).unwrap()).collect::<Vec<_>>().into()
}

fn accounts(store: &Store, clock: &Clock) -> Accounts {
    let hosts = Hosts::new("example.test", 443, EveryName);
    Accounts::new(Context::new(store.clone(), clock.clone(), hosts, Tasks::new()))
}

pub(super) fn clock() -> Clock {
    Clock::manual(Timestamp::from_unix_seconds(1_750_000_000))
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::on(test_store::open().0, clock()).await
    }

    pub(super) async fn on(store: Store, clock: Clock) -> Self {
        let accounts = accounts(&store, &clock);
        let instance = InstanceId::from_stored("storage-account1-1");
        let name = "account1".parse().unwrap();
        let settings = AccountSettings::new(instance, name, Scope::new("/s"), clock.now());
        let account = accounts.ensure(settings).await.unwrap();
        account.create_container(&KEY, &container(), Metadata::new()).await.unwrap();
        Self { store, clock, accounts, account }
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<Found, Error> {
        self.put_by(&KEY, name, bytes, &Conditions::default()).await
    }

    pub(super) async fn put_by(
        &self,
        caller: &Caller,
        name: &str,
        bytes: Bytes,
        conditions: &Conditions,
    ) -> Result<Found, Error> {
        let (container, name) = (container(), blob(name));
        let length = Some(bytes.len() as u64);
        let mut writer = self.account.receive_blob(caller, (&container, &name), conditions, length).await?;
        for part in bytes.chunks(70_000) {
            writer.write(Bytes::copy_from_slice(part)).await?;
        }
        let new = new(BlobKind::Block);
        self.account.put_blob(caller, (&container, &name), new, conditions, writer, None).await
    }

    pub(super) async fn found(&self, name: &str) -> Result<Found, Error> {
        self.account.get_blob(&KEY, (&container(), &blob(name)), &Conditions::default()).await
    }

    pub(super) async fn read(&self, name: &str, range: Option<&str>) -> Result<Vec<u8>, Error> {
        let found = self.found(name).await?;
        let range = range.map(ByteRange::parse).transpose()?;
        read_all(self.account.read(&found, range)?.1).await
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Error> {
        self.account.delete_blob(&KEY, (&container(), &blob(name)), &Conditions::default()).await
    }

    /// Lets time pass and takes away what is due then.
    pub(super) async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.accounts.sweep().await.unwrap();
    }

    /// Whatever a blob let go of has gone.
    pub(super) async fn pass_until_let_go(&self) {
        self.pass(caps::BLOB_LET_GO_SECONDS + 1).await;
    }

    pub(super) async fn removals(&self) -> usize {
        self.store.scan::<Removal>(Scan::new(Key::all(), 1000)).await.unwrap().len()
    }

    pub(super) async fn has_chunk(&self, id: &ChunkId) -> bool {
        self.store.chunks().read(self.account.instance(), id, 0..1).await.is_ok()
    }

    pub(super) async fn chunks_of(&self, name: &str) -> Vec<ChunkId> {
        let found = self.found(name).await.unwrap();
        let blocks = self.account.blocks_of(found.blob.content.as_deref()).await.unwrap();
        blocks.into_iter().flat_map(|block| block.chunks).map(|chunk| chunk.id).collect()
    }
}

pub(super) async fn read_all(mut reader: Reader) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(part) = reader.next().await? {
        all.extend_from_slice(&part);
    }
    Ok(all)
}

#[tokio::test]
async fn a_blob_is_read_as_it_was_put_in_whole_and_in_part() {
    let f = Fixture::new().await;
    let long = bytes(2 * caps::CHUNK_BYTES_MAX + 12_345);
    let put = f.put("a/b c", long.clone()).await.unwrap();
    assert_eq!(f.chunks_of("a/b c").await.len(), 3);
    assert_eq!(f.read("a/b c", None).await.unwrap(), long);
    let edge = caps::CHUNK_BYTES_MAX;
    for (from, to) in [(0, 0), (edge - 1, edge), (1, 2 * edge + 7), (long.len() - 1, long.len() + 9)] {
        let read = f.read("a/b c", Some(&format!("bytes={from}-{to}"))).await.unwrap();
        assert!(read == long[from..long.len().min(to + 1)], "{from}-{to}");
    }
    assert_eq!(
        f.read("a/b c", Some(&format!("bytes={}-", long.len()))).await.unwrap_err().code(),
        "InvalidRange"
    );
    assert_eq!(f.found("a/b c").await.unwrap(), put);
    f.put("empty", Bytes::new()).await.unwrap();
    assert!(f.read("empty", None).await.unwrap().is_empty());
    // What noted the chunks before they were written is gone.
    assert_eq!(f.removals().await, 0);
    assert_eq!(f.read("other", None).await, Err(Error::BlobNotFound));
}

#[tokio::test]
async fn a_body_that_is_too_long_or_does_not_sum_up_leaves_nothing() {
    let f = Fixture::new().await;
    let (container, name) = (container(), blob("b"));
    let (at, none) = ((&container, &name), Conditions::default());
    let too_long = f.account.receive_blob(&KEY, at, &none, Some(caps::BLOB_BYTES_MAX + 1)).await;
    assert_eq!(too_long.err(), Some(Error::RequestBodyTooLarge));
    let mut writer = f.account.receive_blob(&KEY, at, &none, None).await.unwrap();
    writer.write("abc".into()).await.unwrap();
    let put = f.account.put_blob(&KEY, at, new(BlobKind::Block), &none, writer, Some([0; 16])).await;
    assert_eq!(put.err(), Some(Error::Md5Mismatch));
    assert_eq!(f.found("b").await, Err(Error::BlobNotFound));
    let md5 = f.put("b", "abc".into()).await.unwrap().blob.headers.content_md5;
    assert_eq!(md5.as_deref(), Some("kAFQmDzST7DWlj99KOF/cg=="));
}

#[tokio::test]
async fn a_condition_is_held_against_what_is_there_when_it_is_committed() {
    let f = Fixture::new().await;
    let absent = Conditions { if_none_match: Some("*".into()), ..Conditions::default() };
    let first = f.put_by(&KEY, "b", "1".into(), &absent).await.unwrap();
    assert_eq!(f.put_by(&KEY, "b", "2".into(), &absent).await, Err(Error::BlobAlreadyExists));
    let same = Conditions { if_match: Some(first.etag.clone()), ..Conditions::default() };
    let second = f.put_by(&KEY, "b", "2".into(), &same).await.unwrap();
    assert_ne!(second.etag, first.etag);
    assert_eq!(second.blob.created, first.blob.created);
    assert_eq!(f.put_by(&KEY, "b", "3".into(), &same).await, Err(Error::ConditionNotMet));
    // Somebody else comes between the body and the commit.
    let (container, name) = (container(), blob("c"));
    let at = (&container, &name);
    let mut writer = f.account.receive_blob(&KEY, at, &absent, None).await.unwrap();
    writer.write("late".into()).await.unwrap();
    f.put("c", "early".into()).await.unwrap();
    let late = f.account.put_blob(&KEY, at, new(BlobKind::Block), &absent, writer, None).await;
    assert_eq!(late.err(), Some(Error::BlobAlreadyExists));
    assert_eq!(f.read("c", None).await.unwrap(), b"early");
}

#[tokio::test]
async fn metadata_and_headers_are_changed_without_the_bytes() {
    let f = Fixture::new().await;
    f.put("b", "bytes".into()).await.unwrap();
    let (container, name, none) = (container(), blob("b"), Conditions::default());
    let at = (&container, &name);
    let metadata = Metadata::from([("Some_Name".into(), "v".into()), ("some".into(), "a b".into())]);
    let changed = f.account.set_blob_metadata(&KEY, at, &metadata, &none).await.unwrap();
    assert_eq!(changed.blob.metadata, metadata);
    let headers = BlobHeaders { content_type: Some("text/plain".into()), ..BlobHeaders::default() };
    f.account.set_blob_headers(&KEY, at, &headers, &none).await.unwrap();
    let found = f.found("b").await.unwrap();
    assert_eq!((found.blob.metadata, found.blob.headers), (metadata, headers));
    assert_eq!(f.read("b", None).await.unwrap(), b"bytes");
    for (name, error) in
        [("a-b", Error::InvalidMetadata), ("1", Error::InvalidMetadata), ("", Error::InvalidMetadata)]
    {
        let metadata = Metadata::from([(name.to_owned(), String::new())]);
        assert_eq!(f.account.set_blob_metadata(&KEY, at, &metadata, &none).await, Err(error), "{name}");
    }
    let long = Metadata::from([("a".to_owned(), "x".repeat(caps::BLOB_METADATA_BYTES_MAX))]);
    assert_eq!(f.account.set_blob_metadata(&KEY, at, &long, &none).await, Err(Error::MetadataTooLarge));
}

fn token(f: &Fixture, name: &str, permissions: &[sas::Permission], key: usize) -> Caller {
    let (settings, expiry) = (f.account.settings(), f.clock.now().plus(Duration::from_secs(3600)));
    let blob = (&container(), &blob(name));
    let query = sas::build_for_blob(f.account.name(), blob, permissions, expiry, &settings.keys[key]);
    let pairs: Vec<(String, String)> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| {
            (name.to_owned(), percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into())
        })
        .collect();
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sas = Box::new(Sas::parse(&pairs).unwrap().unwrap());
    Caller::Sas { sas, is_https: true, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

#[tokio::test]
async fn a_token_lets_do_what_it_says_to_its_own_blob_until_its_key_is_another() {
    use sas::Permission::{Create, Read, Write};
    let f = Fixture::new().await;
    let none = Conditions::default();
    let refused = |result: Result<Found, Error>| result.unwrap_err().code();
    let create = token(&f, "b", &[Create], 0);
    f.put_by(&create, "b", "1".into(), &none).await.unwrap();
    assert_eq!(refused(f.put_by(&create, "b", "2".into(), &none).await), "AuthorizationPermissionMismatch");
    assert_eq!(refused(f.put_by(&create, "c", "2".into(), &none).await), "AuthenticationFailed");
    let write = token(&f, "b", &[Read, Write], 1);
    f.put_by(&write, "b", "2".into(), &none).await.unwrap();
    let (container, name) = (container(), blob("b"));
    assert!(f.account.get_blob(&write, (&container, &name), &none).await.is_ok());
    assert_eq!(
        refused(f.account.get_blob(&create, (&container, &name), &none).await),
        "AuthorizationPermissionMismatch"
    );
    let deleted = f.account.delete_blob(&write, (&container, &name), &none).await;
    assert_eq!(deleted.unwrap_err().code(), "AuthorizationPermissionMismatch");
    for refused in [
        f.account.create_container(&write, &container, Metadata::new()).await.err(),
        f.account.list_containers(&write, &Listing::default()).await.err(),
        f.account.get_policies(&write, &container).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::Refused(_))), "{refused:?}");
    }
    f.account.regenerate_key(KeyName::Key2).await.unwrap();
    assert_eq!(refused(f.put_by(&write, "b", "3".into(), &none).await), "AuthenticationFailed");
    assert!(f.account.permit(&create, sas::Target::Blob(&container, &name), &[Create]).await.is_ok());
}

#[tokio::test]
async fn an_account_is_found_again_after_a_restart_and_by_its_connection_string() {
    let f = Fixture::new().await;
    f.put("dev1/file", "12345".into()).await.unwrap();
    let again = accounts(&f.store, &f.clock);
    again.load().await.unwrap();
    let key = f.account.settings().keys[1].text().to_owned();
    let string =
        format!("DefaultEndpointsProtocol=https;AccountName=account1;AccountKey={key};EndpointSuffix=x");
    let opened_by = |string: &str| again.opened_by(&AccountAddress::parse(string).unwrap());
    let account = opened_by(&string).unwrap();
    let found = account.length_of((&container(), &blob("dev1/file"))).await.unwrap();
    assert_eq!(found.map(|(length, _)| length), Some(5));
    assert_eq!(account.length_of((&container(), &blob("dev1/other"))).await, Ok(None));
    assert_eq!(account.length_of((&"other".parse().unwrap(), &blob("dev1/file"))).await, Ok(None));
    for other in [
        string.replace("account1", "account2"),
        string.replace(&key, base::Key::generate(64).text()),
        string.replace(&format!("AccountKey={key}"), "SharedAccessSignature=sv=1"),
    ] {
        assert!(opened_by(&other).is_none(), "{other}");
    }
}
