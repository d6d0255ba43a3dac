//! Uploads of files from their beginning to what back ends hear, over an account that keeps nothing but what a test says of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base::{ConnectionString, IfMatch, Timestamp, caps};
use parking_lot::Mutex;

use super::*;
use crate::settings::FileUpload;
use crate::testing::{TestHub, context, random_walk, settings, system, within};
use crate::{Context, HubSettings, Settlement};

/// What lies in the account, by name; of what is not known it does not answer.
#[derive(Default)]
struct Shelf(Mutex<HashMap<String, Option<UploadedBlob>>>);

impl FileStorage for Shelf {
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant> {
        if blob_name.contains("..") {
            return Err(NoGrant::Name("it climbs".to_owned()));
        }
        Ok(Grant {
            host_name: "account.example".to_owned(),
            blob_uri: format!("https://account.example/{}/{blob_name}", at.container_name),
            sas_token: format!("?se={}", expires.iso7()),
        })
    }

    fn look<'a>(&'a self, _: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        let found = self.0.lock().get(blob_name).copied().ok_or(Unreachable("it is silent".to_owned()));
        Box::pin(async move { found })
    }
}

fn dev1() -> DeviceId {
    "dev1".parse().unwrap()
}

fn device() -> Caller {
    Caller::identity(settings("hub").scope, IdentityId::device(dev1()))
}

/// A hub with storage, that tells of uploads.
fn with_storage() -> HubSettings {
    let storage = StorageEndpoint {
        connection_string: ConnectionString::new("AccountName=account"),
        container_name: "files".to_owned(),
        ttl: Duration::from_hours(1),
    };
    let file_upload = FileUpload { storage: Some(storage), is_notified: true, ..FileUpload::default() };
    HubSettings { file_upload, ..settings("hub") }
}

struct Uploading {
    hub: TestHub,
    shelf: Arc<Shelf>,
}

impl Uploading {
    async fn new() -> Self {
        let shelf = Arc::new(Shelf::default());
        let hub = TestHub::on(Context { file_storage: shelf.clone(), ..context() }).await;
        hub.create_device("dev1").await;
        hub.hubs.ensure(with_storage()).await.unwrap();
        Self { hub, shelf }
    }

    async fn starts(&self, name: &str) -> Result<StartedUpload, Error> {
        self.hub.start_file_upload(&device(), &dev1(), name, &Dialled::here()).await
    }

    async fn completes(&self, correlation_id: &str, is_success: bool) -> Result<(), Error> {
        self.hub.complete_file_upload(&device(), &dev1(), correlation_id, is_success).await
    }

    /// A file that lies there and is told of, which says how many bytes it has.
    async fn uploads(&self, size_bytes: u64) -> StartedUpload {
        let started = self.starts("f").await.unwrap();
        let blob = UploadedBlob { size_bytes, last_updated: self.hub.now() };
        self.shelf.0.lock().insert(started.blob_name.clone(), Some(blob));
        self.completes(&started.correlation_id, true).await.unwrap();
        started
    }

    /// Sizes of the files that back ends are told of, in order; each is settled.
    async fn told(&self) -> Vec<u64> {
        let mut told = Vec::new();
        while let Some(given) = self.hub.receive_file_notification(&system()).await.unwrap() {
            told.extend(given.told.iter().map(|one| one.size_bytes));
            let token = given.lock_token;
            self.hub.settle_file_notification(&system(), token, Settlement::Complete).await.unwrap();
        }
        told
    }
}

