//! What an operator does about the data, through the built binary: ends a server, checks and repairs its records, backs it up and
//! restores it.

#![allow(clippy::unwrap_used, reason = "helpers of a test end it like the test itself")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, Key, sas};
use deadline::Deadline;
use server::client::{Https, Login, MqttClient, Trust};

#[path = "fixture/deadline.rs"]
mod deadline;

/// A deadline for whatever a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address of its own for every server of this test process, so that runs do not meet.
fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{}.{}", 20 + high % 60, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn twinhub(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(arguments).arg("--data-dir").arg(directory);
    command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0").stdin(Stdio::null());
    command
}

/// Whether a command about a data directory succeeded, and all that it said.
fn run(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = deadline::output(&mut twinhub(arguments, directory));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

struct Server {
    child: Child,
    _deadline: Deadline,
}

impl Server {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    fn start_with(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = twinhub(&["serve", "--listen", &own_address()], directory);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Deadline::of(&child);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("twinhub is ready"), "{line:?}");
        Self { child, _deadline: deadline }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success());
    }
}

/// A service that registers devices; each registration is an event too.
#[derive(Clone)]
struct Service {
    trust: Trust,
    https: Https,
    hub: String,
    token: String,
}

impl Service {
    fn of(directory: &Path) -> Self {
        let (ok, json) = run(directory, &["env", "--format", "json"]);
        assert!(ok, "{json}");
        let variables: BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
        let text = &variables["IOTHUB_CONNECTION_STRING"];
        let field =
            |name: &str| text.split(';').find_map(|f| f.strip_prefix(name)?.strip_prefix('=')).unwrap();
        let key: Key = field("SharedAccessKey").parse().unwrap();
        let until = Clock::system().now().plus(Duration::from_hours(1));
        let pem = std::fs::read_to_string(directory.join("ca.pem")).unwrap();
        let trust = Trust::only(&pem).unwrap();
        Self {
            https: Https::new(trust.clone()),
            trust,
            hub: format!("https://{}:8443", field("HostName").split(':').next().unwrap()),
            token: sas::build(field("HostName"), &key, until, Some("iothubowner")),
        }
    }

    async fn send(&self, method: &str, device: &str, body: String) -> bool {
        let url = format!("{}/devices/{device}?api-version=2021-04-12", self.hub);
        let headers = [("authorization", self.token.as_str()), ("content-type", "application/json")];
        self.https.ask(method, &url, &headers, body).await.is_ok()
    }

    async fn register(&self, device: &str) -> bool {
        self.send("PUT", device, format!("{{\"deviceId\": \"{device}\"}}")).await
    }

    /// More than the system buffers between two processes.
    async fn send_much(&self, device: &str) {
        let host = self.hub.strip_prefix("https://").unwrap().split(':').next().unwrap();
        let user_name = format!("{host}/{device}/?api-version=2021-04-12");
        let login =
            Login { client_id: device, user_name: &user_name, password: &self.token, clean_session: true };
        let mut client = MqttClient::connect(&self.trust, host, 8883, &login).await.unwrap();
        for _ in 0..160 {
            let body = vec![b'x'; 200_000];
            client.publish(&format!("devices/{device}/messages/events/"), body).await.unwrap();
        }
        client.disconnect().await.unwrap();
    }

    async fn has(&self, device: &str) -> bool {
        self.send("GET", device, String::new()).await
    }
}

