//! Queries over device twins, one client after another answer: twinhub over HTTPS with a token, beside PostgreSQL with the documents
//! that twinhub shows as JSONB, over TLS too, by prepared statements. Both have indexes of the two paths that are declared and none
//! of others. twinhub answers with twins as a read shows them, made of several records; PostgreSQL with one column.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

use crate::clock::now;
use crate::postgres::{self, Cluster};
use crate::report::{Better, Comparison, Metric};
use crate::statistics::{Latencies, Series};
use crate::twinhub::{HubClient, Twinhub, device_id};
use crate::{Bench, Failure, progress};

/// Clients that load the twins.
const LOADING: usize = 16;
/// A question is asked this often in a round, or for as long.
const QUESTIONS_MAX: u64 = 300;
const QUESTIONS_MIN: u64 = 3;

/// Of the paths that are asked for these have an index on both sides; `level` beside them has the same values as `floor`, and none.
const INDEXED: &str = "devices.tags.building,devices.tags.floor";
const TABLE: &str = "CREATE TABLE twin (device_id text PRIMARY KEY, doc jsonb NOT NULL);
    CREATE INDEX ON twin ((doc #> '{tags,building}'));
    CREATE INDEX ON twin ((doc #> '{tags,floor}'))";
/// Floors of a building, and devices on each.
const FLOORS: usize = 100;
const ON_A_FLOOR: usize = 10;
const IN_A_BUILDING: usize = FLOORS * ON_A_FLOOR;

struct Question {
    name: &'static str,
    /// Rows of a page, as the header asks for them.
    page: usize,
    /// `$` stands for the number of a building.
    twinhub: &'static str,
    /// Is given the same number.
    postgres: &'static str,
}

const QUESTIONS: &[Question] = &[
    Question {
        name: "two equalities, declared, a page of 100 holds all 10",
        page: 100,
        twinhub: "SELECT * FROM devices WHERE tags.building = $ AND tags.floor = 7",
        postgres: "SELECT doc::text FROM twin WHERE doc #> '{tags,building}' = to_jsonb($1::int8) AND doc #> '{tags,floor}' = '7'
            ORDER BY device_id LIMIT 101",
    },
    Question {
        name: "range, COUNT of a fiftieth, declared",
        page: 100,
        twinhub: "SELECT COUNT() AS n FROM devices WHERE tags.floor >= 98 AND tags.building >= 0 AND $ = $",
        postgres: "SELECT count(*) FROM twin WHERE doc #> '{tags,floor}' >= '98' AND doc #> '{tags,floor}' < 'false'
            AND doc #> '{tags,building}' >= '0' AND $1::int8 = $1",
    },
    Question {
        name: "range, COUNT of a fiftieth, undeclared",
        page: 100,
        twinhub: "SELECT COUNT() AS n FROM devices WHERE properties.desired.level >= 98 AND $ = $",
        postgres: "SELECT count(*) FROM twin WHERE doc #> '{properties,desired,level}' >= '98'
            AND doc #> '{properties,desired,level}' < 'false' AND $1::int8 = $1",
    },
    Question {
        name: "GROUP BY with COUNT, 100 groups in a page of 1,000",
        page: 1000,
        twinhub: "SELECT tags.floor AS f, COUNT() AS n FROM devices WHERE $ = $ GROUP BY tags.floor",
        postgres: "SELECT doc #> '{tags,floor}' AS f, count(*) FROM twin WHERE $1::int8 = $1 GROUP BY 1 ORDER BY 1",
    },
    Question {
        name: "a page of 1,000 whole twins",
        page: 1000,
        twinhub: "SELECT * FROM devices WHERE $ = $",
        postgres: "SELECT doc::text FROM twin WHERE $1::int8 = $1 ORDER BY device_id LIMIT 1000",
    },
];

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let count = bench.twins.next_multiple_of(IN_A_BUILDING);
    let directory = bench.directory("twin-queries-twinhub")?;
    let mut twinhub = Twinhub::start_indexed(&bench.server, &directory, INDEXED).await?;
    progress(&format!("loading {count} devices over HTTPS"));
    twinhub.hub.register(count).await?;
    fill(&twinhub, count).await?;
    let client = twinhub.hub.client();
    let document = client.twin(&device_id(0)).await?;
    let cluster = Cluster::create(&bench.directory("twin-queries-postgres")?).await?;
    let mut postgres = cluster.start().await?;
    progress("loading PostgreSQL");
    let (sql, connection) = postgres::connect(&postgres.at).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    load_postgres(&sql, &document, count).await?;
    let mut statements = Vec::new();
    for question in QUESTIONS {
        statements.push(sql.prepare(question.postgres).await?);
    }
    let mut measured: Vec<[Series; 2]> = QUESTIONS.iter().map(|_| <[Series; 2]>::default()).collect();
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        for ((question, statement), series) in QUESTIONS.iter().zip(&statements).zip(&mut measured) {
            let ask = Ask { question, buildings: count / IN_A_BUILDING, longest: bench.window.measured / 5 };
            let (ours, found) = ask.of_twinhub(&client).await?;
            let (theirs, expected) = ask.of_postgres(&sql, statement).await?;
            if found != expected {
                return Err(format!("{}: {found} of twinhub, {expected} of PostgreSQL", question.name).into());
            }
            series[0].0.push(ours);
            series[1].0.push(theirs);
        }
    }
    let seen = (twinhub.process.check(), postgres.process.check());
    seen.0.and(seen.1)?;
    drop((client, sql));
    twinhub.process.stop().await?;
    postgres.process.stop().await?;
    Ok(vec![comparison(count, document.to_string().len(), &measured)])
}

fn comparison(count: usize, bytes: usize, measured: &[[Series; 2]]) -> Comparison {
    let metric = |(question, series): (&Question, &[Series; 2])| Metric {
        name: question.name,
        unit: "ms",
        better: Better::Lower,
        subject: series[0].clone(),
        anchor: Some(series[1].clone()),
    };
    Comparison {
        title: format!("Twins of {count} devices, {bytes} bytes each: median time of a query, one client"),
        subject: "twinhub (HTTPS)",
        anchor: Some("PostgreSQL JSONB (TLS)"),
        metrics: QUESTIONS.iter().zip(measured).map(metric).collect(),
    }
}

/// What a device has, by its number.
fn filling(index: usize) -> Value {
    let (building, floor) = (index / IN_A_BUILDING, index % IN_A_BUILDING / ON_A_FLOOR);
    json!({
        "tags": {"building": building, "floor": floor, "kind": "thermostat", "owner": "facilities"},
        "properties": {"desired": {
            "level": floor,
            "setpoint": index % 30,
            "interval": 30,
            "mode": "eco",
            "schedule": {"from": "06:30", "to": "19:00"},
        }},
    })
}

async fn fill(twinhub: &Twinhub, count: usize) -> Result<(), Failure> {
    let mut loading = JoinSet::new();
    for first in 0..LOADING {
        let client = twinhub.hub.client();
        loading.spawn(async move {
            for index in (first..count).step_by(LOADING) {
                client.patch_twin(&device_id(index), &filling(index)).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(loaded) = loading.join_next().await {
        loaded??;
    }
    Ok(())
}

/// The first twin's document for every device, with the device's own id, tags and level.
async fn load_postgres(client: &Client, document: &Value, count: usize) -> Result<(), Failure> {
    client.batch_execute(TABLE).await?;
    let insert = client.prepare("INSERT INTO twin SELECT * FROM unnest($1::text[], $2::jsonb[])").await?;
    let mut index = 0;
    while index < count {
        let until = count.min(index + IN_A_BUILDING);
        let ids: Vec<String> = (index..until).map(device_id).collect();
        let documents: Vec<Value> = (index..until).map(|index| stored(document, index)).collect();
        client.execute(&insert, &[&ids, &documents]).await?;
        index = until;
    }
    client.batch_execute("VACUUM ANALYZE twin").await?;
    Ok(())
}

fn stored(document: &Value, index: usize) -> Value {
    let (mut stored, filling) = (document.clone(), filling(index));
    stored["deviceId"] = device_id(index).into();
    stored["tags"] = filling["tags"].clone();
    for (name, value) in filling["properties"]["desired"].as_object().into_iter().flatten() {
        stored["properties"]["desired"][name] = value.clone();
    }
    stored
}

/// One question, asked again and again of one side.
struct Ask<'q> {
    question: &'q Question,
    buildings: usize,
    longest: Duration,
}

impl Ask<'_> {
    /// The median in milliseconds, and what was found altogether by the first few, which both sides are asked.
    async fn median(
        &self,
        mut ask: impl AsyncFnMut(usize) -> Result<u64, Failure>,
    ) -> Result<(f64, u64), Failure> {
        let (mut latencies, mut found) = (Latencies::default(), 0);
        let begin = now();
        let mut number = 0;
        while number < QUESTIONS_MIN || (number < QUESTIONS_MAX && begin.elapsed() < self.longest) {
            let building = usize::try_from(number * 7919)? % self.buildings;
            let start = now();
            let count = ask(building).await?;
            latencies.add(start.elapsed());
            found += if number < QUESTIONS_MIN { count } else { 0 };
            number += 1;
        }
        Ok((latencies.percentile_ms(0.5), found))
    }

    async fn of_twinhub(&self, client: &HubClient) -> Result<(f64, u64), Failure> {
        self.median(async |building| {
            let text = self.question.twinhub.replace('$', &building.to_string());
            let rows = client.query(&text, self.question.page).await?;
            let rows = rows.as_array().ok_or("no rows")?;
            let counted = rows.first().filter(|_| rows.len() == 1).and_then(|row| row["n"].as_u64());
            Ok(counted.unwrap_or(rows.len() as u64))
        })
        .await
    }

    async fn of_postgres(&self, client: &Client, statement: &Statement) -> Result<(f64, u64), Failure> {
        self.median(async |building| {
            let rows = client.query(statement, &[&i64::try_from(building)?]).await?;
            let counted =
                rows.first().filter(|_| rows.len() == 1).and_then(|row| row.try_get::<_, i64>(0).ok());
            Ok(counted.map_or(rows.len() as u64, i64::unsigned_abs))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn postgres_is_asked_what_twinhub_is_asked() {
        if postgres::version().is_none() {
            return test_data::did_not_run("PostgreSQL is missing");
        }
        let directory = tempfile::tempdir().unwrap();
        postgres::open_to_all(directory.path()).unwrap();
        let cluster = Cluster::create(&directory.path().join("data")).await.unwrap();
        let postgres = cluster.start().await.unwrap();
        let (client, connection) = postgres::connect(&postgres.at).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        load_postgres(&client, &filling(0), 2 * IN_A_BUILDING).await.unwrap();
        let mut found = Vec::new();
        for question in QUESTIONS {
            let statement = client.prepare(question.postgres).await.unwrap();
            let ask = Ask { question, buildings: 2, longest: Duration::ZERO };
            found.push(ask.of_postgres(&client, &statement).await.unwrap().1 / QUESTIONS_MIN);
        }
        assert_eq!(found, [10, 40, 40, 100, 1000]);
        drop(client);
        postgres.process.stop().await.unwrap();
    }
}
