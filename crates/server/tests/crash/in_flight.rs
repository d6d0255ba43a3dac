//! Everything that a hub and its account do at once, when the server is killed: messages that a device settles, jobs, blobs that are put
//! in whole and in blocks, written over and deleted, and both sides of a twin. `TWINHUB_CRASH_SEED` is the seed of another run.

use std::convert::Infallible;

use fastrand::Rng;

use super::blobs::Blobs;
use super::*;

/// So often a server is killed, and fewer times on a database, whose next server waits until the killed one's lease is over.
const ROUNDS: usize = 10;
const ROUNDS_ON_DATABASE: usize = 4;
/// From when something of every kind was acknowledged in this life.
const KILLED_WITHIN_MILLIS: u64 = 300;
/// More than a job patches in one step.
const FLEET: usize = 130;
/// Both sides of its twin are written.
const REPORTER: &str = "reporter";
/// Takes its messages by requests, and settles each.
const COLLECTOR: &str = "collector";
/// How long a request holds a message.
const LOCK_SECONDS: u64 = base::caps::CLOUD_TO_DEVICE_LOCK_SECONDS;

/// An actor ends by its connection, never by itself.
type Acts = Result<Infallible, ClientError>;

/// One side of a twin with one writer, who counts: the last value that was answered, with its version, and the last that was tried.
#[derive(Clone, Copy)]
struct Side {
    value: u64,
    version: u64,
    tried: u64,
}

struct Known {
    sent: BTreeSet<u64>,
    received: BTreeSet<u64>,
    /// Asked to be completed; some were not answered.
    completing: BTreeSet<u64>,
    completed: BTreeSet<u64>,
    jobs: BTreeSet<String>,
    jobs_tried: BTreeSet<String>,
    desired: Side,
    reported: Side,
}

struct InFlight {
    writer: Writer,
    blobs: Blobs,
    known: Mutex<Known>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_at_a_kill_is_done_once_or_not_at_all_and_what_was_acknowledged_is_there() {
    let seed = std::env::var("TWINHUB_CRASH_SEED").ok().map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let asked_for = test_postgres::is_asked_for();
    let postgres = asked_for.then(|| test_postgres::Server::start(&["fsync=on"]).unwrap());
    let database = postgres.as_ref().map(test_postgres::Server::database);
    let (store, rounds) = match &database {
        None => ("sqlite://".to_owned(), ROUNDS),
        Some(database) => (database.url(), ROUNDS_ON_DATABASE),
    };
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &store);
    let test = InFlight::furnish(&server, directory.path()).await;
    for round in 0..rounds {
        let (from, kill_after) = (round as u64 * 1_000_000, rng.u64(0..KILLED_WITHIN_MILLIS));
        let (before, writing) = (test.counts(), test.all(&server, directory.path(), from, rng.fork()));
        let fate = async {
            test.has_gone_beyond(before).await;
            tokio::time::sleep(Duration::from_millis(kill_after)).await;
        };
        tokio::select! {
            Err(error) = Box::pin(writing) => panic!("in round {round}, under a server that runs: {error}"),
            () = fate => server.kill(),
        }
        server = Server::start(directory.path(), &store);
        test.blobs.move_to(&server);
        let checked = async {
            test.twin_is_as_answered(&server).await;
            test.blobs.are_as_answered().await;
        };
        tokio::time::timeout(LIFE_MAX, checked).await.expect("it is looked at in time");
        println!("round {round}, killed after {kill_after} ms: {:?}", test.counts());
    }
    tokio::time::timeout(2 * LIFE_MAX, Box::pin(test.comes_to_rest(&server, directory.path())))
        .await
        .expect("everything comes to rest");
}

impl InFlight {
    async fn furnish(server: &Server, directory: &Path) -> Self {
        let pem = std::fs::read_to_string(directory.join("ca.pem")).unwrap();
        let trust = Trust::only(&pem).unwrap();
        let https = Https::new(trust.clone());
        let (ledger, key) = (Ledger::default(), Key::generate(32));
        let writer = Writer { https: https.clone(), trust, ledger, key };
        for id in [REPORTER, COLLECTOR] {
            writer.send(server, "PUT", &format!("/devices/{id}"), &writer.device(id)).await.unwrap();
        }
        let fleet: Vec<Value> =
            (0..FLEET).map(|at| json!({"id": format!("fleet-{at:03}"), "importMode": "create"})).collect();
        for some in fleet.chunks(100) {
            writer.send(server, "POST", "/devices", &json!(some)).await.unwrap();
        }
        let (desired, reported) =
            (side(&writer, server, "desired").await, side(&writer, server, "reported").await);
        let known = Known {
            sent: BTreeSet::new(),
            received: BTreeSet::new(),
            completing: BTreeSet::new(),
            completed: BTreeSet::new(),
            jobs: BTreeSet::new(),
            jobs_tried: BTreeSet::new(),
            desired,
            reported,
        };
        let blobs = Blobs::furnish(https, server).await;
        Self { writer, blobs, known: Mutex::new(known) }
    }

