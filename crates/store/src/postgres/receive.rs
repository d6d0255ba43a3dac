//! The receiving side of a move: each part, which is a table or a partition of a stream, by one COPY in one transaction, with a row that says that it has come and what its sum
//! was. So a move that was cut off goes on behind the last part that is whole.

mod streams;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use tokio::sync::mpsc;

use super::tables::columns_of;
use super::{Connection, Postgres, document};
use crate::error::StoreError;
use crate::streams::Streams;
use crate::transfer::{Chunk, Part, Row, Sum};

pub(crate) struct Receiver {
    connection: Connection,
    postgres: Postgres,
    streams: Streams,
    source: String,
}

impl Receiver {
    /// Of a directory that begins to move. The table says whose move this is from its first moment on.
    pub(crate) async fn begin(postgres: &Postgres, source: &str) -> Result<Self, StoreError> {
        let connection = postgres.connect().await?;
        refuse_unfit(&connection).await?;
        connection
            .batch_execute(&format!(
                "BEGIN; CREATE TABLE transfer (source text NOT NULL, part text NOT NULL, rows bigint NOT NULL, \
                 sum bigint NOT NULL, PRIMARY KEY (source, part)); INSERT INTO transfer VALUES ('{source}', '', 0, 0); COMMIT"
            ))
            .await?;
        // A server that came in between has said so by now, or is refused.
        refuse_used(&connection).await?;
        Ok(Self::of(connection, postgres, source))
    }

    /// Of one that has begun, if it is to this database and not over.
    pub(crate) async fn go_on(postgres: &Postgres, source: &str) -> Result<Option<Self>, StoreError> {
        let connection = postgres.connect().await?;
        if !is_unfinished(&connection).await? {
            return Ok(None);
        }
        let text = "SELECT EXISTS (SELECT 1 FROM transfer WHERE part = '' AND source = $1)";
        if !connection.query_one(text, &[&source]).await?.get::<_, bool>(0) {
            return Err(another());
        }
        refuse_used(&connection).await?;
        Ok(Some(Self::of(connection, postgres, source)))
    }

    fn of(connection: Connection, postgres: &Postgres, source: &str) -> Self {
        let streams = Streams::of_database(postgres);
        Self { connection, postgres: postgres.clone(), streams, source: source.to_owned() }
    }

    /// What a part was that has come already.
    pub(crate) async fn arrived(&self, part: &str) -> Result<Option<Sum>, StoreError> {
        let text = "SELECT rows, sum FROM transfer WHERE source = $1 AND part = $2";
        let rows = self.connection.query(text, &[&self.source, &part]).await?;
        let sum = |row: &tokio_postgres::Row| Sum {
            rows: row.get::<_, i64>(0).cast_unsigned(),
            sum: row.get::<_, i64>(1).cast_unsigned(),
        };
        Ok(rows.first().map(sum))
    }

    /// All of a part or nothing.
    pub(crate) async fn receive(
        &self,
        part: Part,
        mut chunks: mpsc::Receiver<Chunk>,
    ) -> Result<Sum, StoreError> {
        self.begin_part().await?;
        let copied = async {
            let sum = self.copy(part, &mut chunks).await?;
            self.arrive(part.name(), sum).await
        };
        let copied = copied.await;
        self.end_part(copied).await
    }

    async fn begin_part(&self) -> Result<(), StoreError> {
        Ok(self.connection.batch_execute("BEGIN").await?)
    }

    async fn arrive(&self, part: &str, sum: Sum) -> Result<Sum, StoreError> {
        let (rows, total) = (sum.rows.cast_signed(), sum.sum.cast_signed());
        let text = "INSERT INTO transfer VALUES ($1, $2, $3, $4)";
        self.connection.execute(text, &[&self.source, &part, &rows, &total]).await?;
        Ok(sum)
    }

    async fn end_part(&self, copied: Result<Sum, StoreError>) -> Result<Sum, StoreError> {
        let notices = self.connection.notices();
        let ended = match copied {
            Ok(sum) => self.connection.batch_execute("COMMIT").await.map(|()| sum).map_err(StoreError::from),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // Where the transaction is over already, the server only warns.
            self.connection.batch_execute("ROLLBACK").await?;
        } else if self.connection.notices() != notices {
            return Err(StoreError::Unavailable("the database warned of a commit; begin again".to_owned()));
        }
        ended
    }

    async fn copy(&self, part: Part, chunks: &mut mpsc::Receiver<Chunk>) -> Result<Sum, StoreError> {
        let columns = columns(part).join(", ");
        let text = format!("COPY {} ({columns}) FROM STDIN", part.name());
        let mut sink = Box::pin(self.connection.copy_in::<_, Bytes>(&text).await?);
        let mut sum = Sum::default();
        while let Some(chunk) = chunks.recv().await {
            let mut lines = BytesMut::new();
            for row in &chunk {
                sum.add(part, row)?;
                write(part, row, &mut lines);
            }
            sink.send(lines.freeze()).await?;
        }
        let copied = sink.as_mut().finish().await?;
        if copied != sum.rows {
            return Err(StoreError::Corrupt(format!(
                "{copied} rows of {} were copied of {}",
                part.name(),
                sum.rows
            )));
        }
        Ok(sum)
    }

