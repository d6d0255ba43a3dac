//! Jobs: what they do to devices, how they end, and that they touch none twice, whoever goes on with them. A plain model stands beside
//! the store in the last test, and every step of a random walk must leave both alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::IfMatch;
use base::tasks::Tasks;
use bytes::Bytes;
use serde_json::{Value, json};

use super::rules::Targets;
use super::run::Run;
use super::*;
use crate::bus::InProcess;
use crate::held::Held;
use crate::query::{Query, RowKind};
use crate::testing::{TestHub, context_on, next_command, random_walk, settings, system, within};
use crate::{Command, Context, Hubs, Session};

fn job_id(text: &str) -> JobId {
    text.parse().unwrap()
}

fn patches(id: &str, mut patch: Value) -> JobSpec {
    patch["etag"] = json!("*");
    let patch = patch.as_object().unwrap().clone();
    JobSpec {
        job_id: job_id(id),
        action: Action::UpdateTwin { patch },
        condition: None,
        start: None,
        max_execution_seconds: None,
    }
}

fn invokes(id: &str) -> JobSpec {
    let action = Action::InvokeMethod {
        name: "reboot".into(),
        payload: Some("{\"a\":1}".into()),
        connect_timeout_seconds: None,
        response_timeout_seconds: Some(30),
    };
    JobSpec { action, ..patches(id, json!({})) }
}

fn of(spec: JobSpec, condition: &str) -> JobSpec {
    JobSpec { condition: Some(condition.to_owned()), ..spec }
}

/// One that nobody has given out: as if the house that had it before were still at work.
fn stolen(hub: &TestHub) -> Held {
    hub.stolen(Duration::from_secs(caps::JOB_LEASE_SECONDS))
}

impl TestHub {
    async fn has_devices(&self, count: usize) {
        for number in 0..count {
            self.create_device(&format!("d{number:03}")).await;
        }
    }

    async fn creates(&self, spec: &JobSpec) -> Result<Job, Error> {
        within(self.create_job(&system(), spec)).await
    }

    async fn shows(&self, id: &str) -> Job {
        self.get_job(&system(), &job_id(id)).await.unwrap().unwrap()
    }

