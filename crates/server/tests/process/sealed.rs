//! Secrets of the server's own on a database: every data directory on it is served with the same ones, and nobody reads them there
//! who has not the key.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base::Key;

use super::{Server, client, deadline, environment, log_in, own_address, twinhub};

fn command(
    database: &test_postgres::Database,
    directory: &Path,
    address: &str,
    key: Option<&Path>,
) -> Command {
    let mut command = Server::command(directory, address);
    command.env("TWINHUB_STORE", database.url()).stderr(Stdio::piped());
    if let Some(key) = key {
        command.arg("--cluster-key-file").arg(key);
    }
    command
}

/// A new key, in a file that its owner alone may read.
fn key_file(directory: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, format!("{}\n", Key::generate(32).text())).unwrap();
    allow(&path, 0o600);
    path
}

fn allow(path: &Path, mode: u32) {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    #[cfg(not(unix))]
    let _ = (path, mode);
}

fn refused(mut command: Command) -> String {
    let output = deadline::output(&mut command);
    assert!(!output.status.success(), "it was started");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_fresh_data_directory_on_a_used_database_serves_with_the_same_authority_keys_and_tokens() {
    let Some(database) = test_postgres::database() else { return };
    let [one, other, keys] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    let (key, address) = (key_file(&keys, "key"), own_address());
    let server = Server::spawn(command(&database, one.path(), &address, Some(&key)), address.clone());
    let (variables, token) = log_in(one.path()).await;
    assert!(server.terminate().success());

    let server = Server::spawn(command(&database, other.path(), &address, Some(&key)), address.clone());
    for name in ["ca.pem", "admin.key"] {
        let [first, second] =
            [&one, &other].map(|directory| std::fs::read(directory.path().join(name)).unwrap());
        assert_eq!(first, second, "{name}");
    }
    let [was, is] = [one.path(), other.path()].map(|path| path.to_str().unwrap());
    let expected = variables.into_iter().map(|(name, value)| (name, value.replace(was, is))).collect();
    assert_eq!(environment(other.path()), expected);
    let subscriptions = server.url("/subscriptions?api-version=2022-12-01");
    let headers = [("authorization", token.as_str())];
    let answer = client(one.path()).send("GET", &subscriptions, &headers, "").await.unwrap();
    assert_eq!(answer.status, 200, "a token from before");
    let (ok, _, said) = twinhub(other.path(), &["status"]);
    assert!(ok, "{said}");
    let said = server.said();
    assert!(!said.contains("in the clear"), "{said}");
    let stored = database.query("SELECT string_agg(doc, ' ') FROM twinhub.server_secret");
    assert_eq!(stored.matches("AES-256-GCM").count(), 4, "{stored}");
    let tenant = database.query("SELECT doc FROM twinhub.tenant");
    assert!(!tenant.contains("pkcs8") && !stored.contains("pkcs8"), "{tenant}");
    for directory in [&one, &other] {
        assert!(!directory.path().join("ca-key.pem").exists(), "the key stays where it is sealed");
    }
}

/// Every word that could be a key, or a line of one, among what is stored in the clear.
fn keys_in_the_clear(database: &test_postgres::Database) -> Vec<String> {
    let stored = database.query("SELECT string_agg(doc, ' ') FROM twinhub.server_secret");
    let stored = stored.replace("\\n", " ");
    let words = stored.split(|c: char| !(c.is_ascii_alphanumeric() || c == '+' || c == '/'));
    words.filter(|word| word.len() >= 32).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_sealed_database_is_served_with_its_key_and_no_other() {
    let Some(database) = test_postgres::database() else { return };
    let [one, other, keys] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    let (key, wrong) = (key_file(&keys, "key"), key_file(&keys, "wrong"));
    // At its loudest, into a file: nobody reads while it runs.
    let start = |key: Option<&Path>| {
        let (address, log) = (own_address(), keys.path().join("log"));
        let mut command = command(&database, one.path(), &address, key);
        command.env("TWINHUB_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
        assert!(Server::spawn(command, address).terminate().success());
        std::fs::read_to_string(log).unwrap()
    };
    let first = start(None);
    assert_eq!(first.matches("in the clear: whoever reads it").count(), 1, "{first}");
    let secrets = keys_in_the_clear(&database);
    assert!(secrets.len() > 10, "lines of three keys and two certificates");
    let second_time = start(Some(&key));
    assert!(second_time.contains("are sealed from now on"), "{second_time}");
    let said = start(Some(&key));
    let stored = database.query("SELECT string_agg(doc, ' ') FROM twinhub.server_secret");
    for secret in &secrets {
        for (place, text) in [("log", &first), ("log", &second_time), ("log", &said), ("database", &stored)] {
            assert!(!text.contains(secret), "a secret is in the {place}");
        }
    }
    assert!(!said.contains("sealed from now on") && !said.contains("in the clear"), "{said}");

    let second = |key: Option<&Path>| refused(command(&database, other.path(), &own_address(), key));
    let said = second(None);
    assert!(said.contains("are sealed with the key") && said.contains("--cluster-key-file"), "{said}");
    let said = second(Some(&wrong));
    assert!(said.contains("give the file that they were sealed with"), "{said}");
    for file in [&key, &wrong] {
        assert!(!said.contains(std::fs::read_to_string(file).unwrap().trim()), "{said}");
    }
    allow(&key, 0o640);
    if cfg!(unix) {
        let said = second(Some(&key));
        assert!(said.contains("others may read") && said.contains("chmod go-rwx"), "{said}");
    }
    std::fs::write(&wrong, "too short").unwrap();
    let said = second(Some(&wrong));
    assert!(said.contains("openssl rand -base64 32") && !said.contains("too short"), "{said}");

    allow(&key, 0o600);
    let exchange = "UPDATE twinhub.server_secret AS one SET doc = other.doc FROM twinhub.server_secret AS other \
                    WHERE (one.name, other.name) IN (('ca-key.pem', 'admin.key'), ('admin.key', 'ca-key.pem'))";
    database.query(exchange);
    let said = second(Some(&key));
    assert!(said.contains("ca-key.pem is not what was sealed under this name"), "{said}");
    database.query(exchange);
    assert!(start(Some(&key)).contains("ended"), "as it was");
}

#[tokio::test]
async fn a_data_directory_with_another_authority_than_the_databases_is_refused() {
    if !test_postgres::runs_embedded("it begins without a database") {
        return;
    }
    let Some(database) = test_postgres::database() else { return };
    let [one, other] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    for directory in [&one, &other] {
        assert!(Server::start(directory.path()).terminate().success());
    }
    let root = |directory: &tempfile::TempDir| std::fs::read(directory.path().join("ca.pem")).unwrap();
    let before = [root(&one), root(&other)];
    let address = own_address();
    let server = Server::spawn(command(&database, one.path(), &address, None), address.clone());
    let answer = client(one.path()).send("GET", &server.url("/healthz"), &[], "").await.unwrap();
    assert_eq!(answer.status, 200, "the directory's authority is the database's");
    assert!(server.terminate().success());
    let said = refused(command(&database, other.path(), &own_address(), None));
    assert!(said.contains("another than the database's") && said.contains("move ca.pem"), "{said}");
    assert_eq!([root(&one), root(&other)], before);
}

#[test]
fn a_key_for_a_database_is_refused_where_there_is_none() {
    if !test_postgres::runs_embedded("it begins without a database") {
        return;
    }
    let [directory, keys] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let mut command = Server::command(directory.path(), &own_address());
    command.arg("--cluster-key-file").arg(key_file(&keys, "key"));
    let said = refused(command);
    assert!(said.contains("keeps them in files of its data directory"), "{said}");
    assert!(!directory.path().join("ca.pem").exists());
}
