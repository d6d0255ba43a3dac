//! The client of storage accounts against a small one of its own: signatures, answers, and whoever is silent, too large or not who it
//! says. `azurite.rs` holds it against a whole one.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod account;

use std::io::Write;
use std::time::Duration;

use base::{Clock, ConnectionString, Timestamp};
use bytes::Bytes;
use delivery::{Account, DeliveryError, ForeignStorage, Requests, Trust};
use hub::StorageEndpoint;
use hub::file_upload::{FileStorage, NoGrant, UploadedBlob};
use storage::{AccountAddress, BlobName, ContainerName};

use self::account::{CONTAINER, KEY, TestAccount};

fn clock() -> Clock {
    Clock::manual("2026-11-28T10:00:00Z".parse().unwrap())
}

fn requests(account: &TestAccount) -> (Requests, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(account.authority_pem.as_bytes()).unwrap();
    (Requests::new(Trust::of_file(file.path())), file)
}

fn names() -> (ContainerName, BlobName) {
    (CONTAINER.parse().unwrap(), "dev1/a b+ü.txt".parse().unwrap())
}

#[tokio::test]
async fn a_blob_is_put_looked_at_read_and_deleted_over_http_and_https() {
    for is_https in [false, true] {
        let account = TestAccount::start(is_https, clock()).await;
        let (requests, _file) = requests(&account);
        let (address, clock) = (AccountAddress::parse(&account.connection_string()).unwrap(), clock());
        let (container, blob) = names();
        let client = Account::new(&address, &requests, &clock);
        assert_eq!(client.has_container(&container).await, Ok(true));
        assert_eq!(client.has_container(&"other".parse().unwrap()).await, Ok(false));
        assert_eq!(client.properties(&container, &blob).await, Ok(None));
        client.put(&container, &blob, "text/plain", Bytes::from("21 degrees")).await.unwrap();
        let found = client.properties(&container, &blob).await.unwrap().unwrap();
        assert_eq!((found.size_bytes, found.last_modified), (10, clock.now()));
        assert_eq!(client.get(&container, &blob).await, Ok(Some(Bytes::from("21 degrees"))));
        assert_eq!(client.delete(&container, &blob).await, Ok(true));
        assert_eq!(client.delete(&container, &blob).await, Ok(false));
        assert_eq!(client.get(&container, &blob).await, Ok(None));
    }
}

