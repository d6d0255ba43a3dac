//! The statements of streams.

use std::sync::LazyLock;

use crate::streams::Position;

/// Holds the partitions in an order that is everybody's, so that none waits for one who waits for it. A statement of its own: what
/// follows then sees what the last holder left.
pub(super) const LOCK: &str = "SELECT 1 FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u(instance, name, partition) \
    JOIN stream AS s ON s.instance = u.instance AND s.name = u.name \
    JOIN stream_partition AS p ON p.stream = s.id AND p.partition = u.partition::smallint \
    ORDER BY p.stream, p.partition FOR NO KEY UPDATE OF p";

/// Gives blocks their place behind what is there, and the number of each one's first record. Of streams that are gone, nothing.
pub(super) const APPEND: &str = "WITH given AS MATERIALIZED (\
    SELECT g.n, p.stream, p.partition, p.next_sequence + g.sequence AS first_sequence, g.count, \
        p.last_offset + g.last_offset AS last_offset, greatest(p.last_time, g.last_time) AS last_time, \
        p.last_time AS time_floor, g.block \
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[]) \
        WITH ORDINALITY AS g(instance, name, partition, sequence, count, last_offset, last_time, block, n) \
    JOIN stream AS s ON s.instance = g.instance AND s.name = g.name \
    JOIN stream_partition AS p ON p.stream = s.id AND p.partition = g.partition::smallint), \
    raised AS (UPDATE stream_partition AS p \
        SET next_sequence = t.next_sequence, last_offset = t.last_offset, last_time = t.last_time \
        FROM (SELECT stream, partition, max(first_sequence + count) AS next_sequence, max(last_offset) AS last_offset, \
            max(last_time) AS last_time FROM given GROUP BY stream, partition) AS t \
        WHERE p.stream = t.stream AND p.partition = t.partition), \
    written AS (INSERT INTO stream_block \
        (bucket, stream, partition, first_sequence, count, last_offset, last_time, time_floor, block) \
        SELECT floor(extract(epoch FROM now()) / 3600)::int, stream, partition, first_sequence, count::int, last_offset, \
            last_time, time_floor, block FROM given) \
    SELECT n, first_sequence FROM given ORDER BY n";

/// The same, but it fails unless every block has a place.
pub(super) static APPEND_ALL: LazyLock<String> = LazyLock::new(|| {
    let all = "SELECT 1 / (CASE WHEN count(*) = $9::bigint THEN 1 ELSE 0 END) FROM given";
    APPEND.replace("SELECT n, first_sequence FROM given ORDER BY n", all)
});

/// Where a block lies whose append is known to be kept while its answer was lost.
pub(super) const FIND: &str = "SELECT b.first_sequence FROM (\
    SELECT b.first_sequence, b.block FROM stream AS s JOIN stream_block AS b ON b.stream = s.id \
    WHERE s.instance = $1 AND s.name = $2 AND b.partition = $3::bigint::smallint \
    ORDER BY b.first_sequence DESC LIMIT 1000) AS b WHERE b.block = $4 ORDER BY b.first_sequence DESC LIMIT 1";

pub(super) const STATE: &str = "SELECT p.first_sequence, p.next_sequence, p.last_offset, p.last_time, p.stream \
    FROM stream AS s JOIN stream_partition AS p ON p.stream = s.id \
    WHERE s.instance = $1 AND s.name = $2 AND p.partition = $3::bigint::smallint";

/// Those of all partitions that somebody waits at.
pub(super) const TAILS: &str = "SELECT u.n, p.stream, p.next_sequence \
    FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u(instance, name, partition, n) \
    JOIN stream AS s ON s.instance = u.instance AND s.name = u.name \
    JOIN stream_partition AS p ON p.stream = s.id AND p.partition = u.partition::smallint";

pub(super) const LIST: &str = "SELECT instance, name FROM stream ORDER BY instance, name";
pub(super) const LIST_OF: &str = "SELECT instance, name FROM stream WHERE instance = $1 ORDER BY name";

pub(super) const MAKE: &str = "INSERT INTO stream (instance, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
/// The stream is held, so that a removal that comes meanwhile leaves no partition behind.
pub(super) const MAKE_PARTITIONS: &str = "INSERT INTO stream_partition \
    (stream, partition, first_sequence, next_sequence, last_offset, last_time) \
    SELECT s.id, g.n::smallint, 0, 0, 0, $4 \
    FROM (SELECT id FROM stream WHERE instance = $1 AND name = $2 FOR SHARE) AS s, generate_series(0, $3::bigint - 1) AS g(n) \
    ORDER BY s.id, g.n ON CONFLICT DO NOTHING";

