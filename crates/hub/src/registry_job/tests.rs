//! Imports and exports over containers in memory: what files hold, what lines do, and that no line is done twice, whoever goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::IfMatch;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::run::Run;
use super::*;
use crate::configuration::{ConfigurationSpec, ContentSpec};
use crate::device::{AuthenticationSpec, DeviceSpec};
use crate::file_upload::{Asked, FileStorage, Grant, Look, NoGrant, Portion, Unreachable};
use crate::settings::StorageEndpoint;
use crate::testing::{TestHub, context, system, within};
use crate::twin::rules::InitialTwin;
use crate::{Context, Hubs};

/// Containers by their address, and what is wrong with a blob.
#[derive(Default)]
struct Cellar {
    blobs: Mutex<BTreeMap<(String, String), Bytes>>,
    blocks: Mutex<BTreeMap<(String, String, String), Bytes>>,
    faults: Mutex<BTreeMap<&'static str, ContainerFault>>,
}

impl Cellar {
    fn check(&self, at: &ContainerUri, blob: &str) -> Result<(String, String), ContainerFault> {
        let faults = self.faults.lock();
        let fault = faults.get(blob).or_else(|| faults.get("probe").filter(|_| blob.contains(".probe")));
        match fault {
            Some(fault) => Err(fault.clone()),
            None => Ok((at.expose().to_owned(), blob.to_owned())),
        }
    }

    fn fails(&self, blob: &'static str, fault: ContainerFault) {
        self.faults.lock().insert(blob, fault);
    }

    fn heals(&self) {
        self.faults.lock().clear();
    }

    fn has(&self, blob: &str) -> Option<String> {
        let blobs = self.blobs.lock();
        blobs.get(&(AT.to_owned(), blob.to_owned())).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn lines(&self, blob: &str) -> Vec<Value> {
        let text = self.has(blob).expect("the blob is there");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn put(&self, blob: &str, text: &str) {
        self.blobs.lock().insert((AT.to_owned(), blob.to_owned()), Bytes::from(text.to_owned()));
    }

    fn put_lines(&self, blob: &str, lines: &[Value]) {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        self.put(blob, &lines.join("\r\n"));
    }
}

const AT: &str = "https://a.example/c?sig=x";

impl FileStorage for Cellar {
    fn grant(&self, _: &StorageEndpoint, _: &str, _: base::Timestamp) -> Result<Grant, NoGrant> {
        Err(NoGrant::Account("none".to_owned()))
    }

    fn look<'a>(&'a self, _: &'a StorageEndpoint, _: &'a str) -> Look<'a> {
        Box::pin(async { Err(Unreachable("none".to_owned())) })
    }

    fn read<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        from: u64,
        most: usize,
    ) -> Asked<'a, Option<Portion>> {
        Box::pin(async move {
            let Some(all) = self.blobs.lock().get(&self.check(at, blob)?).cloned() else { return Ok(None) };
            let from = usize::try_from(from).unwrap().min(all.len());
            let bytes = all.slice(from..(from + most).min(all.len()));
            Ok(Some(Portion { bytes, blob_bytes: all.len() as u64 }))
        })
    }

    fn put_block<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        id: &'a str,
        bytes: Bytes,
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            let (at, blob) = self.check(at, blob)?;
            self.blocks.lock().insert((at, blob, id.to_owned()), bytes);
            Ok(())
        })
    }

    fn commit_blocks<'a>(&'a self, at: &'a ContainerUri, blob: &'a str, ids: &'a [String]) -> Asked<'a, ()> {
        Box::pin(async move {
            let (at, blob) = self.check(at, blob)?;
            let blocks = self.blocks.lock();
            let block = |id: &String| blocks.get(&(at.clone(), blob.clone(), id.clone())).cloned();
            let missing = || ContainerFault::Refused("InvalidBlockList".to_owned());
            let parts = ids.iter().map(block).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
            self.blobs.lock().insert((at.clone(), blob.clone()), parts.concat().into());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, at: &'a ContainerUri, blob: &'a str) -> Asked<'a, bool> {
        Box::pin(async move { Ok(self.blobs.lock().remove(&self.check(at, blob)?).is_some()) })
    }
}

struct Moving {
    hub: TestHub,
    cellar: Arc<Cellar>,
}

impl std::ops::Deref for Moving {
    type Target = TestHub;

    fn deref(&self) -> &TestHub {
        &self.hub
    }
}