#[tokio::test]
async fn names_are_listed_page_by_page_with_what_xml_escapes() {
    let account = TestAccount::start(false, clock()).await;
    let (requests, _file) = requests(&account);
    let (address, clock) = (AccountAddress::parse(&account.connection_string()).unwrap(), clock());
    let client = Account::new(&address, &requests, &clock);
    let container: ContainerName = CONTAINER.parse().unwrap();
    let names = ["dev1/1", "dev1/<a>&\"b\"", "dev1/ü x", "dev2/1"];
    for name in names {
        client.put(&container, &name.parse().unwrap(), "text/plain", Bytes::new()).await.unwrap();
    }
    let (mut found, mut marker) = (Vec::new(), None);
    loop {
        let page = client.list(&container, "dev1/", marker.as_deref()).await.unwrap();
        assert!(page.names.len() <= 2);
        found.extend(page.names);
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(found, names[..3]);
}

#[tokio::test]
async fn another_key_is_refused_by_name_and_no_key_is_told() {
    let account = TestAccount::start(false, clock()).await;
    let (requests, _file) = requests(&account);
    let other = account.connection_string().replace(KEY, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let (address, clock) = (AccountAddress::parse(&other).unwrap(), clock());
    let (container, blob) = names();
    let refused = Account::new(&address, &requests, &clock).properties(&container, &blob).await.unwrap_err();
    assert!(
        matches!(&refused, DeliveryError::Refused { status: 403, code: Some(code), .. } if code == "AuthenticationFailed"),
        "{refused}"
    );
    assert!(refused.to_string().contains("answered 403 (AuthenticationFailed)"));
}

#[tokio::test]
async fn who_is_silent_away_or_too_talkative_is_given_up() {
    let account = TestAccount::start(false, clock()).await;
    let (requests, _file) = requests(&account);
    let clock = clock();
    let container: ContainerName = CONTAINER.parse().unwrap();
    let of = async |text: &str, blob: &str, deadline: Duration| {
        let address = AccountAddress::parse(text).unwrap();
        let client = Account::new(&address, &requests, &clock).within(deadline);
        match client.get(&container, &blob.parse().unwrap()).await {
            Err(DeliveryError::Unreachable { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    };
    let here = account.connection_string();
    let why = of(&here, "silent", Duration::from_millis(200)).await;
    assert!(why.contains("did not answer"), "{why}");
    let why = of(&here, "endless", Duration::from_secs(30)).await;
    assert!(why.contains("did not end its answer well"), "{why}");
    // Before or after its head has arrived.
    let why = of(&here, "cut", Duration::from_secs(30)).await;
    assert!(why.contains("did not end its answer well") || why.contains("broke off"), "{why}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = format!("BlobEndpoint=http://{closed}/acct;AccountKey={KEY}");
    let why = of(&nobody, "x", Duration::from_secs(30)).await;
    assert!(why.contains("cannot be reached"), "{why}");
}

#[tokio::test]
async fn an_account_whose_certificate_nobody_vouches_for_is_not_asked() {
    let (account, other) = (TestAccount::start(true, clock()).await, TestAccount::start(true, clock()).await);
    let (requests, _file) = requests(&other);
    let (address, clock) = (AccountAddress::parse(&account.connection_string()).unwrap(), clock());
    let (container, blob) = names();
    let refused = Account::new(&address, &requests, &clock).properties(&container, &blob).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be reached over TLS"), "{refused}");
    assert_eq!(account.asked(), 0);
}

fn endpoint(text: &str) -> StorageEndpoint {
    StorageEndpoint {
        connection_string: ConnectionString::new(text),
        container_name: CONTAINER.to_owned(),
        ttl: Duration::from_hours(1),
    }
}

/// What a device does with what it is given, and what the hub sees of it then.
#[tokio::test]
async fn a_device_writes_its_blob_with_what_it_is_given_and_the_hub_sees_it() {
    let clock = clock();
    let account = TestAccount::start(true, clock.clone()).await;
    let (requests, _file) = requests(&account);
    let (storage, at) =
        (ForeignStorage::new(requests.clone(), clock.clone()), endpoint(&account.connection_string()));
    let expires = clock.now().plus(Duration::from_hours(1));
    let grant = storage.grant(&at, "dev1/a b+ü.txt", expires).unwrap();
    assert_eq!(grant.host_name, account.host_name());
    assert!(grant.blob_uri.ends_with("/files/dev1/a%20b%2B%C3%BC.txt"), "{}", grant.blob_uri);
    // As a client does: everything behind the account's host is what it was given.
    let signature = grant.sas_token.strip_prefix('?').unwrap();
    let by_signature = format!("BlobEndpoint=https://{}/;SharedAccessSignature={signature}", grant.host_name);
    let address = AccountAddress::parse(&by_signature).unwrap();
    let client = Account::new(&address, &requests, &clock);
    let (container, blob) = names();
    client.put(&container, &blob, "text/plain", Bytes::from("x")).await.unwrap();
    assert_eq!(client.get(&container, &blob).await, Ok(Some(Bytes::from("x"))));
    let other: BlobName = "dev1/other".parse().unwrap();
    let beside = client.put(&container, &other, "text/plain", Bytes::from("x")).await;
    assert!(matches!(beside, Err(DeliveryError::Refused { status: 403, .. })), "it is for one blob");
    let deleted = client.delete(&container, &blob).await;
    assert!(matches!(deleted, Err(DeliveryError::Refused { status: 403, .. })), "it may read and write");
    let seen = storage.look(&at, "dev1/a b+ü.txt").await;
    assert_eq!(seen, Ok(Some(UploadedBlob { size_bytes: 1, last_updated: clock.now() })));
    assert_eq!(storage.look(&at, "dev1/other").await, Ok(None));
    clock.advance(Duration::from_hours(1));
    let late = client.put(&container, &blob, "text/plain", Bytes::from("y")).await;
    assert!(matches!(late, Err(DeliveryError::Refused { status: 403, .. })), "its time is over");
}

#[test]
fn what_no_account_signs_is_refused_for_what_it_is() {
    let requests = Requests::new(Trust::of_this_machine());
    let storage = ForeignStorage::new(requests, clock());
    let at = endpoint(&format!("AccountName=acct;AccountKey={KEY}"));
    let expires = Timestamp::from_unix_seconds(2_000_000_000);
    for name in ["dev1/../x", "dev1/\u{1}", &format!("dev1/{}", "x".repeat(1024))] {
        assert!(matches!(storage.grant(&at, name, expires), Err(NoGrant::Name(_))), "{name}");
    }
    for opens in ["", "BlobEndpoint=https://acct.example;SharedAccessSignature=sig=x"] {
        assert!(matches!(storage.grant(&endpoint(opens), "dev1/x", expires), Err(NoGrant::Account(_))));
    }
    let host = storage.grant(&at, "dev1/x", expires).unwrap().host_name;
    assert_eq!(host, "acct.blob.core.windows.net");
}