    /// A job once it has ended.
    async fn ended(&self, id: &str) -> Job {
        let ended = async {
            loop {
                let job = self.shows(id).await;
                if job.end.is_some() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        };
        within(ended).await
    }

    /// What the job did, by device.
    async fn touched(&self, id: &str) -> Vec<DeviceJob> {
        let scan = Scan::new(super::record::job_key(self.instance(), &job_id(id)), caps::SCAN_PAGE);
        let found = self.store().scan::<DeviceJob>(scan).await.unwrap();
        found.into_iter().map(|stored| stored.record).collect()
    }

    /// A job that lies ahead, and whose time has come without anybody having looked.
    async fn overslept(&self, spec: JobSpec) {
        let start = Some(self.now().plus(Duration::from_secs(60)));
        self.creates(&JobSpec { start, ..spec }).await.unwrap();
        self.clock.advance(Duration::from_secs(61));
    }
}

fn counts(job: &Job) -> (u64, u64, u64) {
    (job.progress.succeeded, job.progress.failed, job.progress.running)
}

#[tokio::test]
async fn what_jobs_did_is_queried_by_job_device_and_outcome_page_by_page() {
    let hub = TestHub::new().await;
    hub.has_devices(5).await;
    for id in ["first", "second"] {
        hub.creates(&patches(id, json!({"tags": {"by": id}}))).await.unwrap();
        hub.ended(id).await;
    }
    let rows = async |text: &str, page_max: usize| {
        let (mut rows, mut continuation) = (Vec::<Value>::new(), None);
        loop {
            let query = Query { text: text.to_owned(), continuation, page_max: Some(page_max) };
            let page = hub.query(&system(), &query).await.unwrap();
            assert_eq!(page.kind, RowKind::DeviceJob);
            rows.extend(page.rows.iter().map(|row| serde_json::from_str::<Value>(row.get()).unwrap()));
            match page.next {
                Some(next) => continuation = Some(next),
                None => return rows,
            }
        }
    };
    let mut expected = Vec::new();
    for id in ["first", "second"] {
        expected.extend(hub.touched(id).await.iter().map(DeviceJob::document));
    }
    for page_max in [1, 3, 100] {
        assert_eq!(rows("SELECT * FROM devices.jobs", page_max).await, expected, "{page_max}");
        let of_second = "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'second'";
        assert_eq!(rows(of_second, page_max).await, expected[5..], "{page_max}");
    }
    let one = "SELECT * FROM devices.jobs WHERE deviceId = 'd003' AND status = 'completed'";
    assert_eq!(rows(one, 1).await, [expected[3].clone(), expected[8].clone()]);
    assert!(rows("SELECT * FROM devices.jobs WHERE jobId = 'third'", 10).await.is_empty());
    let last = "SELECT TOP 2 * FROM devices.jobs ORDER BY deviceId DESC";
    assert_eq!(rows(last, 1).await, [expected[4].clone(), expected[9].clone()]);
}

#[tokio::test]
async fn every_twin_is_patched_once_and_who_is_connected_hears_of_it() {
    let hub = TestHub::new().await;
    hub.has_devices(caps::JOB_DEVICES_AT_ONCE * 2 + 1).await;
    let session = hub.connect("d150").await;
    session.subscribe_desired().await.unwrap();
    let spec = patches("j1", json!({"tags": {"floor": 2}, "properties": {"desired": {"target": 21}}}));
    let created = hub.creates(&spec).await.unwrap();
    assert_eq!((created.status, counts(&created)), (JobStatus::Queued, (0, 0, 0)));
    let job = hub.ended("j1").await;
    assert_eq!((job.status, counts(&job), job.failure), (JobStatus::Completed, (201, 0, 0), None));
    for id in ["d000", "d100", "d200"] {
        let twin = hub.twin(id).await.twin;
        assert_eq!((twin.version, &twin.tags["floor"]), (3, &json!(2)), "{id}");
        assert_eq!(twin.properties.desired.values["target"], json!(21));
    }
    let Command::DesiredChanged { .. } = next_command(&session).await else { panic!("it is told") };
    let touched = hub.touched("j1").await;
    let ids: Vec<String> = touched.iter().map(|device| device.device_id.to_string()).collect();
    assert_eq!(ids, (0..201).map(|number| format!("d{number:03}")).collect::<Vec<_>>());
    let time = "2026-01-02T03:04:05.1234567Z";
    let expected = json!({
        "deviceId": "d000", "jobId": "j1", "jobType": "scheduleUpdateTwin", "status": "completed", "startTimeUtc": time,
        "createdDateTimeUtc": time, "lastUpdatedDateTimeUtc": time, "endTimeUtc": time,
    });
    assert_eq!(touched[0].document(), expected);
}

#[tokio::test]
async fn only_the_devices_of_the_condition_are_touched_and_what_a_twin_cannot_hold_fails_for_it() {
    let hub = TestHub::new().await;
    hub.has_devices(4).await;
    let rest = "x".repeat(caps::TWIN_TAGS_BYTES_MAX - 4096 - 40);
    hub.patch("d002", json!({"tags": {"a": "x".repeat(4096), "b": rest}})).await.unwrap();
    let spec = patches("j1", json!({"tags": {"more": "y".repeat(60)}}));
    hub.creates(&of(spec, "deviceId IN ['d003', 'd002', 'nobody']")).await.unwrap();
    let job = hub.ended("j1").await;
    assert_eq!((job.status, counts(&job)), (JobStatus::Completed, (1, 1, 0)));
    let touched = hub.touched("j1").await;
    let shown: Vec<_> = touched.iter().map(|device| (device.device_id.as_str(), device.status)).collect();
    assert_eq!(shown, [("d002", DeviceJobStatus::Failed), ("d003", DeviceJobStatus::Completed)]);
    assert_eq!(touched[0].error.as_ref().unwrap().code, "ArgumentInvalid");
    assert_eq!(hub.twin("d001").await.twin.version, 2);
}

#[tokio::test]
async fn a_condition_selects_by_what_a_twin_holds_wherever_it_is_kept() {
    let hub = TestHub::new().await;
    hub.has_devices(250).await;
    for device in ["d001", "d120", "d249"] {
        hub.patch(device, json!({"tags": {"site": "north"}})).await.unwrap();
    }
    let by_record =
        of(patches("j1", json!({"tags": {"a": 1}})), "tags.site = 'north' AND deviceId != 'd120'");
    hub.creates(&by_record).await.unwrap();
    assert_eq!(counts(&hub.ended("j1").await), (2, 0, 0));
    let by_identity = of(patches("j2", json!({"tags": {"b": 1}})), "tags.a = 1 AND status = 'enabled'");
    hub.creates(&by_identity).await.unwrap();
    assert_eq!(counts(&hub.ended("j2").await), (2, 0, 0));
    let touched = hub.touched("j2").await;
    assert_eq!(touched.iter().map(|device| device.device_id.as_str()).collect::<Vec<_>>(), ["d001", "d249"]);
}

#[tokio::test]
async fn a_condition_that_cannot_be_read_fails_the_job_and_touches_nobody() {
    let hub = TestHub::with_device("dev1").await;
    hub.creates(&of(patches("j1", json!({"tags": {"a": 1}})), "tags.a ===")).await.unwrap();
    let job = hub.ended("j1").await;
    assert_eq!((job.status, counts(&job)), (JobStatus::Failed, (0, 0, 0)));
    assert!(job.failure.unwrap().contains("cannot be read"));
    assert_eq!(hub.twin("dev1").await.twin.version, 2);
}

async fn answers(session: &Session, status: i32) {
    let Command::InvokeMethod { request_id, name, payload } = next_command(session).await else { panic!() };
    assert_eq!((name.as_str(), &payload[..]), ("reboot", &b"{\"a\":1}"[..]));
    assert!(session.hub().complete_method(session, request_id, status, Bytes::from_static(b"[1]")));
}

#[tokio::test]
async fn a_method_reaches_who_is_there_and_fails_for_who_is_not() {
    let hub = TestHub::new().await;
    hub.has_devices(caps::JOB_METHODS_AT_ONCE + 2).await;
    let session = hub.connect("d003").await;
    session.listen_to_methods(true);
    hub.creates(&invokes("j1")).await.unwrap();
    answers(&session, 500).await;
    let job = hub.ended("j1").await;
    let absent = u64::try_from(caps::JOB_METHODS_AT_ONCE + 1).unwrap();
    assert_eq!((job.status, counts(&job)), (JobStatus::Completed, (1, absent, 0)));
    let touched = hub.touched("j1").await;
    let outcome = json!({"deviceMethodResponse": {"status": 500, "payload": [1]}});
    assert_eq!(touched[3].document()["outcome"], outcome);
    assert_eq!(touched[4].document()["error"]["code"], "DeviceNotOnline");
}

#[tokio::test]
async fn a_job_that_takes_too_long_fails_with_what_it_has_done() {
    let hub = TestHub::new().await;
    hub.has_devices(caps::JOB_METHODS_AT_ONCE * 2).await;
    let mut sessions = Vec::new();
    for number in 0..caps::JOB_METHODS_AT_ONCE {
        let session = hub.connect(&format!("d{number:03}")).await;
        session.listen_to_methods(true);
        sessions.push(session);
    }
    hub.creates(&JobSpec { max_execution_seconds: Some(10), ..invokes("j1") }).await.unwrap();
    for session in &sessions {
        let Command::InvokeMethod { .. } = next_command(session).await else { panic!() };
    }
    hub.clock.advance(Duration::from_secs(31));
    let job = hub.ended("j1").await;
    let failed = u64::try_from(caps::JOB_METHODS_AT_ONCE).unwrap();
    assert_eq!((job.status, counts(&job)), (JobStatus::Failed, (0, failed, 0)));
    assert!(job.failure.unwrap().contains("10 seconds"));
    assert_eq!(hub.touched("j1").await[3].error.as_ref().unwrap().code, "GatewayTimeout");
}

#[tokio::test]
async fn a_job_begins_when_its_time_has_come_unless_it_was_cancelled() {
    let hub = TestHub::with_device("dev1").await;
    let start = Some(hub.now().plus(Duration::from_hours(2)));
    for id in ["j1", "j2"] {
        let spec = JobSpec { start, ..patches(id, json!({"tags": {id: 1}})) };
        hub.creates(&spec).await.unwrap();
        assert_eq!(hub.shows(id).await.status, JobStatus::Scheduled);
    }
    let cancelled = hub.cancel_job(&system(), &job_id("j2")).await.unwrap();
    assert_eq!((cancelled.status, cancelled.end), (JobStatus::Cancelled, Some(hub.now())));
    let again = hub.cancel_job(&system(), &job_id("j2")).await;
    assert_eq!(again, Err(Error::OperationNotAllowedInCurrentState("cancelled")));
    hub.clock.advance(Duration::from_hours(1));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.shows("j1").await.status, JobStatus::Scheduled);
    hub.clock.advance(Duration::from_hours(1));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.ended("j1").await.status, JobStatus::Completed);
    assert_eq!(Value::Object(hub.twin("dev1").await.twin.tags), json!({"j1": 1}));
}