#[tokio::test]
async fn an_upload_is_told_of_with_what_lies_there() {
    let test = Uploading::new().await;
    let started = test.starts("a b/c.txt").await.unwrap();
    assert_eq!(started.blob_name, "dev1/a b/c.txt");
    assert_eq!((&*started.host_name, &*started.container_name), ("account.example", "files"));
    assert_eq!(started.sas_token, "?se=2026-01-02T04:04:05.1234567Z");
    assert!(started.correlation_id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "it stands in paths");
    let at = test.hub.now();
    let blob = UploadedBlob { size_bytes: 7, last_updated: at };
    test.shelf.0.lock().insert("dev1/a b/c.txt".to_owned(), Some(blob));
    test.hub.clock.advance(Duration::from_mins(1));
    assert_eq!(test.completes(&started.correlation_id, true).await, Ok(()));
    let given = test.hub.receive_file_notification(&system()).await.unwrap().unwrap();
    let told = FileNotification {
        device_id: dev1(),
        blob_uri: "https://account.example/files/dev1/a b/c.txt".to_owned(),
        blob_name: "dev1/a b/c.txt".to_owned(),
        last_updated: at,
        size_bytes: 7,
        enqueued: test.hub.now(),
    };
    assert_eq!((given.told, given.enqueued), (vec![told], test.hub.now()));
    let again = test.completes(&started.correlation_id, true).await;
    assert_eq!(again, Err(Error::InvalidFileUploadCorrelationId), "an upload ends once");
}

#[tokio::test]
async fn nobody_is_told_of_a_failure_of_a_blob_that_is_not_there_or_where_the_hub_does_not_want_it() {
    let test = Uploading::new().await;
    let failed = test.starts("f").await.unwrap();
    test.shelf.0.lock().insert("dev1/f".to_owned(), None);
    test.completes(&failed.correlation_id, false).await.unwrap();
    let absent = test.starts("f").await.unwrap();
    test.completes(&absent.correlation_id, true).await.unwrap();
    assert!(test.told().await.is_empty());
    let mut quiet = with_storage();
    quiet.file_upload.is_notified = false;
    test.hub.hubs.ensure(quiet).await.unwrap();
    test.uploads(1).await;
    assert!(test.told().await.is_empty());
}

#[tokio::test]
async fn a_file_whose_account_is_silent_is_told_of_without_its_size() {
    let test = Uploading::new().await;
    let started = test.starts("f").await.unwrap();
    test.completes(&started.correlation_id, true).await.unwrap();
    let given = test.hub.receive_file_notification(&system()).await.unwrap().unwrap();
    assert_eq!((given.told[0].size_bytes, given.told[0].last_updated), (0, test.hub.now()));
}

#[tokio::test]
async fn what_cannot_begin_is_refused_by_name() {
    let test = Uploading::new().await;
    for wrong in [String::new(), "x".repeat(1025), "../f".to_owned()] {
        assert!(matches!(test.starts(&wrong).await, Err(Error::ArgumentInvalid(_))), "{wrong}");
    }
    let other = Caller::identity(settings("hub").scope, "dev1/mod1".parse().unwrap());
    let refused = test.hub.start_file_upload(&other, &dev1(), "f", &Dialled::here()).await;
    assert!(matches!(refused, Err(Error::PrincipalUnauthorized(_))));
    test.hub.hubs.ensure(settings("hub")).await.unwrap();
    assert_eq!(test.starts("f").await, Err(Error::DefaultStorageEndpointNotConfigured));
}

