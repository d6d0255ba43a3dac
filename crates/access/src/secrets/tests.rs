//! Secrets in a store, as one server and as several find them.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, Timestamp};
use store::{Durability, Location, Options};
use tempfile::TempDir;

use super::record::{Content, SecretRecord, key_of};
use super::*;
use crate::Certificates;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const ADMIN: Name = Name::AdminKey;
const TOKENS: Name = Name::TokenSigningKey;

fn key(text: &str) -> SealingKey {
    text.parse().unwrap()
}

fn memory() -> store::Store {
    store::Store::open(&Options::memory()).unwrap()
}

async fn document(store: &store::Store, name: Name) -> SecretRecord {
    store.get::<SecretRecord>(&key_of(name.text())).await.unwrap().unwrap().record
}

/// What is stored, changed by somebody who can write to the database.
async fn change(store: &store::Store, record: &SecretRecord) {
    let mut batch = store::Batch::default();
    batch.put(record);
    store.commit(batch).await.unwrap();
}

async fn refused(store: &store::Store, key: Option<SealingKey>) -> SecretError {
    Vault::open(store.clone(), key).await.map(drop).unwrap_err()
}

/// A server's data directory on a database.
async fn certificates(vault: &Vault, directory: &Path) -> Result<Certificates, String> {
    let secrets = ServerSecrets::Database { vault: vault.clone(), directory: directory.to_owned() };
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let opened = tokio::task::spawn_blocking(move || Certificates::open(&secrets, clock)).await.unwrap();
    opened.map_err(|error| error.to_string())
}

fn read(directory: &TempDir, name: &str) -> String {
    std::fs::read_to_string(directory.path().join(name)).unwrap()
}

#[test]
fn a_key_is_32_bytes_as_base64_or_hex_and_names_itself_by_what_tells_nothing() {
    let hex = key(KEY);
    let base64: SealingKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n".parse().unwrap();
    assert_eq!(hex.id(), base64.id());
    assert_ne!(hex.id(), key(OTHER).id());
    assert_eq!(format!("{hex:?}"), format!("SealingKey({})", hex.id()));
    let too_long = format!("{KEY}00");
    for text in
        ["", "secret", "AAECAwQFBgcICQoLDA0ODw==", &too_long, &KEY.replace('f', "g"), &KEY.replace("1f", "é")]
    {
        let said = text.parse::<SealingKey>().unwrap_err().to_string();
        assert!(said.contains("openssl rand -base64 32"), "{text}: {said}");
    }
}

#[tokio::test]
async fn what_is_sealed_is_not_in_the_database_and_opens_with_its_key_alone() {
    let store = memory();
    let vault = Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
    assert_eq!(vault.keep(ADMIN, "a secret").await.unwrap(), "a secret");
    assert_eq!(vault.keep(TOKENS, "a secret").await.unwrap(), "a secret");
    let documents = [document(&store, ADMIN).await, document(&store, TOKENS).await];
    let texts = documents.each_ref().map(|document| serde_json::to_string(document).unwrap());
    let [Content::Sealed(one), Content::Sealed(two)] = documents.each_ref().map(|document| &document.content)
    else {
        panic!("{texts:?}")
    };
    assert_ne!(one.nonce, two.nonce);
    assert!(
        texts.iter().all(|text| !text.contains("a secret") && !text.contains("YSBzZWNyZXQ")),
        "{texts:?}"
    );

    let again = Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
    assert_eq!(again.get(ADMIN).await.unwrap().unwrap(), "a secret");
    let said = refused(&store, None).await.to_string();
    assert!(said.contains("no key was given: start with --cluster-key-file"), "{said}");
    let said = refused(&store, Some(key(OTHER))).await.to_string();
    let [right, wrong] = [KEY, OTHER].map(|text| key(text).id().to_owned());
    assert!(
        said.contains(&format!("the key {right}")) && said.contains(&format!("the key {wrong}")),
        "{said}"
    );
}