#[tokio::test]
async fn there_are_so_many_jobs_at_a_time_and_each_is_forgotten_a_month_after_its_end() {
    let hub = TestHub::with_device("dev1").await;
    let start = Some(hub.now().plus(Duration::from_hours(2)));
    let ahead = |number: i64| JobSpec { start, ..patches(&format!("j{number}"), json!({})) };
    for number in 0..caps::JOBS_ACTIVE_MAX {
        hub.creates(&ahead(number)).await.unwrap();
    }
    let full = Err(Error::ThrottlingMaxActiveJobCountExceeded(caps::JOBS_ACTIVE_MAX));
    assert_eq!(hub.creates(&ahead(99)).await, full);
    assert_eq!(hub.creates(&ahead(0)).await, Err(Error::JobAlreadyExists("j0".into())));
    hub.cancel_job(&system(), &job_id("j0")).await.unwrap();
    hub.creates(&patches("j99", json!({"tags": {"a": 1}}))).await.unwrap();
    hub.ended("j99").await;
    hub.creates(&ahead(100)).await.unwrap();
    hub.clock.advance(Duration::from_secs(caps::JOB_KEPT_SECONDS - 1));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.touched("j99").await.len(), 1);
    hub.clock.advance(Duration::from_secs(1));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.get_job(&system(), &job_id("j99")).await, Ok(None));
    assert_eq!(hub.get_job(&system(), &job_id("j0")).await, Ok(None));
    assert!(hub.touched("j99").await.is_empty());
    hub.ended("j100").await;
}