fn export() -> RegistryJobSpec {
    RegistryJobSpec { output: Some(ContainerUri::new(AT)), ..RegistryJobSpec::new(Kind::Export) }
}

fn import() -> RegistryJobSpec {
    let at = Some(ContainerUri::new(AT));
    RegistryJobSpec { input: at.clone(), output: at, ..RegistryJobSpec::new(Kind::Import) }
}

fn silent() -> ContainerFault {
    ContainerFault::Unreachable("it is silent".to_owned())
}

impl Moving {
    async fn new() -> Self {
        let cellar = Arc::new(Cellar::default());
        let hub = TestHub::on(Context { file_storage: cellar.clone(), ..context() }).await;
        Self { hub, cellar }
    }

    async fn begins(&self, spec: &RegistryJobSpec) -> Result<RegistryJob, Error> {
        within(self.create_registry_job(&system(), spec)).await
    }

    async fn shows(&self, id: &RegistryJobId) -> RegistryJob {
        self.get_registry_job(&system(), id).await.unwrap()
    }

    /// A job once it has ended.
    async fn ended(&self, id: &RegistryJobId) -> RegistryJob {
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

    async fn does(&self, spec: &RegistryJobSpec) -> RegistryJob {
        let job = self.begins(spec).await.unwrap();
        self.ended(&job.job_id).await
    }

    /// Waits until the house that is at the job has let go of it.
    async fn rests(&self, job: &RegistryJob) {
        let name = format!("registry_job/{}/{}", self.instance().as_str(), job.job_id);
        let free = async {
            loop {
                if let Some(held) = self.hold(&name, Duration::from_secs(30)).await.unwrap() {
                    return self.give_back(&held).await;
                }
                tokio::task::yield_now().await;
            }
        };
        within(free).await;
    }

    /// Somebody looks for the job again.
    async fn looks_again(&self, job: &RegistryJob) {
        self.rests(job).await;
        self.take_up_registry_job(&job.job_id).await.unwrap();
    }

    async fn makes(&self, id: &str, make: impl FnOnce(&mut DeviceSpec)) {
        let mut spec = DeviceSpec::new(id.parse().unwrap());
        make(&mut spec);
        self.put_device(&system(), &spec, &IfMatch::Absent).await.unwrap();
    }

    /// A leaf with a twin, an IoT Edge device, a leaf below it whose id comes before, modules of all.
    async fn has_a_fleet(&self) {
        self.makes("leaf", |spec| {
            spec.initial_twin = InitialTwin {
                tags: json!({"floor": 1}).as_object().unwrap().clone(),
                desired: json!({"target": {"low": 1}}).as_object().unwrap().clone(),
                ..InitialTwin::default()
            };
            spec.status = crate::device::Status::Disabled;
            spec.status_reason = Some("not mounted".into());
        })
        .await;
        self.reported("leaf", json!({"seen": true})).await.unwrap();
        self.makes("edge", |spec| spec.iot_edge = true).await;
        let scope = self.stored("edge").await.device_scope;
        self.makes("below", |spec| spec.scopes.device_scope = scope).await;
        self.makes("by-thumbprint", |spec| {
            let thumbprint = Some("A1".repeat(20));
            spec.authentication =
                AuthenticationSpec { primary_thumbprint: thumbprint, ..AuthenticationSpec::default() };
        })
        .await;
        self.create_module("edge/vision").await;
        self.patch("edge/$edgeAgent", json!({"properties": {"desired": {"modules": {}}}})).await.unwrap();
    }

    async fn deletes_everything(&self) {
        for view in self.list_devices(&system(), None).await.unwrap() {
            let id = view.identity.id.device_id;
            self.delete_device(&system(), &id, &IfMatch::Any).await.unwrap();
        }
    }

    /// What an export writes now, without what is new with every identity.
    async fn whole(&self) -> Vec<Value> {
        assert_eq!(self.does(&export()).await.status, Status::Completed);
        let mut lines = self.cellar.lines("devices.txt");
        for line in &mut lines {
            let line = line.as_object_mut().unwrap();
            line.retain(|name, _| !matches!(name.as_str(), "eTag" | "twinETag"));
            for section in ["desired", "reported"] {
                let section = line["properties"][section].as_object_mut().unwrap();
                section.retain(|name, _| !name.starts_with('$'));
            }
        }
        lines
    }

    /// Failures as the log of an import tells them: of whom, and by what number.
    fn failures(&self) -> Vec<(String, u64)> {
        let failure = |line: Value| {
            assert!(!line["errorStatus"].as_str().unwrap().is_empty());
            let id = line["deviceId"].as_str().unwrap().to_owned();
            let id = line["moduleId"].as_str().map_or(id.clone(), |module| format!("{id}/{module}"));
            (id, line["errorCode"].as_u64().unwrap())
        };
        self.cellar.lines(rules::ERRORS).into_iter().map(failure).collect()
    }
}

#[tokio::test]
async fn an_export_has_a_line_for_each_identity_those_first_on_which_others_rest() {
    let test = Moving::new().await;
    test.has_a_fleet().await;
    let job = test.begins(&export()).await.unwrap();
    assert_eq!((job.status, job.percent()), (Status::Enqueued, 0));
    let ended = test.ended(&job.job_id).await;
    assert_eq!((ended.status, ended.percent(), &ended.failure), (Status::Completed, 100, &None));
    let lines = test.cellar.lines("devices.txt");
    let names: Vec<_> = lines.iter().map(|line| (line["id"].as_str(), line["moduleId"].as_str())).collect();
    let expected = [
        ("edge", None),
        ("below", None),
        ("by-thumbprint", None),
        ("leaf", None),
        ("edge", Some("$edgeAgent")),
        ("edge", Some("$edgeHub")),
        ("edge", Some("vision")),
    ];
    assert_eq!(names, expected.map(|(id, module)| (Some(id), module)));
    let (leaf, stored, twin) = (&lines[3], test.stored("leaf").await, test.twin("leaf").await.twin);
    let crate::device::Authentication::Sas { primary_key, secondary_key } = &stored.authentication else {
        panic!("it has keys")
    };
    let expected = json!({
        "id": "leaf", "eTag": stored.etag_text(), "status": "disabled", "statusReason": "not mounted",
        "authentication": {
            "symmetricKey": {"primaryKey": primary_key.text(), "secondaryKey": secondary_key.text()},
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null}, "type": "sas",
        },
        "twinETag": twin.etag.to_string(), "tags": {"floor": 1},
        "properties": {
            "desired": twin.properties.desired.with_metadata(),
            "reported": twin.properties.reported.with_metadata(),
        },
        "capabilities": {"iotEdge": false},
    });
    assert_eq!(leaf, &expected);
    assert_eq!(
        (&lines[1]["deviceScope"], &lines[1]["parentScopes"][0]),
        (&lines[0]["deviceScope"], &lines[0]["deviceScope"])
    );
    assert_eq!(
        (&lines[2]["authentication"]["type"], &lines[6]["status"]),
        (&json!("selfSigned"), &json!("enabled"))
    );
    assert_eq!(test.cellar.blobs.lock().len(), 1, "what was written to try the container is gone");
    assert_eq!(ended.action.closed(), ended.action, "nothing opens the container any more");
}