#[tokio::test]
async fn a_row_that_was_changed_or_exchanged_stops_the_start() {
    let store = memory();
    let vault = Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
    vault.keep(ADMIN, "one").await.unwrap();
    vault.keep(TOKENS, "two").await.unwrap();
    let (admin, tokens) = (document(&store, ADMIN).await, document(&store, TOKENS).await);

    let mut flipped = admin.clone();
    let Content::Sealed(sealed) = &mut flipped.content else { panic!("it is sealed") };
    let first = if sealed.ciphertext.starts_with('A') { "B" } else { "A" };
    sealed.ciphertext.replace_range(..1, first);
    change(&store, &flipped).await;
    assert!(matches!(refused(&store, Some(key(KEY))).await, SecretError::Changed { name: "admin.key" }));

    // The content of one under the name of the other.
    change(&store, &SecretRecord { content: tokens.content.clone(), ..admin.clone() }).await;
    let said = refused(&store, Some(key(KEY))).await.to_string();
    assert!(said.contains("admin.key") && said.contains("exchanged"), "{said}");

    change(&store, &SecretRecord { version: 2, ..admin.clone() }).await;
    assert!(matches!(refused(&store, Some(key(KEY))).await, SecretError::Later { .. }));
    change(&store, &admin).await;
    assert!(Vault::open(store, Some(key(KEY))).await.is_ok());
}

#[tokio::test]
async fn a_database_in_the_clear_is_sealed_by_the_first_key() {
    let store = memory();
    let vault = Vault::open(store.clone(), None).await.unwrap();
    for name in [ADMIN, TOKENS] {
        vault.keep(name, "a secret").await.unwrap();
        assert!(matches!(document(&store, name).await.content, Content::Clear { .. }));
    }
    let vault = Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
    for name in [ADMIN, TOKENS] {
        assert!(matches!(document(&store, name).await.content, Content::Sealed(_)));
        assert_eq!(vault.get(name).await.unwrap().unwrap(), "a secret");
    }
    assert!(matches!(refused(&store, None).await, SecretError::NoKey { .. }));
}

#[tokio::test]
async fn whoever_comes_second_takes_what_is_there() {
    let store = memory();
    let vault = async || Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
    let (one, other) = (vault().await, vault().await);
    assert_eq!(one.keep(ADMIN, "first").await.unwrap(), "first");
    assert_eq!(other.keep(ADMIN, "second").await.unwrap(), "first");
}

