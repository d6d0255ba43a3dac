//! A move from a data directory: device twins of 816 bytes, copied, read back and compared, beside one COPY of the same documents.

use std::path::Path;

use bytes::Bytes;
use futures_util::SinkExt as _;
use store::transfer::Move;
use store::{Batch, Durability, Location, Options, Store};

use super::commits::Twin;
use super::{Database, metric};
use crate::clock::now;
use crate::postgres::Postgres;
use crate::report::{Better, Comparison};
use crate::statistics::Series;
use crate::{Bench, Failure};

const TWINS: usize = 100_000;
/// Twins of one batch, and lines of one message.
const TOGETHER: usize = 500;

pub(super) async fn compare(bench: &Bench, postgres: &Postgres) -> Result<Comparison, Failure> {
    let directory = bench.directory("moved")?;
    fill(&directory).await?;
    let (mut moved, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let database = Database::create_anew(postgres, "moved").await?;
        moved.push(rate(async || bring(&directory, &database).await).await?);
        copied.push(rate(async || copy(&database).await).await?);
    }
    Ok(Comparison {
        title: format!("A move of {TWINS} device twins"),
        subject: "twinhub move, with both comparisons",
        anchor: Some("COPY of the same documents"),
        metrics: vec![metric("twins", "/s", Better::Higher, Series(moved), Some(Series(copied)))],
    })
}

async fn rate(work: impl AsyncFnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begin = now();
    work().await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let twins = TWINS as f64;
    Ok(twins / begin.elapsed().as_secs_f64())
}

fn twins(first: usize) -> impl Iterator<Item = Twin> {
    (first..first + TOGETHER).map(|number| Twin::new(format!("device-{number}")))
}

async fn fill(directory: &Path) -> Result<(), Failure> {
    let store = Store::open(&Options::new(Location::File(directory.to_owned()), Durability::Relaxed))?;
    for first in (0..TWINS).step_by(TOGETHER) {
        let mut batch = Batch::default();
        twins(first).for_each(|twin| batch.put(&twin));
        store.commit(batch).await?;
    }
    Ok(())
}

async fn bring(directory: &Path, database: &Database) -> Result<(), Failure> {
    let to = Move::begin(directory, &database.url(), Durability::Full).await?;
    to.records(|_| ()).await?;
    to.finish()?;
    to.forget().await?;
    // So that it can be moved once more.
    Ok(std::fs::remove_file(directory.join("moved"))?)
}

async fn copy(database: &Database) -> Result<(), Failure> {
    let client = database.connect().await?;
    let table = "CREATE TABLE copied (instance text, kind text, id text, doc jsonb NOT NULL, \
                 PRIMARY KEY (instance, kind, id))";
    client.batch_execute(table).await?;
    let mut sink = Box::pin(client.copy_in::<_, Bytes>("COPY copied FROM STDIN").await?);
    for first in (0..TWINS).step_by(TOGETHER) {
        let line = |twin: Twin| {
            let document = serde_json::to_string(&twin).expect("it is plain data");
            format!("bench\tdevice\t{}\t{document}\n", twin.id)
        };
        sink.send(twins(first).map(line).collect::<String>().into()).await?;
    }
    sink.as_mut().finish().await?;
    Ok(())
}