#[tokio::test]
async fn without_keys_the_first_line_says_so_and_an_import_passes_it_over() {
    let test = Moving::new().await;
    test.create_device("a").await;
    let spec = RegistryJobSpec { excludes_keys: true, output_blob: Some("x/y.txt".into()), ..export() };
    assert!(test.does(&spec).await.action.excludes_keys());
    let file = test.cellar.has("x/y.txt").unwrap();
    let (first, rest) = file.split_once('\n').unwrap();
    assert!(first.starts_with("// ") && first.contains("excludeKeysInExport"));
    let line: Value = serde_json::from_str(rest).unwrap();
    let keys = &line["authentication"]["symmetricKey"];
    assert_eq!(keys, &json!({"primaryKey": null, "secondaryKey": null}));
    test.deletes_everything().await;
    let job = test.does(&RegistryJobSpec { input_blob: Some("x/y.txt".into()), ..import() }).await;
    assert_eq!((job.status, job.failures()), (Status::Completed, 0));
    assert_eq!(test.device_count().await, Ok(1));
}

#[tokio::test]
async fn what_was_exported_comes_back_by_an_import() {
    let test = Moving::new().await;
    test.has_a_fleet().await;
    for number in 0..230 {
        test.create_device(&format!("many-{number:03}")).await;
    }
    let before = test.whole().await;
    assert_eq!(before.len(), 237);
    test.deletes_everything().await;
    let job = test.does(&import()).await;
    assert_eq!(
        (job.status, job.failures(), job.failure.clone()),
        (Status::Completed, 0, None),
        "{:?}",
        test.cellar.has(rules::ERRORS)
    );
    assert_eq!(test.whole().await, before);
    // Over what is there it changes no twin, and its log would be the one before's.
    let version = test.twin("leaf").await.twin.version;
    test.cellar.put(rules::ERRORS, "of another import");
    assert_eq!(test.does(&import()).await.failures(), 0);
    assert_eq!((test.twin("leaf").await.twin.version, test.cellar.has(rules::ERRORS)), (version, None));
}