    /// Over everything of a part that is there now.
    pub(crate) async fn sum(&self, part: Part) -> Result<Sum, StoreError> {
        let columns: Vec<String> = columns(part).iter().map(|column| format!("{column}::text")).collect();
        let text = format!("SELECT {} FROM {}", columns.join(", "), part.name());
        let none: [(String, tokio_postgres::types::Type); 0] = [];
        let mut rows = Box::pin(self.connection.query_typed_raw(&text, none).await?);
        let mut sum = Sum::default();
        while let Some(found) = rows.try_next().await? {
            let fields = (0..columns.len()).map(|at| Ok(found.try_get::<_, Option<String>>(at)?));
            let row = fields.collect::<Result<Row, StoreError>>()?;
            sum.add(part, &plain(part, row))?;
        }
        Ok(sum)
    }

    /// No revision is given twice, and events that are parked stay before those to come: numbers to come are above those that came.
    /// And the planner counts what came.
    pub(crate) async fn raise_numbers(&self, revision: i64, outbox: i64) -> Result<(), StoreError> {
        let text =
            "SELECT setval('revision', greatest(last_value, ($1::bigint / 1024 + 1) * 1024)) FROM revision";
        self.connection.query_one(text, &[&revision]).await?;
        let text = "SELECT setval(pg_get_serial_sequence('twinhub.outbox', 'id'), greatest($1::bigint, 1))";
        self.connection.query_one(text, &[&outbox]).await?;
        Ok(self.connection.batch_execute("ANALYZE").await?)
    }

    pub(crate) async fn forget(&self) -> Result<(), StoreError> {
        Ok(self.connection.batch_execute("DROP TABLE transfer").await?)
    }
}

/// Whether a move to this database has begun and not come to its end.
async fn is_unfinished(connection: &Connection) -> Result<bool, StoreError> {
    let text = "SELECT to_regclass('twinhub.transfer') IS NOT NULL";
    Ok(connection.query_one(text, &[]).await?.get(0))
}

/// For a directory that has not begun to move there, before it says that it does.
pub(crate) async fn refuse_unfit_target(postgres: &Postgres) -> Result<(), StoreError> {
    refuse_unfit(&postgres.connect().await?).await
}

async fn refuse_unfit(connection: &Connection) -> Result<(), StoreError> {
    if is_unfinished(connection).await? {
        return Err(another());
    }
    refuse_used(connection).await?;
    for part in Part::all().map(Part::name).chain(["outbox", "stream"]) {
        let text = format!("SELECT EXISTS (SELECT 1 FROM {part})");
        if connection.query_one(&text, &[]).await?.get(0) {
            return Err(StoreError::Refused(format!(
                "the database is not empty: there are rows of {part}. Give one in which nothing was stored yet"
            )));
        }
    }
    Ok(())
}

async fn refuse_used(connection: &Connection) -> Result<(), StoreError> {
    let leased = "SELECT EXISTS (SELECT 1 FROM lease WHERE until > now())";
    if connection.query_one(leased, &[]).await?.get(0) {
        return Err(StoreError::Refused(
            "a server uses the database, or was killed a moment ago: end it, or wait some seconds".to_owned(),
        ));
    }
    Ok(())
}

fn another() -> StoreError {
    StoreError::Refused("another directory is being moved to this database".to_owned())
}

/// For whoever opens the database to serve from it.
pub(crate) async fn refuse_unfinished(postgres: &Postgres) -> Result<(), StoreError> {
    if is_unfinished(&postgres.connect().await?).await? {
        return Err(StoreError::Refused(
            "a data directory is being moved to this database, and not everything has come: call `twinhub move` again until it says \
             that all is there, or take an empty database"
                .to_owned(),
        ));
    }
    Ok(())
}

fn columns(part: Part) -> Vec<&'static str> {
    match part {
        Part::Records(table) => columns_of(table),
        Part::Counters => vec!["instance", "name", "value"],
    }
}

/// A line of COPY's text format.
fn write(part: Part, row: &Row, lines: &mut BytesMut) {
    for (at, field) in row.iter().enumerate() {
        if at > 0 {
            lines.extend_from_slice(b"\t");
        }
        let Some(field) = field else {
            lines.extend_from_slice(b"\\N");
            continue;
        };
        match part {
            Part::Records(table) if at == row.len() - 2 => {
                escaped(&document::into_column(table, field), lines);
            }
            _ => escaped(&document::text(field), lines),
        }
    }
    lines.extend_from_slice(b"\n");
}

fn escaped(field: &str, lines: &mut BytesMut) {
    for byte in field.bytes() {
        let named = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                lines.extend_from_slice(&[byte]);
                continue;
            }
        };
        lines.extend_from_slice(&[b'\\', named]);
    }
}

/// As it was before it was sent.
fn plain(part: Part, row: Row) -> Row {
    let count = row.len();
    let field = |(at, field): (usize, Option<String>)| {
        field.map(|field| match part {
            Part::Records(table) if at == count - 2 => document::from_column(table, field),
            _ => super::escape::text_back(field),
        })
    };
    row.into_iter().enumerate().map(field).collect()
}
