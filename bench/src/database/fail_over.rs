//! How long a device waits when its server's database fails over to a synchronous standby, beside a bare writer on the same two
//! servers in the same moments. The primary is killed and the standby promoted at once, so that what is measured is how soon
//! either finds the new one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use test_postgres::Server;
use tokio_postgres::NoTls;

use super::metric;
use crate::clock::now;
use crate::load::{DeviceLogin, Listener};
use crate::report::{Better, Comparison};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, progress};

/// Between two writes, and before one who lost its connection tries again.
const PAUSE: Duration = Duration::from_millis(5);
const AGAIN: Duration = Duration::from_millis(20);
/// What passes before the primary is killed, and after both write again.
const CALM: Duration = Duration::from_secs(2);
const RECOVERED_SECONDS_MAX: u64 = 60;

pub(super) async fn compare(bench: &Bench) -> Result<Comparison, Failure> {
    let (mut device, mut writer, mut longer) = (Series::default(), Series::default(), Series::default());
    for number in 1..=bench.rounds {
        progress(&format!("fail-over {number} of {}", bench.rounds));
        let [ours, bare] = fail_over(bench, number).await?;
        device.0.push(ours.as_secs_f64());
        writer.0.push(bare.as_secs_f64());
        longer.0.push(ours.as_secs_f64() - bare.as_secs_f64());
    }
    Ok(Comparison {
        title: "The database fails over to its standby".into(),
        subject: "a device",
        anchor: Some("a bare writer"),
        metrics: vec![
            metric("longest wait for an answer", "s", Better::Lower, device, Some(writer)),
            metric("longer than the bare writer's", "s", Better::Neither, longer, None),
        ],
    })
}

/// The longest wait of a device, and of a bare writer.
async fn fail_over(bench: &Bench, number: u32) -> Result<[Duration; 2], Failure> {
    let primary = Server::start(&["fsync=on"]).ok_or("install Debian's package postgresql")?;
    let (records, standby) = (primary.database(), primary.synchronous_standby());
    let url = primary.url_of_both(&standby, records.name());
    let data = bench.directory(&format!("fail-over-{number}"))?;
    let twinhub = Twinhub::start_with(&bench.server, &data, &[("TWINHUB_STORE", &url)]).await?;
    let login = twinhub.hub.register(1).await?.pop().ok_or("a device is registered")?;
    let waits = [Waits::default(), Waits::default()];
    let device = tokio::task::spawn_local(publish(twinhub.encrypted.clone(), login, waits[0].clone()));
    let writer = tokio::task::spawn_local(write(url, waits[1].clone()));
    both_answered(&waits, CALM).await?;
    waits.iter().for_each(Waits::begin);
    tokio::time::sleep(CALM).await;
    let changes_over = move || {
        primary.kill();
        standby.promote();
        // The new primary lives until the round is over.
        (primary, standby)
    };
    let servers = tokio::task::spawn_blocking(changes_over).await?;
    both_answered(&waits, CALM).await?;
    device.abort();
    writer.abort();
    twinhub.process.stop().await?;
    drop((records, servers));
    Ok(waits.map(|waits| waits.longest.get()))
}

/// When one who writes was answered.
#[derive(Clone, Default)]
struct Waits {
    last: Rc<Cell<Option<Instant>>>,
    longest: Rc<Cell<Duration>>,
}

impl Waits {
    fn begin(&self) {
        self.last.set(None);
        self.longest.set(Duration::ZERO);
    }

    fn answered(&self) {
        let at = now();
        if let Some(last) = self.last.replace(Some(at)) {
            self.longest.set(self.longest.get().max(at - last));
        }
    }
}

/// Waits until both have been answered again, for a while.
async fn both_answered(waits: &[Waits; 2], calm: Duration) -> Result<(), Failure> {
    let since = now();
    let both = async {
        while waits.iter().any(|waits| waits.last.get().is_none_or(|last| last < since)) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(RECOVERED_SECONDS_MAX), both).await;
    waited.map_err(|_| "a writer is not answered any more")?;
    tokio::time::sleep(calm).await;
    Ok(())
}

/// A device that sends one message after the other, and connects again when it must.
async fn publish(listener: Listener, login: DeviceLogin, waits: Waits) {
    let topic = login.telemetry_topic();
    loop {
        if let Ok(mut client) = listener.connect(&login).await {
            while client.publish(&topic, "{\"temperature\":21.5}").await.is_ok() {
                waits.answered();
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One row after the other, on whichever server takes writes.
async fn write(url: String, waits: Waits) -> Result<(), Failure> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    loop {
        if let Ok((client, connection)) = config.connect(NoTls).await {
            let connection = tokio::task::spawn_local(connection);
            let table = "CREATE TABLE IF NOT EXISTS bare (at timestamptz)";
            let mut goes_well = client.batch_execute(table).await.is_ok();
            while goes_well {
                goes_well = client.execute("INSERT INTO bare VALUES (now())", &[]).await.is_ok();
                if goes_well {
                    waits.answered();
                    tokio::time::sleep(PAUSE).await;
                }
            }
            connection.abort();
        }
        tokio::time::sleep(AGAIN).await;
    }
}