#[tokio::test]
async fn lines_do_what_their_mode_says_and_their_failures_fail_nothing_else() {
    let test = Moving::new().await;
    for id in ["there", "matched", "stale", "gone", "twin", "kept"] {
        test.create_device(id).await;
    }
    let (etag, twin_etag) =
        (test.stored("matched").await.etag_text(), test.twin("twin").await.twin.etag.to_string());
    let status = |id: &str, mode: &str| json!({"id": id, "importMode": mode, "status": "disabled"});
    let with = |mut line: Value, name: &str, value: Value| {
        line[name] = value;
        line
    };
    let tags = json!({"a": 1});
    test.cellar.put_lines("devices.txt", &[
        with(status("new", "create"), "tags", tags.clone()),
        status("there", "create"),
        with(status("there", "update"), "tags", tags.clone()),
        status("nowhere", "update"),
        with(status("matched", "updateIfMatchETag"), "eTag", json!(etag)),
        with(status("stale", "updateIfMatchETag"), "eTag", json!("AAAA")),
        json!({"id": "gone", "importMode": "delete"}),
        json!({"id": "gone", "importMode": "delete"}),
        json!({"id": "twin", "importMode": "updateTwinIfMatchETag", "twinETag": twin_etag, "tags": tags}),
        json!({"id": "twin", "importMode": "updateTwinIfMatchETag", "twinETag": twin_etag, "tags": {"a": 2}}),
        with(status("kept", "createOrUpdate"), "eTag", json!("AAAA")),
        json!({"id": "there", "moduleId": "m", "managedBy": "us"}),
        json!({"id": "no one", "importMode": "create"}),
        json!({"id": "x", "importMode": "sometimes"}),
        json!({"importMode": "create"}),
        json!([]),
    ]);
    let job = test.does(&import()).await;
    assert_eq!((job.status, job.failure.clone(), job.failures()), (Status::Completed, None, 9));
    let expected = [
        ("there", 409_001),
        ("nowhere", 404_001),
        ("stale", 412_001),
        ("gone", 404_001),
        ("twin", 412_001),
        ("no one", 400_004),
        ("", 400_012),
        ("", 400_012),
        ("", 400_012),
    ];
    assert_eq!(test.failures(), expected.map(|(id, code)| (id.to_owned(), code)));
    for id in ["new", "there", "matched", "kept"] {
        assert!(!test.stored(id).await.is_enabled(), "{id}");
    }
    for id in ["new", "there", "twin"] {
        assert_eq!(Value::Object(test.twin(id).await.twin.tags), json!({"a": 1}), "{id}");
    }
    assert_eq!(test.stored("there/m").await.managed_by.as_deref(), Some("us"));
    assert!(test.stored("stale").await.is_enabled());
}