/// How many events tell of each device, once `last` is among them: the relay works behind the registration.
async fn events(directory: &Path, last: &str) -> BTreeMap<String, usize> {
    let look = || {
        let (ok, lines) = run(directory, &["events", "--from", "earliest", "--json"]);
        assert!(ok, "{lines}");
        let mut counts = BTreeMap::new();
        for line in lines.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            *counts.entry(event["deviceId"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        counts
    };
    let seen = async {
        loop {
            let counts = look();
            if counts.contains_key(last) {
                return counts;
            }
            // Another process: only waiting brings it on.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("no event of {last}: {:?}", look()))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn after_a_clean_end_the_database_alone_is_everything() {
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path()).terminate();
    let log = std::fs::metadata(directory.path().join("records.db-wal"));
    assert!(log.is_err() || log.unwrap().len() == 0, "something is left in the write-ahead log");
    let copied = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("records.db"), copied.path().join("records.db")).unwrap();
    let (ok, said) = run(copied.path(), &["records", "check"]);
    assert!(ok && said.contains("service_principal 1"), "{said}");
}

#[test]
fn a_server_does_not_start_over_damaged_records_until_they_are_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let (ok, said) = run(directory.path(), &["records", "check"]);
    assert!(!ok && said.contains("a server uses"), "{said}");
    server.kill();
    let (ok, said) = run(directory.path(), &["records", "check"]);
    assert!(ok && said.contains("whole transactions") && said.contains("passes the check"), "{said}");

    let path = directory.path().join("records.db-wal");
    let mut log = std::fs::read(&path).unwrap();
    log[32 + 24 + 100] ^= 4;
    std::fs::write(&path, &log).unwrap();
    for arguments in [&["serve"][..], &["records", "check"]] {
        let (ok, said) = run(directory.path(), arguments);
        assert!(!ok && said.contains("frame 1 (byte 32) of "), "{arguments:?}: {said}");
        assert!(said.contains("records.db-wal") && said.contains("twinhub records repair"), "{said}");
    }
    let (ok, said) = run(directory.path(), &["records", "repair"]);
    assert!(ok && said.contains("Nothing is lost") && said.contains("records.db-wal.damaged-1"), "{said}");
    Server::start(directory.path()).terminate();
}

#[tokio::test]
async fn new_events_arrive_after_an_older_copy_of_the_records_was_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let (records, kept) = (directory.path().join("records.db"), directory.path().join("kept"));
    let server = Server::start(directory.path());
    assert!(Service::of(directory.path()).register("first").await);
    server.terminate();
    std::fs::copy(&records, &kept).unwrap();
    let server = Server::start(directory.path());
    let service = Service::of(directory.path());
    for number in 0..20 {
        assert!(service.register(&format!("forgotten-{number}")).await);
    }
    events(directory.path(), "forgotten-19").await;
    server.terminate();
    std::fs::copy(&kept, &records).unwrap();
    let _server = Server::start(directory.path());
    let service = Service::of(directory.path());
    assert!(service.has("first").await && !service.has("forgotten-0").await);
    for number in 0..10 {
        assert!(service.register(&format!("new-{number}")).await);
    }
    let counts = events(directory.path(), "new-9").await;
    let missing: Vec<_> =
        (0..10).map(|n| format!("new-{n}")).filter(|id| counts.get(id) != Some(&1)).collect();
    assert!(missing.is_empty(), "{missing:?} of {counts:?}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server with one device, backed up. Gives the folder of both.
async fn backed_up() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("backup.tar"));
    std::fs::create_dir(&data).unwrap();
    // As if a small device had come once.
    let secrets = access::ServerSecrets::Files(data.clone());
    access::Certificates::open(&secrets, Clock::system()).unwrap().open_rsa().unwrap();
    let _server = Server::start(&data);
    assert!(Service::of(&data).register("first").await);
    events(&data, "first").await;
    let (ok, said) = run(&data, &["backup", file.to_str().unwrap()]);
    assert!(ok && said.contains("It holds secrets"), "{said}");
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_acknowledged_and_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("backup.tar"));
    let server = Server::start(&data);
    let service = Service::of(&data);
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (service, done) = (service.clone(), Arc::clone(&done));
        writers.spawn(async move {
            for number in 0.. {
                let device = format!("device-{writer}-{number}");
                if !service.register(&device).await {
                    return;
                }
                done.lock().unwrap().push(device);
            }
        });
    }
    while done.lock().unwrap().len() < 100 {
        assert!(writers.try_join_next().is_none(), "a writer ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = done.lock().unwrap().clone();
    let (ok, said) = run(&data, &["backup", file.to_str().unwrap()]);
    assert!(ok, "{said}");
    let later = done.lock().unwrap().clone();
    assert!(later.len() > before.len(), "nothing was written meanwhile");
    server.kill();
    writers.abort_all();

    let restored = folder.path().join("restored");
    let (ok, said) = run(&restored, &["restore", file.to_str().unwrap()]);
    assert!(ok, "{said}");
    let _server = Server::start(&restored);
    let service = Service::of(&restored);
    assert!(service.register("after").await, "the keys are the same");
    let counts = events(&restored, "after").await;
    for device in &before {
        assert!(service.has(device).await, "{device} is not in the backup");
    }
    for device in &later {
        let is_there = service.has(device).await;
        let told = counts.get(device).copied().unwrap_or(0);
        assert!(told == 1 || (!is_there && told == 0), "{device}: there {is_there}, {told} events");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_backup_is_for_its_owner_alone_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt;
    let folder = backed_up().await;
    let (data, file) = (folder.path().join("data"), folder.path().join("backup.tar"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(folder.path()), ["backup.tar", "data"], "something was left beside it");
    assert!(!names(&data).iter().any(|name| name.starts_with("backup")), "{:?}", names(&data));
    let _server = Server::start(&data);
    let (ok, said) = run(&data, &["backup", file.to_str().unwrap()]);
    assert!(!ok && said.contains("is there already"), "{said}");
    let restored = folder.path().join("restored");
    assert!(run(&restored, &["restore", file.to_str().unwrap()]).0);
    for name in ["ca.pem", "ca-key.pem", "ca-rsa.pem", "ca-rsa-key.pem"] {
        let both = [&data, &restored].map(|directory| std::fs::read(directory.join(name)).unwrap());
        assert_eq!(both[0], both[1], "{name}");
    }
    for name in ["admin.key", "ca-key.pem", "ca-rsa-key.pem", "records.db"] {
        let mode = std::fs::metadata(restored.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
    }
}

#[tokio::test]
async fn a_backup_that_is_not_whole_or_too_new_or_has_no_empty_place_is_not_restored() {
    let folder = backed_up().await;
    let good = std::fs::read(folder.path().join("backup.tar")).unwrap();
    let (bad, place) = (folder.path().join("bad.tar"), folder.path().join("place"));
    let refused = |bytes: &[u8], why: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let (ok, said) = run(&place, &["restore", bad.to_str().unwrap()]);
        assert!(!ok && said.contains(why) && !said.contains("panic"), "{why}: {said}");
        assert_eq!(names(&place), [""; 0], "{why}");
    };
    for length in [0, 300, 700, 1024, good.len() / 2, good.len() - 3000] {
        refused(&good[..length], "is no backup, or not all of one");
    }
    let find = |text: &[u8]| good.windows(text.len()).position(|window| window == text).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    // Somewhere in a page of the records that SQLite itself would not miss.
    let records = find(b"SQLite format 3");
    refused(&changed(records + 90, 7), "records.db is not what was put in");
    let format = find(b"\"format\": 3") + 10;
    refused(&changed(format, b'9'), "format 9");

    std::fs::write(place.join("theirs"), "x").unwrap();
    let (ok, said) = run(&place, &["restore", folder.path().join("backup.tar").to_str().unwrap()]);
    assert!(!ok && said.contains("is not empty") && names(&place) == ["theirs"], "{said}");
}

#[tokio::test]
async fn a_restore_that_is_cut_off_is_no_server_until_it_is_run_again() {
    let folder = backed_up().await;
    let (file, place) = (folder.path().join("backup.tar"), folder.path().join("place"));
    let mut child =
        twinhub(&["restore", file.to_str().unwrap()], &place).stdout(Stdio::null()).spawn().unwrap();
    let mark = place.join("restore.unfinished");
    let began = async {
        while !mark.exists() && child.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, began).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Too quick for us now and then; then it is as if it had been killed at its last step.
    std::fs::write(&mark, "").unwrap();
    let (ok, said) = run(&place, &["serve"]);
    assert!(!ok && said.contains("run it again"), "{said}");
    let (ok, said) = run(&place, &["restore", file.to_str().unwrap()]);
    assert!(ok && !mark.exists(), "{said}");
    let _server = Server::start(&place);
    assert!(Service::of(&place).has("first").await);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_backup_leaves_no_half_file_and_harms_nothing() {
    let folder = backed_up().await;
    let data = folder.path().join("data");
    let server = Server::start(&data);
    Service::of(&data).send_much("first").await;
    server.terminate();
    for kills_server in [true, false] {
        let server = Server::start(&data);
        let file = folder.path().join(format!("killed-{kills_server}.tar"));
        let unfinished = folder.path().join(format!("killed-{kills_server}.tar.unfinished"));
        let mut backup = twinhub(&["backup", file.to_str().unwrap()], &data);
        let mut child = backup.stdout(Stdio::null()).spawn().unwrap();
        let _deadline = Deadline::of(&child);
        let began = async {
            let has_much = || std::fs::metadata(&unfinished).is_ok_and(|file| file.len() > 2 * 1024 * 1024);
            while !has_much() && child.try_wait().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, began).await.unwrap();
        if kills_server {
            server.kill();
            let succeeded = child.wait().unwrap().success();
            assert_eq!((file.exists(), unfinished.exists()), (succeeded, false));
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(Service::of(&data).has("first").await);
            server.terminate();
        }
        if file.exists() {
            assert!(run(&folder.path().join("quick"), &["restore", file.to_str().unwrap()]).0);
            continue;
        }
        // What a server leaves that is killed at the worst moment.
        std::fs::create_dir_all(data.join("backup.unfinished")).unwrap();
        let _server = Server::start(&data);
        assert!(!data.join("backup.unfinished").exists());
        let (ok, said) = run(&data, &["backup", file.to_str().unwrap()]);
        assert!(ok && !unfinished.exists(), "{said}");
    }
}

#[test]
fn a_server_in_memory_says_that_there_is_nothing_to_back_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _server = Server::start_with(&data, &["--store", "sqlite::memory:"]);
    let (ok, said) = run(&data, &["backup", folder.path().join("backup.tar").to_str().unwrap()]);
    assert!(!ok && said.contains("keeps everything in memory"), "{said}");
    assert_eq!(names(folder.path()), ["data"]);
}

#[tokio::test]
async fn backups_at_the_same_time_do_not_spoil_each_other() {
    let folder = backed_up().await;
    let (data, file) = (folder.path().join("data"), folder.path().join("both.tar"));
    let _server = Server::start(&data);
    Service::of(&data).send_much("first").await;
    let backup = || deadline::output(&mut twinhub(&["backup", file.to_str().unwrap()], &data));
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(backup);
        [backup(), other.join().unwrap()]
    });
    let said = both.each_ref().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(both.iter().filter(|output| output.status.success()).count(), 1, "{said:?}");
    let (ok, said) = run(&folder.path().join("restored"), &["restore", file.to_str().unwrap()]);
    assert!(ok, "{said}");
}