    /// How much of each kind was acknowledged.
    fn counts(&self) -> [u64; 8] {
        let known = self.known.lock().unwrap();
        let (sent, completed, jobs) = (known.sent.len(), known.completed.len(), known.jobs.len());
        let sides = [known.desired.version, known.reported.version];
        let [put, listed, written_over] = self.blobs.counts();
        [sent as u64, completed as u64, jobs as u64, sides[0], sides[1], put, listed, written_over]
    }

    async fn has_gone_beyond(&self, before: [u64; 8]) {
        let has_gone = async {
            while self.counts().iter().zip(before).any(|(now, before)| *now <= before) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(LIFE_MAX, has_gone).await;
        assert!(in_time.is_ok(), "something is acknowledged no more: {before:?}, {:?}", self.counts());
    }

    async fn all(&self, server: &Server, directory: &Path, from: u64, mut rng: Rng) -> Acts {
        let (one, other, blocks, over) = (rng.fork(), rng.fork(), rng.fork(), rng.fork());
        let sent = |number| {
            self.known.lock().unwrap().sent.insert(number);
        };
        let done = tokio::try_join!(
            self.writer.messages(server, (directory, COLLECTOR), from, sent),
            self.collects(server),
            self.patches_desired(server),
            self.reports(server),
            self.makes_jobs(server, from),
            self.blobs.puts("one", from, one),
            self.blobs.puts("other", from, other),
            self.blobs.puts_blocks(from, blocks),
            self.blobs.writes_over(over),
            self.blobs.reads_what_is_written_over(),
        );
        done.map(|done| done.0)
    }

    /// Each message is held, and completed; what was completed comes no more.
    async fn collects(&self, server: &Server) -> Acts {
        loop {
            if !self.collects_one(server).await? {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    async fn collects_one(&self, server: &Server) -> Result<bool, ClientError> {
        let host = server.variable("IOTHUB_HOSTNAME");
        let until = Clock::system().now().plus(Duration::from_secs(3600));
        let token = sas::build(&format!("{host}/devices/{COLLECTOR}"), &self.writer.key, until, None);
        let headers = [("authorization", token.as_str())];
        let at = |rest: &str| server.hub_url(&format!("/devices/{COLLECTOR}/messages/deviceBound{rest}"));
        let received = self.writer.https.ask("GET", &at(""), &headers, "").await?;
        let Some(lock) = received.header("etag").map(|tag| tag.trim_matches('"').to_owned()) else {
            assert_eq!(received.status, 204);
            return Ok(false);
        };
        let number: u64 = std::str::from_utf8(&received.body).unwrap().parse().unwrap();
        let was_completed = self.known.lock().unwrap().completed.contains(&number);
        assert!(!was_completed, "message {number} was completed, and came again");
        self.known.lock().unwrap().received.insert(number);
        self.known.lock().unwrap().completing.insert(number);
        self.writer.https.ask("DELETE", &at(&format!("/{lock}")), &headers, "").await?;
        self.known.lock().unwrap().completed.insert(number);
        Ok(true)
    }

    async fn patches_desired(&self, server: &Server) -> Acts {
        loop {
            let value = self.tries(|known| &mut known.desired);
            let patch = json!({"properties": {"desired": {"n": value}}});
            let twin = self.writer.send(server, "PATCH", &format!("/twins/{REPORTER}"), &patch).await?;
            let version = twin["properties"]["desired"]["$version"].as_u64().unwrap();
            self.is_answered(|known| &mut known.desired, version);
        }
    }

    async fn reports(&self, server: &Server) -> Acts {
        let mut client = self.writer.connect(server, REPORTER).await?;
        client.subscribe("$iothub/twin/res/#", Qos::AtMostOnce).await?;
        loop {
            let value = self.tries(|known| &mut known.reported);
            let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={value}");
            client.send_at_most_once(&topic, json!({"n": value}).to_string()).await?;
            let answer = client.next_publish().await?;
            let version = answer.topic.strip_prefix(&format!("$iothub/twin/res/204/?$rid={value}&$version="));
            let version = version.and_then(|text| text.parse().ok());
            self.is_answered(
                |known| &mut known.reported,
                version.unwrap_or_else(|| panic!("{}", &*answer.topic)),
            );
        }
    }

    /// The next value of a side, whose writer is alone.
    fn tries(&self, side: impl Fn(&mut Known) -> &mut Side) -> u64 {
        let mut known = self.known.lock().unwrap();
        let side = side(&mut known);
        side.tried += 1;
        side.tried
    }

    fn is_answered(&self, side: impl Fn(&mut Known) -> &mut Side, version: u64) {
        let mut known = self.known.lock().unwrap();
        let side = side(&mut known);
        assert_eq!(version, side.version + 1, "one patch is one version");
        *side = Side { value: side.tried, version, tried: side.tried };
    }

    /// Each side is as it was answered last, or one patch further: the one that was in flight.
    async fn twin_is_as_answered(&self, server: &Server) {
        let (desired, reported) =
            (side(&self.writer, server, "desired").await, side(&self.writer, server, "reported").await);
        let twin =
            self.writer.send(server, "GET", &format!("/twins/{REPORTER}"), &Value::Null).await.unwrap();
        assert_eq!(twin["version"].as_u64().unwrap(), desired.version + reported.version, "{twin}");
        let mut known = self.known.lock().unwrap();
        for (name, found, side) in
            [("desired", desired, known.desired), ("reported", reported, known.reported)]
        {
            let as_answered = (side.value, side.version);
            let and_the_next = (side.tried, side.version + u64::from(side.tried > side.value));
            let found = (found.value, found.version);
            assert!(
                found == as_answered || found == and_the_next,
                "{name}: {found:?}, of {as_answered:?} or {and_the_next:?}"
            );
        }
        (known.desired, known.reported) = (desired, reported);
    }

    /// One job after another, over the whole fleet; each is waited for, but by nobody who comes after a kill.
    async fn makes_jobs(&self, server: &Server, from: u64) -> Acts {
        let mut number = from;
        loop {
            let id = format!("job-{number}");
            self.known.lock().unwrap().jobs_tried.insert(id.clone());
            let job = json!({
                "jobId": id, "type": "scheduleUpdateTwin", "queryCondition": "STARTSWITH(deviceId, 'fleet-')",
                "updateTwin": {"etag": "*", "properties": {"desired": {"n": number}}},
            });
            match self.writer.send(server, "PUT", &format!("/jobs/v2/{id}"), &job).await {
                Ok(_) => {
                    self.known.lock().unwrap().jobs.insert(id.clone());
                }
                // So many at a time: those of earlier lives come to their ends first.
                Err(ClientError::Status { status: 429, .. }) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
            while self.status_of(server, &id).await? == "running" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            number += 1;
        }
    }

    async fn status_of(&self, server: &Server, id: &str) -> Result<String, ClientError> {
        let job = self.writer.send(server, "GET", &format!("/jobs/v2/{id}"), &Value::Null).await?;
        let status = job["status"].as_str().unwrap_or_default();
        match status {
            "queued" | "scheduled" | "running" => Ok("running".to_owned()),
            "completed" => {
                let statistics = &job["deviceJobStatistics"];
                assert_eq!(
                    (&statistics["succeededCount"], &statistics["failedCount"]),
                    (&json!(FLEET), &json!(0)),
                    "{job}"
                );
                Ok(status.to_owned())
            }
            "unknown" => Ok(status.to_owned()),
            _ => panic!("{job}"),
        }
    }

    /// What a killed server held is free again; then every message has come, every job is through, and every blob is as answered.
    async fn comes_to_rest(&self, server: &Server, directory: &Path) {
        let mut done = 0;
        let (jobs, tried) = {
            let known = self.known.lock().unwrap();
            (known.jobs.clone(), known.jobs_tried.clone())
        };
        for id in &tried {
            loop {
                match self.status_of(server, id).await.unwrap().as_str() {
                    "completed" => done += 1,
                    "unknown" => assert!(!jobs.contains(id), "{id} was acknowledged and is gone"),
                    _ => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                }
                break;
            }
        }
        self.every_twin_was_patched(server, done).await;
        move_clock(&self.writer.https, server, directory, LOCK_SECONDS + 1).await;
        while self.collects_one(server).await.unwrap() {}
        let known = self.known.lock().unwrap();
        let lost: Vec<_> = known.sent.difference(&known.completing).collect();
        assert!(lost.is_empty(), "acknowledged, and not to be had: {lost:?}");
        let (sent, received) = (known.sent.len(), known.received.len());
        println!("{sent} messages sent, {received} received, {done} jobs, {:?}", self.blobs.counts());
    }

    /// By each job once.
    async fn every_twin_was_patched(&self, server: &Server, jobs: u64) {
        let (token, query) = (
            server.owner_token(),
            json!({"query": "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'fleet-')"}),
        );
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
            ("x-ms-max-item-count", "1000"),
        ];
        let url = server.hub_url("/devices/query");
        let twins = self.writer.https.ask("POST", &url, &headers, query.to_string()).await.unwrap().json();
        let twins = twins.as_array().unwrap();
        assert_eq!(twins.len(), FLEET);
        for twin in twins {
            // A twin begins at 2, and each of its sides at 1.
            let versions = (&twin["version"], &twin["properties"]["desired"]["$version"]);
            assert_eq!(versions, (&json!(2 + jobs), &json!(1 + jobs)), "{jobs} jobs: {twin}");
        }
    }
}

async fn side(writer: &Writer, server: &Server, name: &str) -> Side {
    let twin = writer.send(server, "GET", &format!("/twins/{REPORTER}"), &Value::Null).await.unwrap();
    let side = &twin["properties"][name];
    let value = side["n"].as_u64().unwrap_or_default();
    Side { value, version: side["$version"].as_u64().unwrap(), tried: value }
}

async fn move_clock(https: &Https, server: &Server, directory: &Path, seconds: u64) {
    let key = std::fs::read_to_string(directory.join("admin.key")).unwrap();
    let authorization = format!("Bearer {}", key.trim());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let url = format!("https://{}:8443/_twinhub/clock", server.address);
    let body = json!({"advanceSeconds": seconds}).to_string();
    https.ask("POST", &url, &headers, body).await.unwrap();
}