#[tokio::test]
async fn a_fresh_data_directory_gets_the_authority_of_the_database_and_no_key() {
    let vault = Vault::open(memory(), None).await.unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = certificates(&vault, one.path()).await.unwrap();
    tokio::task::spawn_blocking(move || first.open_rsa()).await.unwrap().unwrap();
    certificates(&vault, other.path()).await.unwrap();
    let names = |directory: &TempDir| {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for directory in [&one, &other] {
        assert_eq!(names(directory), ["ca-bundle.pem", "ca-rsa.pem", "ca.pem"]);
        assert!(read(directory, "ca-bundle.pem").contains(read(directory, "ca-rsa.pem").trim()));
    }
    for name in ["ca.pem", "ca-rsa.pem"] {
        assert_eq!(read(&one, name), read(&other, name));
    }
    // A copy that was lost or spoilt at its end comes back.
    std::fs::remove_file(other.path().join("ca.pem")).unwrap();
    certificates(&vault, other.path()).await.unwrap();
    assert_eq!(read(&one, "ca.pem"), read(&other, "ca.pem"));
}

#[tokio::test]
async fn a_database_takes_over_the_authority_of_its_data_directory_and_refuses_another() {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let [one, other, fresh] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    for directory in [&one, &other] {
        let files = ServerSecrets::Files(directory.path().to_owned());
        Certificates::open(&files, clock.clone()).unwrap().open_rsa().unwrap();
    }
    let vault = Vault::open(memory(), Some(key(KEY))).await.unwrap();
    let before = ["ca.pem", "ca-key.pem", "ca-rsa.pem", "ca-rsa-key.pem"].map(|name| read(&one, name));
    for directory in [&one, &one, &fresh] {
        certificates(&vault, directory.path()).await.unwrap();
    }
    assert_eq!(["ca.pem", "ca-key.pem", "ca-rsa.pem", "ca-rsa-key.pem"].map(|name| read(&one, name)), before);
    assert_eq!(
        ["ca.pem", "ca-rsa.pem"].map(|name| read(&fresh, name)),
        [before[0].clone(), before[2].clone()]
    );
    for name in ["ca.pem", "ca-key.pem", "ca-rsa.pem", "ca-rsa-key.pem"] {
        let mixed = tempfile::tempdir().unwrap();
        std::fs::copy(other.path().join(name), mixed.path().join(name)).unwrap();
        let said = certificates(&vault, mixed.path()).await.unwrap_err();
        assert!(said.contains(&format!("{name} is another than the database's")), "{said}");
        assert_eq!(read(&mixed, name), read(&other, name));
    }
}

#[tokio::test]
async fn a_root_without_its_key_makes_no_authority_of_a_database() {
    let (one, vault) = (tempfile::tempdir().unwrap(), Vault::open(memory(), None).await.unwrap());
    let files = ServerSecrets::Files(one.path().to_owned());
    Certificates::open(&files, Clock::manual(Timestamp::from_unix_seconds(1_800_000_000))).unwrap();
    std::fs::remove_file(one.path().join("ca-key.pem")).unwrap();
    let said = certificates(&vault, one.path()).await.unwrap_err();
    assert!(said.contains("ca-key.pem is missing"), "{said}");
    assert!(vault.get(Name::Root(KeyKind::Ecdsa)).await.unwrap().is_none(), "nothing was taken over");
}

#[tokio::test]
async fn the_admin_key_of_the_database_is_every_directorys() {
    let vault = Vault::open(memory(), None).await.unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(other.path().join("admin.key"), "of another server\n").unwrap();
    for (directory, made) in [(&one, "first\n"), (&other, "second\n")] {
        let secrets =
            ServerSecrets::Database { vault: vault.clone(), directory: directory.path().to_owned() };
        let ensure = move || secrets.ensure(ADMIN, || Ok::<_, SecretError>(made.to_owned()));
        assert_eq!(tokio::task::spawn_blocking(ensure).await.unwrap().unwrap(), "first\n");
        assert_eq!(read(directory, "admin.key"), "first\n");
        #[cfg(unix)]
        {
            let metadata = std::fs::metadata(directory.path().join("admin.key")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077, 0);
        }
    }
}

#[test]
fn servers_that_start_at_once_on_an_empty_database_have_one_authority() {
    let Some(database) = test_postgres::database() else { return };
    let together = Arc::new(std::sync::Barrier::new(4));
    let start = || {
        let (directory, together) = (tempfile::tempdir().unwrap(), together.clone());
        let location = Location::Postgres(base::Secret::new(database.url()));
        move || {
            let store = store::Store::open(&Options::new(location, Durability::Relaxed)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let vault = Vault::open(store.clone(), Some(key(KEY))).await.unwrap();
                together.wait();
                certificates(&vault, directory.path()).await.unwrap();
                let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
                let context = crate::directory::Context {
                    store,
                    clock,
                    domain: "localhost".to_owned(),
                    own_hosts: Vec::new(),
                    vault: Some(vault),
                };
                let tenant = crate::Directory::with(context).await.unwrap();
                let signing_key = tenant.signing_key().key_id.clone();
                (read(&directory, "ca.pem"), tenant.tenant_id().to_owned(), signing_key)
            })
        }
    };
    let servers: Vec<_> = (0..4).map(|_| std::thread::spawn(start())).collect();
    let found: Vec<_> = servers.into_iter().map(|server| server.join().unwrap()).collect();
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
    assert_eq!(database.query("SELECT count(*) FROM twinhub.server_secret"), "3");
    assert_eq!(
        database.query("SELECT count(*) FROM twinhub.server_secret WHERE doc LIKE '%PRIVATE KEY%'"),
        "0"
    );
}