#[tokio::test]
async fn an_import_that_is_cut_off_does_no_line_twice() {
    let test = Moving::new().await;
    for id in ["there", "matched", "gone", "twin"] {
        test.create_device(id).await;
    }
    let (matched, twin) = (test.stored("matched").await, test.twin("twin").await.twin);
    let lines = [
        json!({"id": "new", "importMode": "create"}),
        json!({"id": "there", "importMode": "create"}),
        json!({"id": "matched", "importMode": "updateIfMatchETag", "eTag": matched.etag_text(), "status": "disabled"}),
        json!({"id": "gone", "importMode": "delete"}),
        json!({"id": "twin", "importMode": "updateTwinIfMatchETag", "twinETag": twin.etag.to_string(), "tags": {"a": 1}}),
    ];
    test.cellar.put_lines("devices.txt", &lines);
    // All of them are done, and then the failure cannot be told.
    test.cellar.fails(rules::ERRORS, silent());
    let job = test.begins(&import()).await.unwrap();
    let created = async {
        while test.identity(&"new".parse().unwrap()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    within(created).await;
    test.looks_again(&job).await;
    test.looks_again(&job).await;
    assert_eq!(test.shows(&job.job_id).await.status, Status::Running);
    test.cellar.heals();
    test.looks_again(&job).await;
    let job = test.ended(&job.job_id).await;
    assert_eq!((job.status, job.failures()), (Status::Completed, 1));
    assert_eq!(test.failures(), [("there".to_owned(), 409_001)]);
    assert_eq!(test.stored("matched").await.etag, matched.etag + 1);
    assert_eq!(test.twin("twin").await.twin.version, twin.version + 1);
    assert_eq!(test.device_count().await, Ok(4));
}

#[tokio::test]
async fn an_export_that_is_cut_off_goes_on_at_another_house_and_the_first_one_writes_no_more() {
    let test = Moving::new().await;
    for number in 0..10 {
        test.create_device(&format!("d{number}")).await;
    }
    test.cellar.fails("devices.txt", silent());
    let job = test.begins(&export()).await.unwrap();
    test.rests(&job).await;
    let lease = Duration::from_secs(caps::JOB_LEASE_SECONDS);
    let stored = test.begin_registry_job(&job.job_id).await.unwrap().unwrap();
    let mut first = Run { hub: test.hub.hub.clone(), held: test.stolen(lease), job: stored, part: None };
    test.cellar.heals();
    first.export_some().await.unwrap();
    let second = Hubs::new(test.context.clone());
    second.load().await.unwrap();
    let second = second.find("hub").unwrap();
    second.run_registry_job(second.stolen(lease), &job.job_id).await.unwrap();
    assert_eq!(test.ended(&job.job_id).await.status, Status::Completed);
    assert_eq!(test.cellar.lines("devices.txt").len(), 10);
    let progress = first.progress();
    assert_eq!(first.write(progress).await, Err(Error::Conflict));
}

#[tokio::test]
async fn one_job_is_active_at_a_time_and_a_cancelled_one_leaves_no_file() {
    let test = Moving::new().await;
    test.create_device("a").await;
    test.cellar.fails("devices.txt", silent());
    let job = test.begins(&export()).await.unwrap();
    assert!(matches!(test.begins(&export()).await, Err(Error::JobQuotaExceeded(_))));
    test.cancel_registry_job(&system(), &job.job_id).await.unwrap();
    test.cellar.heals();
    let cancelled = test.shows(&job.job_id).await;
    assert_eq!((cancelled.status, cancelled.failure), (Status::Cancelled, None));
    test.take_up_registry_job(&job.job_id).await.unwrap();
    let again = test.cancel_registry_job(&system(), &job.job_id).await;
    assert!(matches!(again, Err(Error::JobNotFound(_))));
    assert_eq!(test.cellar.has("devices.txt"), None);
    let other = test.does(&export()).await;
    let mut listed: Vec<_> = test
        .list_registry_jobs(&system())
        .await
        .unwrap()
        .into_iter()
        .map(|job| (job.job_id, job.status))
        .collect();
    listed.sort();
    let mut expected = vec![(job.job_id.clone(), Status::Cancelled), (other.job_id, Status::Completed)];
    expected.sort();
    assert_eq!(listed, expected);
    test.clock.advance(Duration::from_secs(caps::JOB_KEPT_SECONDS - 1));
    test.hubs.do_what_is_due().await.unwrap();
    assert_eq!(test.list_registry_jobs(&system()).await.unwrap().len(), 2);
    test.clock.advance(Duration::from_secs(1));
    test.hubs.do_what_is_due().await.unwrap();
    assert!(test.list_registry_jobs(&system()).await.unwrap().is_empty());
    let unknown = test.get_registry_job(&system(), &job.job_id).await;
    assert!(matches!(unknown, Err(Error::JobNotFound(_))));
}

#[tokio::test]
async fn a_container_that_is_of_no_use_is_told_at_once() {
    let test = Moving::new().await;
    let refused = ContainerFault::Refused("AuthorizationFailure".to_owned());
    test.cellar.fails("probe", refused.clone());
    let Err(Error::BlobContainerValidationError(why)) = test.begins(&export()).await else { panic!() };
    assert!(why.starts_with("Unauthorized to write to output blob container"), "{why}");
    test.cellar.fails("probe", ContainerFault::Address("it is none".to_owned()));
    assert!(matches!(test.begins(&export()).await, Err(Error::InvalidStorageEndpoint(_))));
    test.cellar.heals();
    assert!(matches!(test.begins(&import()).await, Err(Error::InvalidStorageEndpointOrBlob(_))));
    test.cellar.fails("devices.txt", refused);
    assert!(matches!(test.begins(&import()).await, Err(Error::BlobContainerValidationError(_))));
    assert!(test.list_registry_jobs(&system()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_container_that_refuses_fails_the_job_and_one_that_is_silent_does_when_it_stays_so() {
    let test = Moving::new().await;
    test.create_device("a").await;
    test.cellar.fails("devices.txt", ContainerFault::Refused("AuthenticationFailed".to_owned()));
    let job = test.does(&export()).await;
    assert_eq!((job.status, job.failure.as_deref()), (Status::Failed, Some("AuthenticationFailed")));
    test.cellar.fails("devices.txt", silent());
    let job = test.begins(&export()).await.unwrap();
    for _ in 1..caps::REGISTRY_JOB_FAULTS_MAX {
        assert!(test.shows(&job.job_id).await.end.is_none());
        test.looks_again(&job).await;
    }
    let job = test.ended(&job.job_id).await;
    assert_eq!((job.status, job.failure.as_deref()), (Status::Failed, Some("it is silent")));
}

#[tokio::test]
async fn configurations_go_along_where_that_is_asked_for() {
    let test = Moving::new().await;
    let content = json!({"properties.desired.x": 1}).as_object().unwrap().clone();
    let spec = ConfigurationSpec {
        id: "cfg".parse().unwrap(),
        schema_version: None,
        labels: Some([("k".to_owned(), "v".to_owned())].into()),
        content: ContentSpec { device: Some(content.clone()), ..ContentSpec::default() },
        target_condition: Some("*".to_owned()),
        priority: 7,
        metrics: BTreeMap::new(),
    };
    let id = spec.id.clone();
    within(test.put_configuration(&system(), &spec, &IfMatch::Absent)).await.unwrap();
    let with = |spec| RegistryJobSpec { includes_configurations: true, ..spec };
    test.does(&with(export())).await;
    let lines = test.cellar.lines("configurations.txt");
    assert_eq!(
        (&lines[0]["Id"], &lines[0]["Priority"], &lines[0]["Labels"]),
        (&json!("cfg"), &json!(7), &json!({"k": "v"}))
    );
    assert_eq!(lines[0]["Content"]["DeviceContent"], Value::Object(content));
    within(test.delete_configuration(&system(), &id, &IfMatch::Absent)).await.unwrap();
    assert_eq!(test.does(&with(import())).await.failures(), 0);
    let view = test.get_configuration(&system(), &id).await.unwrap();
    let made = view.configuration;
    assert_eq!((made.priority, made.labels, made.target_condition.as_deref()), (7, spec.labels, Some("*")));
    // The spelling of clients, and modes.
    test.cellar.put_lines("configurations.txt", &[
        json!({
                "id": "cfg", "priority": 9, "importMode": "createOrUpdateIfMatchETag", "etag": "AAAA",
                "content": {"deviceContent": {}},
            }),
        json!({"id": "cfg", "priority": 8, "importMode": "createOrUpdate", "content": {"deviceContent": {}}}),
        json!({"id": "NO", "content": {"deviceContent": {}}}),
    ]);
    assert_eq!(test.does(&with(import())).await.failures(), 2);
    assert_eq!(test.failures(), [("cfg".to_owned(), 412_001), ("NO".to_owned(), 400_004)]);
    assert_eq!(test.get_configuration(&system(), &id).await.unwrap().configuration.priority, 8);
}

#[tokio::test]
async fn whoever_may_not_write_twins_imports_none_over_those_that_are_there() {
    let test = Moving::new().await;
    test.create_device("there").await;
    let lines = [
        json!({"id": "there", "tags": {"a": 1}}),
        json!({"id": "there", "importMode": "updateTwin", "tags": {"a": 1}}),
        json!({"id": "new", "tags": {"a": 1}}),
    ];
    test.cellar.put_lines("devices.txt", &lines);
    let policies = test.policies();
    let policy = policies.iter().find(|policy| policy.key_name == "registryReadWrite").unwrap();
    let caller = Caller::policy(test.scope().clone(), &policy.key_name, &policy.rights);
    let job = within(test.create_registry_job(&caller, &import())).await.unwrap();
    assert_eq!(test.ended(&job.job_id).await.failures(), 2);
    assert_eq!(test.failures(), [("there".to_owned(), 401_002), ("there".to_owned(), 401_002)]);
    assert!(test.twin("there").await.twin.tags.is_empty() && !test.twin("new").await.twin.tags.is_empty());
    let reader = policies.iter().find(|policy| policy.key_name == "registryRead").unwrap();
    let reader = Caller::policy(test.scope().clone(), &reader.key_name, &reader.rights);
    assert!(test.create_registry_job(&reader, &export()).await.is_err());
}