/// Two houses of one store, with a device `dev1` that is connected to the first.
async fn two_houses() -> [TestHub; 2] {
    let (store, _) = test_store::open();
    let bus = Arc::new(InProcess::default());
    let first = context_on(store.clone());
    let second = Context { tasks: Tasks::new(), ..first.clone() };
    let mut houses = Vec::new();
    for context in [first, second] {
        let node = store.sessions().join(Duration::from_secs(60)).await.unwrap();
        let hubs = Hubs::on_bus(context.clone(), Some(node), bus.clone());
        hubs.load().await.unwrap();
        let hub = match hubs.find("hub") {
            Some(hub) => hub,
            None => hubs.ensure(settings("hub")).await.unwrap(),
        };
        houses.push(TestHub { hub, hubs, clock: context.clock.clone(), context });
    }
    houses.try_into().ok().expect("there are two")
}

#[tokio::test]
async fn a_method_that_another_house_has_sent_is_not_sent_again_and_its_late_answer_changes_nothing() {
    let [one, two] = two_houses().await;
    one.create_device("dev1").await;
    let session = one.connect("dev1").await;
    session.listen_to_methods(true);
    one.creates(&invokes("j1")).await.unwrap();
    let Command::InvokeMethod { request_id, .. } = next_command(&session).await else { panic!() };
    within(two.run_job(stolen(&two), &job_id("j1"))).await.unwrap();
    let job = two.shows("j1").await;
    assert_eq!((job.status, counts(&job)), (JobStatus::Completed, (0, 1, 0)));
    assert!(one.complete_method(&session, request_id, 200, Bytes::new()));
    // The first house gives its lease back when it has seen that the job is not its own any more.
    let name = format!("job/{}/j1", one.instance().as_str());
    let gone = async {
        while two.store().leases().take(&name, two.node(), Duration::from_secs(1)).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
    assert_eq!(two.shows("j1").await, job);
    assert_eq!(one.touched("j1").await[0].error.as_ref().unwrap().code, "ServerError");
}

#[tokio::test]
async fn two_houses_at_one_job_touch_each_twin_once() {
    let [one, two] = two_houses().await;
    one.has_devices(caps::JOB_DEVICES_AT_ONCE * 3).await;
    one.overslept(patches("j1", json!({"properties": {"desired": {"a": 1}}}))).await;
    let run = |hub: &TestHub| {
        let (held, hub) = (stolen(hub), hub.hub.clone());
        async move { hub.run_job(held, &job_id("j1")).await }
    };
    let (first, second) = within(Box::pin(async { tokio::join!(run(&one), run(&two)) })).await;
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    let job = one.ended("j1").await;
    assert_eq!(counts(&job), (300, 0, 0));
    for number in 0..300 {
        assert_eq!(one.twin(&format!("d{number:03}")).await.twin.version, 3, "{number}");
    }
}

#[tokio::test]
async fn a_job_that_is_cut_off_after_any_of_its_steps_is_brought_to_its_end_by_another_house() {
    for steps in 0..5 {
        let [one, two] = two_houses().await;
        one.has_devices(25).await;
        let spec = patches("j1", json!({"properties": {"desired": {"a": 1}}}));
        one.overslept(spec.clone()).await;
        let Action::UpdateTwin { patch } = spec.action else { panic!() };
        let patch = rules::twin_patch(&patch).unwrap();
        let held = stolen(&one);
        let job = one.begin_job(&job_id("j1")).await.unwrap().unwrap();
        let mut run = Run { hub: one.hub.clone(), held, job, targets: Targets::All };
        for _ in 0..steps {
            run.patch_some(&patch, 6).await.unwrap();
        }
        assert_eq!(counts(&one.shows("j1").await), (steps * 6, 0, 0));
        two.hubs.do_what_is_due().await.unwrap();
        let job = two.ended("j1").await;
        assert_eq!((job.status, counts(&job)), (JobStatus::Completed, (25, 0, 0)), "{steps} steps");
        // What the first house does when it comes back is refused.
        assert!(run.patch_some(&patch, 6).await.is_err());
        for number in 0..25 {
            assert_eq!(two.twin(&format!("d{number:03}")).await.twin.version, 3, "{number}, {steps} steps");
        }
        assert_eq!(two.touched("j1").await.len(), 25);
    }
}

#[derive(Default)]
struct Model {
    devices: BTreeMap<String, BTreeSet<String>>,
    jobs: BTreeMap<String, ModelJob>,
    forgotten: BTreeSet<String>,
}

struct ModelJob {
    targets: Option<BTreeSet<String>>,
    start: Timestamp,
    status: JobStatus,
    end: Option<Timestamp>,
    touched: BTreeSet<String>,
}

impl Model {
    fn active(&self) -> usize {
        self.jobs.values().filter(|job| job.status == JobStatus::Scheduled).count()
    }

    /// Every job whose time has come is done at once, to whoever is there.
    fn pass(&mut self, now: Timestamp) {
        let due = |job: &ModelJob| job.status == JobStatus::Scheduled && job.start <= now;
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| due(job)) {
            for (device, tags) in &mut self.devices {
                if job.targets.as_ref().is_none_or(|targets| targets.contains(device)) {
                    tags.insert(id.clone());
                    job.touched.insert(device.clone());
                }
            }
            (job.status, job.end) = (JobStatus::Completed, Some(now));
        }
    }

    /// A month after their end.
    fn forget(&mut self, now: Timestamp) {
        let kept = Duration::from_secs(caps::JOB_KEPT_SECONDS);
        let is_over = |job: &ModelJob| job.end.is_some_and(|end| end.plus(kept) <= now);
        self.forgotten.extend(self.jobs.extract_if(.., |_, job| is_over(job)).map(|(id, _)| id));
        // So many are looked for again.
        while self.forgotten.len() > 100 {
            self.forgotten.pop_first();
        }
    }
}