#[tokio::test]
async fn of_many_that_begin_at_once_ten_are_let_in_and_the_next_one_when_one_has_ended() {
    let test = Uploading::new().await;
    let names: Vec<String> = (0..25).map(|at| format!("f{at}")).collect();
    let mut begun = tokio::task::JoinSet::new();
    for name in names {
        let hub = test.hub.hub.clone();
        begun.spawn(async move { hub.start_file_upload(&device(), &dev1(), &name, &Dialled::here()).await });
    }
    let answers = begun.join_all().await;
    let (begun, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(begun.len(), caps::FILE_UPLOADS_ACTIVE_MAX);
    for refused in refused {
        assert_eq!(refused, Err(Error::DeviceMaximumActiveFileUploadLimitExceeded));
    }
    let full = test.starts("f").await.unwrap_err();
    assert_eq!(full.to_string(), "Number of active file upload requests cannot exceed 10");
    let first = begun.into_iter().next().unwrap().unwrap();
    test.completes(&first.correlation_id, false).await.unwrap();
    assert!(test.starts("f").await.is_ok());
    assert!(test.starts("f").await.is_err());
}

#[tokio::test]
async fn an_upload_whose_time_is_over_makes_room_and_is_known_as_such() {
    let test = Uploading::new().await;
    let mut last = None;
    for _ in 0..caps::FILE_UPLOADS_ACTIVE_MAX {
        last = Some(test.starts("f").await.unwrap());
    }
    test.hub.clock.advance(Duration::from_secs(3599));
    assert!(test.starts("f").await.is_err());
    test.hub.clock.advance(Duration::from_secs(1));
    let id = last.unwrap().correlation_id;
    assert_eq!(test.completes(&id, true).await, Err(Error::ExpiredFileUploadCorrelationId));
    test.starts("f").await.unwrap();
    assert_eq!(test.completes(&id, true).await, Err(Error::ExpiredFileUploadCorrelationId));
    assert_eq!(test.completes("x", true).await, Err(Error::InvalidFileUploadCorrelationId));
    assert!(test.told().await.is_empty());
}

#[tokio::test]
async fn uploads_go_with_their_device_and_what_was_told_stays() {
    let test = Uploading::new().await;
    test.uploads(3).await;
    let started = test.starts("f").await.unwrap();
    test.hub.delete_device(&system(), &dev1(), &IfMatch::Any).await.unwrap();
    assert!(matches!(test.starts("f").await, Err(Error::DeviceNotFound(_))));
    test.hub.create_device("dev1").await;
    let of_the_old = test.completes(&started.correlation_id, true).await;
    assert_eq!(of_the_old, Err(Error::InvalidFileUploadCorrelationId));
    assert_eq!(test.told().await, [3]);
}

#[tokio::test]
async fn an_upload_that_begins_while_its_device_is_deleted_is_not_one_of_the_next_device_of_that_name() {
    for waits in 0..12 {
        let test = Uploading::new().await;
        let mut request = Box::pin(test.starts("f"));
        let mut left = waits;
        let begun = std::future::poll_fn(|context| match request.as_mut().poll(context) {
            Poll::Ready(begun) => Poll::Ready(Some(begun)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        let begun = within(begun).await;
        test.hub.delete_device(&system(), &dev1(), &IfMatch::Any).await.unwrap();
        let begun = match begun {
            Some(begun) => begun,
            None => within(request).await,
        };
        test.hub.create_device("dev1").await;
        if let Ok(StartedUpload { correlation_id, .. }) = begun {
            let of_the_old = test.completes(&correlation_id, true).await;
            assert_eq!(of_the_old, Err(Error::InvalidFileUploadCorrelationId), "behind {waits} waits");
        }
    }
}

#[tokio::test]
async fn settings_of_the_hub_say_how_long_a_notification_is_held_and_kept_and_how_often_given() {
    let test = Uploading::new().await;
    let mut brief = with_storage();
    brief.file_upload.notifications.lock = Duration::from_secs(5);
    brief.file_upload.notifications.ttl = Duration::from_mins(2);
    brief.file_upload.notifications.max_delivery_count = 2;
    test.hub.hubs.ensure(brief).await.unwrap();
    test.uploads(1).await;
    let hub = &test.hub;
    let receive = async || hub.receive_file_notification(&system()).await.unwrap();
    let first = receive().await.unwrap();
    assert_eq!(receive().await, None);
    hub.clock.advance(Duration::from_secs(5));
    let again = receive().await.unwrap();
    let settled = hub.settle_file_notification(&system(), first.lock_token, Settlement::Complete).await;
    assert_eq!(settled, Err(Error::DeviceMessageLockLost));
    hub.settle_file_notification(&system(), again.lock_token, Settlement::Abandon).await.unwrap();
    let last = receive().await.unwrap();
    hub.settle_file_notification(&system(), last.lock_token, Settlement::Abandon).await.unwrap();
    assert_eq!(receive().await, None, "it was given back twice");
    test.uploads(2).await;
    hub.clock.advance(Duration::from_mins(1));
    test.uploads(3).await;
    // What expires is dropped by the minute.
    hub.clock.advance(Duration::from_mins(3));
    hub.hubs.do_what_is_due().await.unwrap();
    assert!(test.told().await.is_empty(), "both were kept for two minutes");
}

/// The queue of notifications, plain and slow: size, until when it is held and kept, how often given back, in the order in which it
/// came; and the uploads under way with the end of their time.
#[derive(Default)]
struct Model {
    waiting: Vec<(u64, Timestamp)>,
    given: Vec<Held>,
    active: Vec<(StartedUpload, Timestamp)>,
}

struct Held {
    size: u64,
    kept: Timestamp,
    until: Option<Timestamp>,
    back: u32,
}

#[tokio::test]
async fn a_random_walk_leaves_uploads_and_notifications_as_a_plain_model_has_them() {
    let (mut rng, steps) = random_walk(3000);
    let test = Uploading::new().await;
    let mut model = Model::default();
    let mut held = Vec::new();
    for step in 0..steps as u64 {
        let now = test.hub.now();
        match rng.u8(0..10) {
            0..=3 => {
                let started = test.starts("f").await;
                model.active.retain(|(_, expires)| *expires > now);
                if model.active.len() >= 10 {
                    assert_eq!(started, Err(Error::DeviceMaximumActiveFileUploadLimitExceeded));
                } else {
                    model.active.push((started.unwrap(), now.plus(Duration::from_hours(1))));
                }
            }
            4..=5 if !model.active.is_empty() => {
                let (started, expires) = model.active.swap_remove(rng.usize(0..model.active.len()));
                let (is_success, size) = (rng.bool(), 1 + step);
                let blob = UploadedBlob { size_bytes: size, last_updated: now };
                test.shelf.0.lock().insert(started.blob_name.clone(), Some(blob));
                let completed = test.completes(&started.correlation_id, is_success).await;
                if expires <= now {
                    assert_eq!(completed, Err(Error::ExpiredFileUploadCorrelationId));
                } else {
                    completed.unwrap();
                    if is_success {
                        model.waiting.push((size, now.plus(Duration::from_hours(1))));
                    }
                }
                // What one moment brings has no order; each completion has one of its own.
                test.hub.clock.advance(Duration::from_millis(1));
            }
            6..=7 => {
                let received = test.hub.receive_file_notification(&system()).await.unwrap();
                let is_free = |held: &Held| held.kept > now && held.until.is_none_or(|until| until <= now);
                let again = model.given.iter().position(is_free);
                let at = again.or_else(|| {
                    let (size, kept) = (!model.waiting.is_empty()).then(|| model.waiting.remove(0))?;
                    model.given.push(Held { size, kept, until: None, back: 0 });
                    Some(model.given.len() - 1)
                });
                assert_eq!(received.is_some(), at.is_some(), "step {step}");
                if let (Some(received), Some(at)) = (received, at) {
                    let taken = &mut model.given[at];
                    assert_eq!(received.told[0].size_bytes, taken.size, "step {step}");
                    taken.until = Some(now.plus(Duration::from_mins(1)));
                    held.retain(|(size, _)| *size != taken.size);
                    held.push((taken.size, received.lock_token));
                }
            }
            8 if !held.is_empty() => {
                let (size, token) = held.swap_remove(rng.usize(0..held.len()));
                let settlement =
                    [Settlement::Complete, Settlement::Reject, Settlement::Abandon][rng.usize(0..3)];
                let settled = test.hub.settle_file_notification(&system(), token, settlement).await;
                let is_held = |held: &Held| held.size == size && held.until.is_some_and(|until| until > now);
                let Some(at) = model.given.iter().position(is_held) else {
                    assert_eq!(settled, Err(Error::DeviceMessageLockLost), "step {step}");
                    continue;
                };
                settled.unwrap();
                let given = &mut model.given[at];
                (given.back, given.until) = (given.back + 1, None);
                if settlement != Settlement::Abandon || given.back >= 10 {
                    model.given.remove(at);
                }
            }
            _ => {
                test.hub.clock.advance(Duration::from_secs(rng.u64(0..400)));
                test.hub.hubs.do_what_is_due().await.unwrap();
                // Dropped by the minute.
                let whole = test.hub.now().unix_seconds() / 60 * 60;
                let kept = |kept: Timestamp| kept > Timestamp::from_unix_seconds(whole);
                model.waiting.retain(|(_, until)| kept(*until));
                model.given.retain(|held| kept(held.kept));
            }
        }
    }
}
