//! Streams: requests of 16 messages of 256 bytes by many producers to 32 partitions.

use base::{Clock, InstanceId};
use bytes::Bytes;
use futures_util::SinkExt as _;
use store::{NewRecord, StreamId, Streams};
use tokio::task::JoinSet;

use super::{Database, metric};
use crate::measure::{Clients, Gate, Measured, closed_loop, round};
use crate::postgres::Postgres;
use crate::report::{Better, Comparison};
use crate::statistics::Series;
use crate::{Bench, Failure};

const PRODUCERS: usize = 256;
const REQUEST: usize = 16;
const PARTITIONS: u32 = 32;
const MESSAGE_BYTES: usize = 256;
/// As many as the store appends over.
const CONNECTIONS: usize = 4;
/// Messages of one COPY: what the producers of one connection have in flight.
const COPIED: usize = PRODUCERS / CONNECTIONS * REQUEST;
/// Of a binary COPY: the signature, no flags, no extension.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: [u8; 2] = (-1_i16).to_be_bytes();

pub(super) async fn compare(bench: &Bench, postgres: &mut Postgres) -> Result<Vec<Comparison>, Failure> {
    let database = Database::create(postgres, "streams").await?;
    let store = database.open()?;
    let streams = Streams::beside(&store, &database.options())?;
    let stream = StreamId::new(&InstanceId::from_stored("bench"), "telemetry");
    streams.ensure(&stream, PARTITIONS).await?;
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        ours.push(append(bench, postgres, &streams, &stream).await?);
        copied.push(copy(bench, postgres).await?);
    }
    let kept = database.count(
        "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('twinhub.stream_block')",
    );
    let payload = streams.appended_total() * MESSAGE_BYTES as u64;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let share = kept.await? as f64 / payload as f64;
    #[expect(clippy::cast_precision_loss, reason = "16 and 1024")]
    let [request, copy] = [REQUEST as f64, COPIED as f64];
    let rate = |measured: &[Measured], messages: f64| -> Series {
        measured.iter().map(|one| one.per_second() * messages).collect()
    };
    let quantile = |share| ours.iter().map(|measured| measured.latencies.percentile_ms(share)).collect();
    Ok(vec![Comparison {
        title: format!("{PRODUCERS} producers of {REQUEST} messages of {MESSAGE_BYTES} bytes"),
        subject: "the store",
        anchor: Some("binary COPY, no index, four connections"),
        metrics: vec![
            metric("messages", "/s", Better::Higher, rate(&ours, request), Some(rate(&copied, copy))),
            metric("latency p50", "ms", Better::Lower, quantile(0.5), None),
            metric("latency p99", "ms", Better::Lower, quantile(0.99), None),
            metric("kept, bytes a byte of payload", "", Better::Lower, Series(vec![share]), None),
        ],
    }])
}

async fn append(
    bench: &Bench,
    postgres: &mut Postgres,
    streams: &Streams,
    stream: &StreamId,
) -> Result<Measured, Failure> {
    let (streams, stream) = (streams.clone(), stream.clone());
    let connect = async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for (client, partition) in (0..PRODUCERS).zip((0..PARTITIONS).cycle()) {
            let (streams, stream, clock) = (streams.clone(), stream.clone(), Clock::system());
            let body = Bytes::from(vec![b'm'; MESSAGE_BYTES]);
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                let record = NewRecord {
                    time: clock.now(),
                    key: format!("device-{client}"),
                    headers: Bytes::new(),
                    body: body.clone(),
                };
                Ok(streams.append(&stream, partition, vec![record; REQUEST]).await.map(drop)?)
            }));
        }
        Ok(clients)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

async fn copy(bench: &Bench, postgres: &mut Postgres) -> Result<Measured, Failure> {
    let at = postgres.at.at;
    let connect = async move |gate: Gate| {
        let database = Database { at, name: "streams" };
        let table = "DROP TABLE IF EXISTS copied; CREATE TABLE copied (body bytea)";
        database.connect().await?.batch_execute(table).await?;
        let mut clients: Clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let client = database.connect().await?;
            let rows = rows();
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                let sink = client.copy_in("COPY copied FROM STDIN (FORMAT binary)").await?;
                let mut sink = std::pin::pin!(sink);
                sink.send(rows.clone()).await?;
                Ok(sink.finish().await.map(drop)?)
            }));
        }
        Ok(clients)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

/// One column a row: its count, its length, its bytes.
fn rows() -> Bytes {
    let length = u32::try_from(MESSAGE_BYTES).expect("256").to_be_bytes();
    let row = [&1_i16.to_be_bytes()[..], &length, &[b'm'; MESSAGE_BYTES]].concat();
    [COPY_HEAD, &row.repeat(COPIED), &COPY_END].concat().into()
}