/// Until every job whose time has come has ended.
async fn settled(hub: &TestHub, model: &Model) {
    for (id, _) in
        model.jobs.iter().filter(|(_, job)| job.status == JobStatus::Scheduled && job.start <= hub.now())
    {
        hub.ended(id).await;
    }
}

async fn is_as(hub: &TestHub, model: &Model, step: usize) {
    for (device, jobs) in &model.devices {
        let tags = hub.twin(device).await.twin.tags;
        assert_eq!(&tags.keys().cloned().collect::<BTreeSet<_>>(), jobs, "{device} in step {step}");
    }
    for (id, expected) in &model.jobs {
        let job = hub.shows(id).await;
        assert_eq!(job.status, expected.status, "{id} in step {step}");
        let touched = hub.touched(id).await;
        let ids: BTreeSet<String> = touched.iter().map(|device| device.device_id.to_string()).collect();
        assert_eq!(ids, expected.touched, "{id} in step {step}");
        assert_eq!(counts(&job), (ids.len() as u64, 0, 0), "{id} in step {step}");
        assert_eq!(job.end, expected.end, "{id} in step {step}");
    }
    for id in &model.forgotten {
        assert_eq!(hub.get_job(&system(), &job_id(id)).await, Ok(None), "{id} in step {step}");
        assert!(hub.touched(id).await.is_empty(), "{id} in step {step}");
    }
    let page = hub.list_jobs(&system(), JobFilter::default(), caps::QUERY_PAGE_MAX, None).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (model.jobs.len(), false), "in step {step}");
}

