//! Changes of streams that are rare: making, forgetting and removing them, and the tables of the hours that blocks lie in.
//! Each is safe to repeat, so one whose fate is not known is simply told as that.

use std::time::Duration;

use base::caps;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use super::super::Postgres;
use super::super::failure::{Kind, kind};
use super::{PostgresStreams, reader, signed, sql};
use crate::error::StoreError;
use crate::streams::{Position, StreamId};

const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
/// Tables of hours that are made ahead.
const BUCKETS_AHEAD: i32 = 2;

type Statement<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

/// Runs them in one transaction.
pub(super) async fn change(postgres: &Postgres, statements: &[Statement<'_>]) -> Result<(), StoreError> {
    let connection = postgres.connect().await?;
    let notices = connection.notices();
    let changed = async {
        connection.batch_execute("BEGIN").await?;
        for (text, parameters) in statements {
            connection.execute(*text, parameters).await?;
        }
        connection.batch_execute("COMMIT").await
    };
    timeout(ANSWER, changed)
        .await
        .map_err(|_| StoreError::Unknown("the database does not answer".into()))??;
    if connection.notices() != notices {
        return Err(StoreError::Unknown("the commit came with a warning".into()));
    }
    Ok(())
}

/// Moves the first number that is kept of each partition to the first record of this time or later.
pub(super) async fn trim(
    streams: &PostgresStreams,
    stream: &StreamId,
    before: base::Timestamp,
) -> Result<(), StoreError> {
    let (instance, name) = stream.parts();
    let postgres = &streams.0.postgres;
    let rows = postgres.rows(sql::PARTITIONS, &[&instance, &name], ANSWER).await?;
    for partition in rows.iter().map(|row| row.get::<_, i64>(0)) {
        let number = u32::try_from(partition).unwrap_or_default();
        // Read before what is kept is looked for: what is appended meanwhile is not forgotten.
        let Some(state) = streams.state(stream, number).await? else { continue };
        let kept = reader::read(streams, stream, number, Position::Time(before), 1).await;
        let first = match kept {
            Ok(kept) => kept.first().map_or(state.0.next_sequence, |record| record.sequence),
            // Who reads on from there is told of it.
            Err(StoreError::Lost(lost)) => lost.first_sequence,
            Err(error) => return Err(error),
        };
        if first > state.0.first_sequence {
            let first = signed(first);
            change(postgres, &[(sql::TRIM, &[&instance, &name, &partition, &first])]).await?;
        }
    }
    make_buckets(postgres).await?;
    drop_buckets(postgres).await
}

/// The table of this hour and of those that come.
pub(in crate::postgres) async fn make_buckets(postgres: &Postgres) -> Result<(), StoreError> {
    let now = bucket_now(postgres).await?;
    let known = buckets(postgres).await?;
    let lacking: Vec<i32> = (now..=now + BUCKETS_AHEAD).filter(|bucket| !known.contains(bucket)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let connection = postgres.connect().await?;
    connection.batch_execute("SET client_min_messages = error").await?;
    for bucket in lacking {
        let mut tries = 0;
        loop {
            let made = timeout(ANSWER, connection.batch_execute(&sql::make_bucket(bucket))).await;
            match made.map_err(|_| StoreError::Unavailable("the database does not answer".into()))? {
                Ok(()) => break,
                // Another server made it at the same moment.
                Err(error) if tries < caps::STREAM_APPEND_TRIES_MAX && is_made_twice(&error) => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// `IF NOT EXISTS` does not keep two from making the same at once.
fn is_made_twice(error: &tokio_postgres::Error) -> bool {
    kind(error) == Kind::Again || error.code().is_some_and(|code| ["42P07", "42710"].contains(&code.code()))
}

/// Gives back the tables of hours of which nobody keeps anything. One that is in use is left for the next time.
async fn drop_buckets(postgres: &Postgres) -> Result<(), StoreError> {
    let now = bucket_now(postgres).await?;
    for bucket in buckets(postgres).await?.into_iter().filter(|bucket| *bucket < now) {
        if !postgres.rows(&sql::is_kept(bucket), &[], ANSWER).await?.is_empty() {
            continue;
        }
        let connection = postgres.connect().await?;
        let dropped = timeout(ANSWER, connection.batch_execute(&sql::drop_bucket(bucket))).await;
        if !matches!(dropped, Ok(Ok(()))) {
            tracing::debug!(bucket, "old blocks of streams are in use and are dropped later");
        }
    }
    Ok(())
}

async fn bucket_now(postgres: &Postgres) -> Result<i32, StoreError> {
    let rows = postgres.rows(sql::BUCKET, &[], ANSWER).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

async fn buckets(postgres: &Postgres) -> Result<Vec<i32>, StoreError> {
    Ok(postgres.rows(sql::BUCKETS, &[], ANSWER).await?.iter().map(|row| row.get(0)).collect())
}
