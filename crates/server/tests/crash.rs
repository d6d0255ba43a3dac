//! The server is killed with SIGKILL in the middle of writes, again and again, on one data directory or one database, and the database
//! too. Whatever was acknowledged before a kill must be there after it: telemetry (PUBACK), device twins, registered devices and cloud-to-device messages (200).

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, Key, sas};
use deadline::Deadline;
use mqtt::codec::Qos;
use serde_json::{Value, json};
use server::client::{ClientError, Https, Login, MqttClient, Refusal, Trust};
use test_postgres::Signal;

/// "At least fifty times" is the promise.
const KILLS: usize = 50;
/// On a database, whose next server waits until the killed one's lease is over.
const KILLS_ON_DATABASE: usize = 6;
const DEVICES: usize = 4;
/// The device that is sent messages, and takes them.
const LISTENER: &str = "listener";
/// A server is killed so long after it has acknowledged something of each kind.
const LIFE_MILLIS: std::ops::Range<u64> = 20..220;
/// Every life acknowledges something by then.
const LIFE_MAX: Duration = Duration::from_secs(60);

#[path = "crash/blobs.rs"]
mod blobs;
#[path = "fixture/deadline.rs"]
mod deadline;
#[path = "crash/in_flight.rs"]
mod in_flight;

struct Server {
    child: Child,
    address: String,
    environment: BTreeMap<String, String>,
    _deadline: Deadline,
}