#[tokio::test]
async fn a_random_walk_leaves_jobs_and_twins_as_a_plain_model_has_them() {
    let (mut rng, steps) = random_walk(1000);
    let hub = TestHub::new().await;
    let mut model = Model::default();
    for step in 0..steps {
        match rng.u8(0..10) {
            0..=2 => {
                let device = format!("d{}", rng.u8(0..8));
                if model.devices.remove(&device).is_some() {
                    hub.delete_device(&system(), &device.parse().unwrap(), &IfMatch::Any).await.unwrap();
                } else {
                    hub.create_device(&device).await;
                    model.devices.insert(device, BTreeSet::new());
                }
            }
            3..=5 => {
                let id = format!("j{step}");
                let targets: Option<BTreeSet<String>> =
                    rng.bool().then(|| (0..3).map(|_| format!("d{}", rng.u8(0..8))).collect());
                let condition = targets.as_ref().map(|ids| {
                    let quoted: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
                    // By their keys, or by a look at all twins.
                    let looked_for = if rng.bool() { "" } else { " AND NOT IS_DEFINED(tags.none)" };
                    format!("deviceId IN [{}]{looked_for}", quoted.join(","))
                });
                let start = hub.now().plus(Duration::from_secs(rng.u64(0..200)));
                let spec = patches(&id, json!({"tags": {&id: 1}}));
                let created = hub.creates(&JobSpec { start: Some(start), condition, ..spec }).await;
                if i64::try_from(model.active()).unwrap() >= caps::JOBS_ACTIVE_MAX {
                    let max = caps::JOBS_ACTIVE_MAX;
                    assert_eq!(created, Err(Error::ThrottlingMaxActiveJobCountExceeded(max)));
                    continue;
                }
                created.unwrap();
                let status = JobStatus::Scheduled;
                let job = ModelJob { targets, start, status, end: None, touched: BTreeSet::new() };
                model.jobs.insert(id, job);
            }
            6 if !model.jobs.is_empty() => {
                let at = rng.usize(0..model.jobs.len());
                let (id, job) = model.jobs.iter_mut().nth(at).unwrap();
                let cancelled = hub.cancel_job(&system(), &job_id(id)).await;
                if job.status == JobStatus::Scheduled && job.start > hub.now() {
                    (job.status, job.end) = (JobStatus::Cancelled, Some(hub.now()));
                    cancelled.unwrap();
                } else {
                    assert_eq!(cancelled.unwrap_err().code(), 405_102, "{id} in step {step}");
                }
            }
            kind => {
                // Days now and then, so that what is long over is forgotten.
                let is_long = kind == 9 && rng.u8(0..4) == 0;
                hub.clock.advance(Duration::from_secs(rng.u64(0..if is_long { 120 * 3600 } else { 60 })));
                hub.hubs.do_what_is_due().await.unwrap();
                model.forget(hub.now());
            }
        }
        settled(&hub, &model).await;
        model.pass(hub.now());
        if step % 20 == 0 {
            is_as(&hub, &model, step).await;
        }
    }
    is_as(&hub, &model, steps).await;
}
