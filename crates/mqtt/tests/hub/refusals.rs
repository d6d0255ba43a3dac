//! What the log says of devices that are kept out or cut off.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use super::*;

thread_local! {
    /// A test and everything that it starts run on one thread.
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ToThisThread;

impl io::Write for ToThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of one test, from `info` up.
struct Log;

impl Log {
    /// For the whole process: a subscriber of one thread is not always asked about what another thread says first.
    fn listen() -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let lines = tracing_subscriber::fmt().with_writer(|| ToThisThread).with_ansi(false);
            lines.with_max_level(tracing::Level::INFO).init();
        });
        Self.take();
        Self
    }

    /// The lines since the last call.
    #[expect(clippy::unused_self, reason = "only who listens has lines")]
    fn take(&self) -> Vec<String> {
        let bytes = LINES.take();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// The one line that there is.
fn only(log: &Log) -> String {
    match &log.take()[..] {
        [line] => line.clone(),
        other => panic!("{other:#?}"),
    }
}

#[tokio::test]
async fn a_refused_device_is_told_of_once_a_minute_with_the_reason_and_no_secret() {
    let log = Log::listen();
    let fixture = Fixture::new().await;
    let (device, other) = (fixture.device("dev1").await, fixture.device("dev2").await);
    let expired = device.token_until(fixture.clock.now().minus(std::time::Duration::from_hours(1)));
    let signature = expired.split("sig=").nth(1).unwrap()[..20].to_owned();
    for _ in 0..3 {
        let connect = hub_connect(HOST, &device.identity, Some(&expired)).unwrap();
        fixture.refusal(connect).await;
    }
    let line = only(&log);
    assert!(line.contains("INFO") && line.contains(r#"DisconnectReason="the token has expired""#), "{line}");
    assert!(line.contains(r#"service="hub""#) && line.contains(r#"device="dev1""#), "{line}");
    assert!(!line.contains(&signature), "{line}");

    let connect = hub_connect(HOST, &other.identity, Some(&device.token(60))).unwrap();
    fixture.refusal(connect).await;
    assert!(only(&log).contains("made out to another resource"));
    fixture.advance(60).await;
    let unknown = hub_connect(HOST, &"nobody".parse().unwrap(), Some(&device.token(60))).unwrap();
    fixture.refusal(unknown).await;
    assert!(only(&log).contains("it is not registered"));
    fixture.refusal(hub_connect(HOST, &device.identity, None).unwrap()).await;
    assert!(
        only(&log).contains("it presented neither a password nor a certificate"),
        "the same device again, a minute later"
    );
}

#[tokio::test]
async fn a_device_that_is_cut_off_is_told_of_and_one_that_goes_is_not() {
    let log = Log::listen();
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    device.connect().await.disconnect().await.unwrap();
    drop(device.connect().await);
    let (_old, new) = (device.connect().await, device.connect().await);
    new.disconnect().await.unwrap();
    fixture.settle().await;
    assert_eq!(log.take(), [] as [String; 0]);
    for _ in 0..2 {
        let mut client = device.connect().await;
        client.send(&publish("hello", Delivery::AtMostOnce, b"x")).await.unwrap();
        closed(&mut client).await;
    }
    assert!(only(&log).contains("a topic that is not the device's"));
    fixture.advance(60).await;
    let mut client = device.connect().await;
    let disabled = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
    fixture.hub.put_device(&Caller::system(), &disabled, &IfMatch::Any).await.unwrap();
    closed(&mut client).await;
    assert!(only(&log).contains("its device was disabled"));
}

#[tokio::test]
async fn a_registering_device_that_is_not_attested_is_told_of() {
    let log = Log::listen();
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await;
    for _ in 0..2 {
        // The group's key itself instead of the one that is derived from it.
        let client = fixture.connect(fixture.registration("dev-01", &key)).await.unwrap();
        client.disconnect().await.unwrap();
    }
    let line = only(&log);
    assert!(line.contains(r#"service="dps""#) && line.contains(r#"device="dev-01""#), "{line}");
    assert!(line.contains("signed with no enrollment group's key"), "{line}");
}

#[tokio::test]
async fn what_names_nobody_is_not_printed() {
    let log = Log::listen();
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    for user_name in [
        "HostName=hub.azure-devices.localhost;DeviceId=dev1;SharedAccessKey=c2Vj/cmV0cmV0cmV0cmV0cmV0",
        "c2Vj/cmV0cmV0cmV0cmV0cmV0",
        "SharedAccessSignature sr=x&sig=c2VjcmV0cmV0cmV0cmV0",
        &format!("{HOST}/c2Vj mV0"),
        &format!("{}/dev2", "c2Vj.".repeat(2000)),
    ] {
        let mut connect = device.connect_packet();
        connect.login.as_mut().unwrap().user_name = Text::try_from(user_name).unwrap();
        fixture.refusal(connect).await;
        let line = only(&log);
        assert!(line.contains("DisconnectReason") && line.contains("this machine"), "{line}");
        assert!(!line.contains("c2Vj") && !line.contains("mV0"), "{line}");
        fixture.advance(60).await;
    }
}