impl Server {
    fn start(directory: &Path, store: &str) -> Self {
        static STORES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // Another for each test of this process.
        let mut stores = STORES.lock().unwrap();
        let known = stores.iter().position(|known| known == store);
        let last = 1 + known.unwrap_or(stores.len());
        if known.is_none() {
            stores.push(store.to_owned());
        }
        drop(stores);
        let address = format!("127.{}.{low}.{last}", 100 + high % 100);
        let mut child = Command::new(env!("CARGO_BIN_EXE_twinhub"))
            .args(["serve", "--listen", &address, "--data-dir"])
            .arg(directory)
            .env("TWINHUB_PORTS__HTTPS_STANDARD", "0")
            .env("TWINHUB_STORE", store)
            .env("TWINHUB_TEST__ALLOW_CLOCK_CONTROL", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Deadline::of(&child);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("twinhub is ready "), "after a kill it starts again: {line:?}");
        let json = run(directory, &["env", "--format", "json"]);
        Self { child, address, environment: serde_json::from_str(&json).unwrap(), _deadline: deadline }
    }

    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// SIGKILL: the process gets no chance to write anything more.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn hub_url(&self, path: &str) -> String {
        format!("https://{}:8443{path}?api-version=2021-04-12", self.address)
    }

    fn owner_token(&self) -> String {
        let text = self.variable("IOTHUB_CONNECTION_STRING");
        let field =
            |name: &str| text.split(';').find_map(|f| f.strip_prefix(name)?.strip_prefix('=')).unwrap();
        let until = Clock::system().now().plus(Duration::from_secs(3600));
        sas::build(field("HostName"), &field("SharedAccessKey").parse().unwrap(), until, Some("iothubowner"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.args(arguments).arg("--data-dir").arg(directory));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the server acknowledged, over all of its lives.
#[derive(Default)]
struct Acknowledged {
    messages: BTreeSet<(String, u64)>,
    /// The highest desired value of each device that was answered with 200.
    desired: BTreeMap<String, u64>,
    devices: BTreeSet<String>,
    /// Messages to the listener that were answered with 200, and what each of its connections received.
    sent: BTreeSet<u64>,
    received: Vec<Vec<u64>>,
}

type Ledger = Arc<Mutex<Acknowledged>>;

#[derive(Clone)]
struct Writer {
    trust: Trust,
    https: Https,
    ledger: Ledger,
    key: Key,
}

impl Writer {
    async fn send(
        &self,
        server: &Server,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let token = server.owner_token();
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        Ok(self.https.ask(method, &server.hub_url(path), &headers, body.to_string()).await?.json())
    }

    fn device(&self, id: &str) -> Value {
        let keys = json!({"primaryKey": self.key.text(), "secondaryKey": self.key.text()});
        json!({"deviceId": id, "authentication": {"type": "sas", "symmetricKey": keys}})
    }

    /// Until a device can be read again, for as long as a server takes to find its database.
    async fn finds(&self, server: &Server, id: &str) {
        let found = async {
            while let Err(error) = self.send(server, "GET", &format!("/devices/{id}"), &Value::Null).await {
                // A client that is told so comes again; of a 500 it would think that the server is broken.
                if let ClientError::Service(Refusal { status, .. }) | ClientError::Status { status, .. } =
                    &error
                {
                    assert_eq!(*status, 503, "{error}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        assert!(found.is_ok(), "the server does not find its database again");
    }

    /// So long after something of each kind was acknowledged in this life: how soon that is, is the machine's affair.
    async fn has_written_for(&self, time: Duration) {
        let counts = || {
            let ledger = self.ledger.lock().unwrap();
            (ledger.messages.len(), ledger.desired.len(), ledger.devices.len())
        };
        let before = counts();
        let has_written = async {
            while {
                let now = counts();
                now.0 < before.0 + 2 || now.1 < DEVICES || now.2 == before.2
            } {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            tokio::time::timeout(LIFE_MAX, has_written).await.is_ok(),
            "nothing is acknowledged any more"
        );
        tokio::time::sleep(time).await;
    }

    async fn connect(&self, server: &Server, id: &str) -> Result<MqttClient, ClientError> {
        let host = server.variable("IOTHUB_HOSTNAME");
        let until = Clock::system().now().plus(Duration::from_secs(3600));
        let password = sas::build(&format!("{host}/devices/{id}"), &self.key, until, None);
        let user_name = format!("{host}/{id}/?api-version=2021-04-12");
        let login = Login { client_id: id, user_name: &user_name, password: &password, clean_session: true };
        MqttClient::connect(&self.trust, &server.address, 8883, &login).await
    }

    /// Sends numbered messages one after another, writing down each that was acknowledged.
    async fn telemetry(&self, server: &Server, id: &str, from: u64) -> Result<(), ClientError> {
        let mut client = self.connect(server, id).await?;
        for number in from.. {
            client
                .publish(&format!("devices/{id}/messages/events/"), json!({"n": number}).to_string())
                .await?;
            self.ledger.lock().unwrap().messages.insert((id.to_owned(), number));
        }
        Ok(())
    }

    /// Counts a desired property upwards.
    async fn patches(&self, server: &Server, id: &str, from: u64) -> Result<(), ClientError> {
        for number in from.. {
            let patch = json!({"properties": {"desired": {"n": number}}});
            self.send(server, "PATCH", &format!("/twins/{id}"), &patch).await?;
            self.ledger.lock().unwrap().desired.insert(id.to_owned(), number);
        }
        Ok(())
    }

    /// Sends numbered messages to a device, and waits where its queue is full; `sent` hears of each that was acknowledged.
    async fn messages(
        &self,
        server: &Server,
        (directory, id): (&Path, &str),
        from: u64,
        sent: impl Fn(u64),
    ) -> Result<Infallible, ClientError> {
        let key = std::fs::read_to_string(directory.join("admin.key")).unwrap();
        let authorization = format!("Bearer {}", key.trim());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let path = format!("/_twinhub/hubs/$default/devices/{id}/messages");
        let url = format!("https://{}:8443{path}", server.address);
        let mut number = from;
        loop {
            let body = json!({"body": number.to_string()}).to_string();
            let status = self.https.send("POST", &url, &headers, body).await?.status;
            if status.is_success() {
                sent(number);
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // A full queue has not kept it; of any other refusal that is not known.
            if status.as_u16() != 403 {
                number += 1;
            }
        }
    }

    async fn listener(&self, server: &Server) -> Result<MqttClient, ClientError> {
        let mut client = self.connect(server, LISTENER).await?;
        client.subscribe(&format!("devices/{LISTENER}/messages/devicebound/#"), Qos::AtLeastOnce).await?;
        Ok(client)
    }

    /// Takes messages as they come.
    async fn receptions(&self, server: &Server) -> Result<(), ClientError> {
        let mut client = self.listener(server).await?;
        self.ledger.lock().unwrap().received.push(Vec::new());
        loop {
            let message = client.next_publish().await?;
            let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
            self.ledger.lock().unwrap().received.last_mut().unwrap().push(number);
        }
    }

    /// Registers device after device.
    async fn registrations(&self, server: &Server, life: usize) -> Result<(), ClientError> {
        for number in 0.. {
            let id = format!("extra-{life}-{number}");
            self.send(server, "PUT", &format!("/devices/{id}"), &self.device(&id)).await?;
            self.ledger.lock().unwrap().devices.insert(id);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_fifty_kills() {
    nothing_acknowledged_is_lost("sqlite://", KILLS, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_a_database_whoever_of_the_two_is_killed() {
    let Some(database) = test_postgres::Server::start(&["fsync=on"]) else {
        return test_postgres::did_not_run();
    };
    let records = database.database();
    let restart = || {
        database.kill();
        database.start_again();
    };
    nothing_acknowledged_is_lost(&records.url(), KILLS_ON_DATABASE, Some(&restart)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_standby_takes_over_from_a_killed_primary() {
    let Some(primary) = test_postgres::Server::start(&["fsync=on"]) else {
        return test_postgres::did_not_run();
    };
    let (records, standby) = (primary.database(), primary.synchronous_standby());
    let take_over = || {
        primary.kill();
        standby.promote();
    };
    let url = primary.url_of_both(&standby, records.name());
    // One fate of the database, and then one of the server on what was promoted.
    nothing_acknowledged_is_lost(&url, 2, Some(&take_over)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_standby_takes_over_from_a_frozen_primary_that_wakes_up() {
    let Some(primary) = test_postgres::Server::start(&["fsync=on"]) else {
        return test_postgres::did_not_run();
    };
    let (records, standby) = (primary.database(), primary.synchronous_standby());
    let blows = AtomicUsize::new(0);
    let blow = || {
        if blows.fetch_add(1, Ordering::Relaxed) == 0 {
            primary.signal_all(Signal::STOP);
            standby.promote();
        } else {
            // It still takes itself for the primary, and stays beside the one that took over, while the server goes on and is
            // killed and started again.
            primary.signal_all(Signal::CONT);
            let answers = || primary.try_query("postgres", "SELECT pg_is_in_recovery()");
            assert!((0..1000).any(|_| answers().is_ok_and(|is_standby| is_standby.trim() == "f")));
        }
    };
    let url = primary.url_of_both(&standby, records.name());
    nothing_acknowledged_is_lost(&url, 4, Some(&blow)).await;
}

async fn nothing_acknowledged_is_lost(store: &str, kills: usize, database: Option<&dyn Fn()>) {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), store);
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let trust = Trust::only(&pem).unwrap();
    let writer =
        Writer { https: Https::new(trust.clone()), trust, ledger: Ledger::default(), key: Key::generate(32) };
    let ids: Vec<String> = (0..DEVICES).map(|n| format!("device-{n}")).collect();
    for id in &ids {
        writer.send(&server, "PUT", &format!("/devices/{id}"), &writer.device(id)).await.unwrap();
        writer.ledger.lock().unwrap().devices.insert(id.clone());
    }
    writer.send(&server, "PUT", &format!("/devices/{LISTENER}"), &writer.device(LISTENER)).await.unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for life in 0..kills {
        // Numbers never come back, so that every message is told apart.
        let from = (life as u64 + 1) * 1_000_000;
        let mut random = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(life as u64);
        random ^= random >> 33;
        let millis = LIFE_MILLIS.start + random % (LIFE_MILLIS.end - LIFE_MILLIS.start);
        let sent = |number| {
            writer.ledger.lock().unwrap().sent.insert(number);
        };
        let work = Box::pin(async {
            let devices = ids.iter().map(|id| async {
                let (a, b) =
                    tokio::join!(writer.telemetry(&server, id, from), writer.patches(&server, id, from));
                a.and(b)
            });
            let devices = futures_util::future::join_all(devices);
            tokio::join!(
                devices,
                writer.registrations(&server, life),
                writer.messages(&server, (directory.path(), LISTENER), from, sent),
                writer.receptions(&server),
            )
        });
        let blow = database.filter(|_| life % 2 == 0);
        let is_over = tokio::sync::Notify::new();
        let fate = async {
            writer.has_written_for(Duration::from_millis(millis)).await;
            if let Some(blow) = blow {
                // Under the writers, who wait or are refused meanwhile.
                tokio::task::block_in_place(blow);
                writer.finds(&server, &ids[0]).await;
            }
            is_over.notify_one();
        };
        let work = async {
            // The writers end by a failure alone; else they are dropped with the server.
            tokio::select! {
                _ = work => {}
                () = is_over.notified() => {}
            }
        };
        tokio::join!(fate, work);
        if blow.is_none() {
            server.kill();
            server = Server::start(directory.path(), store);
        }
    }
    Box::pin(check(&writer, &server, directory.path(), kills)).await;
}

/// Takes what is left in the queue; then nothing comes to whoever comes next.
async fn take_the_rest(writer: &Writer, server: &Server) {
    let is_empty = async {
        loop {
            let path = format!("/devices/{LISTENER}");
            let listener = writer.send(server, "GET", &path, &Value::Null).await.unwrap();
            if listener["cloudToDeviceMessageCount"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let taken = tokio::time::timeout(LIFE_MAX, async {
        tokio::select! {
            _ = writer.receptions(server) => panic!("the listener's connection ended"),
            () = is_empty => {}
        }
    });
    taken.await.expect("the queue is emptied");
    let mut next = writer.listener(server).await.unwrap();
    next.publish(&format!("devices/{LISTENER}/messages/events/"), "{}").await.unwrap();
    let more = tokio::time::timeout(Duration::ZERO, next.next_publish()).await;
    assert!(more.is_err(), "what was completed came again: {more:?}");
}

async fn check(writer: &Writer, server: &Server, directory: &Path, kills: usize) {
    Box::pin(take_the_rest(writer, server)).await;
    let ledger = std::mem::take(&mut *writer.ledger.lock().unwrap());
    let counts = (ledger.messages.len(), ledger.desired.len(), ledger.devices.len());
    println!("{} messages, {} twins, {} devices were acknowledged", counts.0, counts.1, counts.2);
    assert!(
        counts.0 > kills && counts.1 == DEVICES && counts.2 > kills,
        "too little was written to mean anything"
    );

    let received: BTreeSet<_> = ledger.received.iter().flatten().collect();
    println!("{} messages to a device were acknowledged, {} received", ledger.sent.len(), received.len());
    let lost: Vec<_> = ledger.sent.iter().filter(|number| !received.contains(number)).collect();
    assert!(lost.is_empty() && !ledger.sent.is_empty(), "acknowledged and never delivered: {lost:?}");
    for connection in &ledger.received {
        // What was given up while it was under way may have come between later ones.
        let in_order: Vec<_> = connection.iter().filter(|number| ledger.sent.contains(number)).collect();
        assert!(in_order.is_sorted_by(|one, next| one < next), "out of order, or twice: {in_order:?}");
    }

    let mut stored = BTreeMap::new();
    for line in run(directory, &["events", "--from", "earliest", "--json"]).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if let (Some(id), Some(n)) = (event["deviceId"].as_str(), event["body"]["n"].as_u64()) {
            *stored.entry((id.to_owned(), n)).or_insert(0) += 1;
        }
    }
    let lost: Vec<_> = ledger.messages.iter().filter(|message| !stored.contains_key(*message)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let twice: Vec<_> = stored.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "stored twice though sent once: {twice:?}");

    for (id, n) in &ledger.desired {
        let twin = writer.send(server, "GET", &format!("/twins/{id}"), &Value::Null).await.unwrap();
        let now = twin["properties"]["desired"]["n"].as_u64().unwrap();
        assert!(now >= *n, "{id} was acknowledged at {n} and is at {now}");
    }
    for id in &ledger.devices {
        let device = writer.send(server, "GET", &format!("/devices/{id}"), &Value::Null).await;
        assert!(device.is_ok(), "{id} was acknowledged and is gone: {device:?}");
    }
}