pub(super) const HOLD_STREAM: &str = "SELECT id FROM stream WHERE instance = $1 AND name = $2 FOR UPDATE";
pub(super) const HOLD_PARTITIONS: &str = "SELECT 1 FROM stream AS s JOIN stream_partition AS p ON p.stream = s.id \
    WHERE s.instance = $1 AND s.name = $2 ORDER BY p.stream, p.partition FOR UPDATE OF p";
pub(super) const REMOVE_PARTITIONS: &str = "DELETE FROM stream_partition AS p USING stream AS s \
    WHERE s.instance = $1 AND s.name = $2 AND p.stream = s.id";
pub(super) const REMOVE: &str = "DELETE FROM stream WHERE instance = $1 AND name = $2";

pub(super) const PARTITIONS: &str = "SELECT p.partition::bigint FROM stream AS s JOIN stream_partition AS p ON p.stream = s.id \
    WHERE s.instance = $1 AND s.name = $2 AND p.first_sequence < p.next_sequence ORDER BY p.partition";
pub(super) const TRIM: &str = "UPDATE stream_partition AS p SET first_sequence = greatest(p.first_sequence, $4) FROM stream AS s \
    WHERE s.instance = $1 AND s.name = $2 AND p.stream = s.id AND p.partition = $3::bigint::smallint AND p.next_sequence >= $4";

/// The hour that it is for the database, by which blocks lie in tables of their own.
pub(super) const BUCKET: &str = "SELECT floor(extract(epoch FROM now()) / 3600)::int";
pub(super) const BUCKETS: &str = "SELECT substr(c.relname, 14)::int FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
    WHERE i.inhparent = 'stream_block'::regclass ORDER BY 1";

pub(super) fn make_bucket(bucket: i32) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS stream_block_{bucket} PARTITION OF stream_block FOR VALUES FROM ({bucket}) TO ({})",
        bucket + 1
    )
}

/// A row where any stream that is there keeps something of the hour.
pub(super) fn is_kept(bucket: i32) -> String {
    format!(
        "SELECT 1 FROM stream_block_{bucket} AS b JOIN stream_partition AS p ON p.stream = b.stream AND p.partition = b.partition \
         WHERE b.first_sequence + b.count > p.first_sequence LIMIT 1"
    )
}

pub(super) fn drop_bucket(bucket: i32) -> String {
    format!("SET lock_timeout = '1s'; DROP TABLE IF EXISTS stream_block_{bucket}")
}

/// Blocks from a position on, bounded in number and bytes; a row without a block when there is none. Parameters: instance, name,
/// partition, position, bytes.
pub(super) fn read(from: Position) -> &'static str {
    static BY_SEQUENCE: LazyLock<String> = LazyLock::new(|| {
        reading(
            "(SELECT x.first_sequence FROM stream_block AS x WHERE x.stream = s.id AND x.partition = p.partition \
             AND x.first_sequence <= greatest($4::bigint, p.first_sequence) ORDER BY x.first_sequence DESC LIMIT 1)",
        )
    });
    static BY_OFFSET: LazyLock<String> = LazyLock::new(|| reading(&first("last_offset")));
    static BY_TIME: LazyLock<String> = LazyLock::new(|| reading(&first("last_time")));
    match from {
        Position::Offset(_) => &BY_OFFSET,
        Position::Time(_) => &BY_TIME,
        Position::Earliest | Position::Latest | Position::Sequence(_) => &BY_SEQUENCE,
    }
}

/// The block that holds the first record of this or a greater value.
fn first(column: &str) -> String {
    format!(
        "(SELECT x.first_sequence FROM stream_block AS x WHERE x.stream = s.id AND x.partition = p.partition \
         AND x.{column} >= $4::bigint AND x.first_sequence + x.count > p.first_sequence \
         ORDER BY x.{column}, x.first_sequence LIMIT 1)"
    )
}

fn reading(start: &str) -> String {
    format!(
        "SELECT p.first_sequence, p.next_sequence, b.first_sequence, b.count, b.last_offset, b.time_floor, b.block \
         FROM stream AS s JOIN stream_partition AS p ON p.stream = s.id AND p.partition = $3::bigint::smallint \
         CROSS JOIN LATERAL (SELECT {start} AS start) AS f \
         LEFT JOIN LATERAL (SELECT c.* FROM (SELECT d.*, sum(octet_length(d.block)) OVER (ORDER BY d.first_sequence \
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM (SELECT x.first_sequence, x.count, x.last_offset, \
            x.time_floor, x.block FROM stream_block AS x WHERE x.stream = s.id AND x.partition = p.partition \
            AND x.first_sequence >= f.start ORDER BY x.first_sequence LIMIT 256) AS d) AS c \
            WHERE coalesce(c.bytes, 0) < $5::bigint) AS b ON true \
         WHERE s.instance = $1 AND s.name = $2 ORDER BY b.first_sequence"
    )
}
