//! Questions about a graph, one client after another answer: twinhub over HTTPS with a token, beside PostgreSQL with the same
//! documents as JSONB over TLS too, and beside Kùzu in a process of its own. Every side is given the indexes that the question wants.
//! PostgreSQL is asked twice: by the leanest statement, prepared, which joins no twin of which nothing is asked; and by the question as
//! it stands, all its twins joined, sent as text each time, which is how twinhub hears it.

mod data;
mod kuzu;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use self::data::{Plant, some_building, some_sensor};
use self::kuzu::Kuzu;
use crate::clock::now;
use crate::postgres::{self, Cluster};
use crate::process::Process;
use crate::report::{Better, Comparison, Metric};
use crate::statistics::{Latencies, Series};
use crate::twinhub::{GraphClient, Twinhub};
use crate::{Bench, Failure, progress};

/// Clients that load the graph.
const LOADING: usize = 8;
/// A question is asked this often in a round, or for as long.
const QUESTIONS_MAX: u64 = 300;
const QUESTIONS_MIN: u64 = 3;

/// Twins that are found by a property are found by an index on every side.
pub(crate) const INDEXED: &str = "DIGITALTWINS.serial";

/// What a question is about, and how each side is asked.
struct Question {
    name: &'static str,
    about: About,
    /// Rows, or the number that is counted.
    expects: Option<u64>,
    twinhub: Way,
    postgres: &'static str,
    /// The question as it stands: every twin that it names is joined.
    postgres_as_asked: Option<&'static str>,
    kuzu: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Building,
    Sensor,
    Serial,
    Nothing,
}

#[derive(Clone, Copy)]
enum Way {
    /// `$` stands for what the question is about.
    Query(&'static str),
    Get,
    Patch,
}

const QUESTIONS: &[Question] = &[
    Question {
        name: "two hops, COUNT of 400",
        about: About::Building,
        expects: Some(400),
        twinhub: Way::Query(
            "SELECT COUNT() FROM DIGITALTWINS B JOIN F RELATED B.contains JOIN R RELATED F.contains WHERE B.$dtId = '$'",
        ),
        postgres: "SELECT count(*) FROM relationship a JOIN relationship b ON b.source = a.target AND b.name = 'contains'
            WHERE a.source = $1 AND a.name = 'contains'",
        postgres_as_asked: Some(
            "SELECT count(*) FROM digital_twin t JOIN relationship a ON a.source = t.id AND a.name = 'contains'
            JOIN digital_twin u ON u.id = a.target JOIN relationship b ON b.source = u.id AND b.name = 'contains'
            JOIN digital_twin v ON v.id = b.target WHERE t.id = $1",
        ),
        kuzu: Some("MATCH (b:Twin {id: $it})-[:contains]->(:Twin)-[:contains]->(:Twin) RETURN count(*)"),
    },
    Question {
        name: "three hops, COUNT of 2,800",
        about: About::Building,
        expects: Some(2800),
        twinhub: Way::Query(
            "SELECT COUNT() FROM DIGITALTWINS B JOIN F RELATED B.contains JOIN R RELATED F.contains JOIN S RELATED R.contains WHERE B.$dtId = '$'",
        ),
        postgres: "SELECT count(*) FROM relationship a JOIN relationship b ON b.source = a.target AND b.name = 'contains'
            JOIN relationship c ON c.source = b.target AND c.name = 'contains'
            WHERE a.source = $1 AND a.name = 'contains'",
        postgres_as_asked: Some(
            "SELECT count(*) FROM digital_twin t JOIN relationship a ON a.source = t.id AND a.name = 'contains'
            JOIN digital_twin u ON u.id = a.target JOIN relationship b ON b.source = u.id AND b.name = 'contains'
            JOIN digital_twin v ON v.id = b.target JOIN relationship c ON c.source = v.id AND c.name = 'contains'
            JOIN digital_twin w ON w.id = c.target WHERE t.id = $1",
        ),
        kuzu: Some(
            "MATCH (b:Twin {id: $it})-[:contains]->(:Twin)-[:contains]->(:Twin)-[:contains]->(:Twin) RETURN count(*)",
        ),
    },
    Question {
        name: "upward from a sensor",
        about: About::Sensor,
        expects: Some(1),
        twinhub: Way::Query(
            "SELECT B.$dtId FROM DIGITALTWINS B JOIN F RELATED B.contains JOIN R RELATED F.contains JOIN S RELATED R.contains WHERE S.$dtId = '$'",
        ),
        postgres: "SELECT c.source FROM relationship a JOIN relationship b ON b.target = a.source AND b.name = 'contains'
            JOIN relationship c ON c.target = b.source AND c.name = 'contains'
            WHERE a.target = $1 AND a.name = 'contains' ORDER BY c.source, c.id, b.id, a.id LIMIT 101",
        postgres_as_asked: Some(
            "SELECT t.id FROM digital_twin t JOIN relationship a ON a.source = t.id AND a.name = 'contains'
            JOIN digital_twin u ON u.id = a.target JOIN relationship b ON b.source = u.id AND b.name = 'contains'
            JOIN digital_twin v ON v.id = b.target JOIN relationship c ON c.source = v.id AND c.name = 'contains'
            JOIN digital_twin w ON w.id = c.target WHERE w.id = $1 ORDER BY t.id, a.id, b.id, c.id LIMIT 101",
        ),
        kuzu: Some(
            "MATCH (b:Twin)-[:contains]->(:Twin)-[:contains]->(:Twin)-[:contains]->(s:Twin {id: $it}) RETURN b.id",
        ),
    },
    Question {
        name: "a page of 100 twins, two hops away",
        about: About::Building,
        expects: Some(100),
        twinhub: Way::Query(
            "SELECT R FROM DIGITALTWINS B JOIN F RELATED B.contains JOIN R RELATED F.contains WHERE B.$dtId = '$'",
        ),
        postgres: "SELECT t.doc::text FROM relationship a JOIN relationship b ON b.source = a.target AND b.name = 'contains'
            JOIN digital_twin t ON t.id = b.target
            WHERE a.source = $1 AND a.name = 'contains' ORDER BY a.source, a.id, b.id LIMIT 100",
        postgres_as_asked: Some(
            "SELECT v.doc::text FROM digital_twin t JOIN relationship a ON a.source = t.id AND a.name = 'contains'
            JOIN digital_twin u ON u.id = a.target JOIN relationship b ON b.source = u.id AND b.name = 'contains'
            JOIN digital_twin v ON v.id = b.target WHERE t.id = $1 ORDER BY t.id, a.id, b.id LIMIT 100",
        ),
        kuzu: Some(
            "MATCH (b:Twin {id: $it})-[:contains]->(f:Twin)-[:contains]->(r:Twin) RETURN r.doc ORDER BY f.id, r.id LIMIT 100",
        ),
    },
    Question {
        name: "property =, one row",
        about: About::Serial,
        expects: Some(1),
        twinhub: Way::Query("SELECT * FROM DIGITALTWINS WHERE serial = '$'"),
        postgres: "SELECT doc::text FROM digital_twin WHERE doc ->> 'serial' = $1 ORDER BY id LIMIT 101",
        postgres_as_asked: Some("SELECT doc::text FROM digital_twin WHERE doc ->> 'serial' = $1 ORDER BY id LIMIT 101"),
        // It has an index on the primary key alone, and scans a column.
        kuzu: Some("MATCH (t:Twin) WHERE t.serial = $it RETURN t.doc"),
    },
    Question {
        name: "a scan of everything, COUNT",
        about: About::Nothing,
        expects: None,
        twinhub: Way::Query("SELECT COUNT() FROM DIGITALTWINS WHERE temperature > 29.5"),
        postgres: "SELECT count(*) FROM digital_twin WHERE (doc -> 'temperature')::float8 > 29.5",
        postgres_as_asked: None,
        kuzu: Some("MATCH (t:Twin) WHERE t.temperature > 29.5 RETURN count(*)"),
    },
    Question {
        name: "GET by key",
        about: About::Sensor,
        expects: Some(1),
        twinhub: Way::Get,
        postgres: "SELECT doc::text FROM digital_twin WHERE id = $1",
        postgres_as_asked: None,
        kuzu: Some("MATCH (t:Twin {id: $it}) RETURN t.doc"),
    },
    Question {
        name: "durable PATCH of a property",
        about: About::Sensor,
        expects: None,
        twinhub: Way::Patch,
        postgres: "UPDATE digital_twin SET doc = jsonb_set(doc, '{temperature}', to_jsonb(length($1)::float8)) WHERE id = $1",
        postgres_as_asked: None,
        kuzu: Some("MATCH (t:Twin {id: $it}) SET t.temperature = 21.0"),
    },
];

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let plant = Plant::of(bench.twins);
    let mut twinhub =
        Twinhub::start_indexed(&bench.server, &bench.directory("graph-twinhub")?, INDEXED).await?;
    let (load, client) = load_twinhub(&twinhub, plant).await?;
    let cluster = Cluster::create(&bench.directory("graph-postgres")?).await?;
    let mut postgres = cluster.start().await?;
    progress("loading PostgreSQL");
    let (sql, connection) = postgres::connect(&postgres.at).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    load_postgres(&sql, plant).await?;
    let mut kuzu = match &bench.kuzu {
        Some(python) => {
            progress("loading Kùzu");
            Some(Kuzu::start(python, &bench.directory("graph-kuzu")?, plant).await?)
        }
        None => None,
    };
    let mut statements = Vec::new();
    for question in QUESTIONS {
        statements.push(sql.prepare(question.postgres).await?);
    }
    let mut measured: Vec<[Series; 5]> = QUESTIONS.iter().map(|_| <[Series; 5]>::default()).collect();
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        for ((question, statement), series) in QUESTIONS.iter().zip(&statements).zip(&mut measured) {
            let first = u64::from(number) * 1_000_003;
            let ask = Ask { question, plant, first, longest: bench.window.measured / 5 };
            let cpu = twinhub.process.cpu()?;
            let (ours, count) = ask.of_twinhub(&client).await?;
            let spent = twinhub.process.cpu()?.saturating_sub(cpu);
            series[0].0.push(ours);
            series[1].0.push(ask.of_postgres(&sql, statement).await?);
            if let Some(kuzu) = &mut kuzu {
                series[2].0.push(ask.of_kuzu(kuzu).await?);
            }
            series[4].0.push(ask.of_postgres_as_asked(&sql).await?);
            series[3].0.push(spent.as_secs_f64() * 1000.0 / count);
        }
    }
    let seen = (twinhub.process.check(), postgres.process.check());
    seen.0.and(seen.1)?;
    drop((client, sql, kuzu));
    twinhub.process.stop().await?;
    postgres.process.stop().await?;
    Ok(comparisons(plant, load, &measured))
}

fn comparisons(plant: Plant, load: Vec<Metric>, measured: &[[Series; 5]]) -> Vec<Comparison> {
    let metrics = |subject: usize, anchor: Option<usize>| {
        let asked = QUESTIONS.iter().zip(measured);
        let metric = |(question, series): (&Question, &[Series; 5])| Metric {
            name: question.name,
            unit: "ms",
            better: Better::Lower,
            subject: series[subject].clone(),
            anchor: anchor.map(|at| series[at].clone()),
        };
        asked.map(metric).collect()
    };
    let of = |anchor: &'static str, at: usize| Comparison {
        title: format!("A graph of {} twins: median time of a question, one client", plant.twins()),
        subject: "twinhub (HTTPS)",
        anchor: Some(anchor),
        metrics: metrics(0, Some(at)),
    };
    let cpu = Comparison {
        title: "The same: time of the processor that the server took for one".to_owned(),
        subject: "twinhub (HTTPS)",
        anchor: None,
        metrics: metrics(3, None),
    };
    let loading = Comparison {
        title: format!("Loading it by {LOADING} clients"),
        subject: "twinhub (HTTPS)",
        anchor: None,
        metrics: load,
    };
    let mut all =
        vec![loading, of("PostgreSQL, the leanest statement", 1), of("PostgreSQL, as it is asked", 4)];
    if measured.iter().any(|series| !series[2].0.is_empty()) {
        all.push(of("Kùzu (in process)", 2));
    }
    all.push(cpu);
    all
}

/// One question, asked again and again of one side.
struct Ask<'q> {
    question: &'q Question,
    plant: Plant,
    first: u64,
    longest: Duration,
}

impl Ask<'_> {
    fn about(&self, number: u64) -> String {
        match self.question.about {
            About::Building => some_building(self.plant, self.first + number),
            About::Sensor => some_sensor(self.plant, self.first + number),
            About::Serial => format!("SN-{}", some_sensor(self.plant, self.first + number)),
            About::Nothing => String::new(),
        }
    }

    /// The median in milliseconds, and how many were asked.
    async fn median(
        &self,
        mut ask: impl AsyncFnMut(&str, u64) -> Result<Option<u64>, Failure>,
    ) -> Result<(f64, f64), Failure> {
        let mut latencies = Latencies::default();
        let begin = now();
        let mut number = 0;
        while number < QUESTIONS_MIN || (number < QUESTIONS_MAX && begin.elapsed() < self.longest) {
            let about = self.about(number);
            let start = now();
            let found = ask(&about, number).await?;
            latencies.add(start.elapsed());
            if let (Some(expected), Some(found)) = (self.question.expects, found)
                && expected != found
            {
                return Err(format!("{}: {found} for {about}", self.question.name).into());
            }
            number += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let count = number as f64;
        Ok((latencies.percentile_ms(0.5), count))
    }

    async fn of_twinhub(&self, client: &GraphClient) -> Result<(f64, f64), Failure> {
        self.median(async |about, number| match self.question.twinhub {
            Way::Query(text) => {
                // The names of members begin with the same sign.
                let answer = client.query(&text.replace("'$'", &format!("'{about}'"))).await?;
                let rows = answer["value"].as_array().ok_or("no rows")?;
                let count = rows.first().and_then(|row| row["COUNT"].as_u64());
                Ok(Some(count.unwrap_or(rows.len() as u64)))
            }
            Way::Get => client.get(about).await.map(|twin| Some(u64::from(twin["$dtId"] == about))),
            Way::Patch => {
                #[expect(clippy::cast_precision_loss, reason = "hundreds")]
                let temperature = 20.0 + number as f64 / 100.0;
                let patch = json!([{"op": "replace", "path": "/temperature", "value": temperature}]);
                client.patch(about, &patch).await.map(|()| None)
            }
        })
        .await
    }

    async fn of_postgres(&self, client: &Client, statement: &Statement) -> Result<f64, Failure> {
        let is_write = matches!(self.question.twinhub, Way::Patch);
        let median = self.median(async |about, _| {
            if is_write {
                client.execute(statement, &[&about]).await?;
                return Ok(None);
            }
            let rows = match self.question.about {
                About::Nothing => client.query(statement, &[]).await?,
                _ => client.query(statement, &[&about]).await?,
            };
            let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
            Ok(Some(count.map_or(rows.len() as u64, i64::unsigned_abs)))
        });
        Ok(median.await?.0)
    }

    /// Read and planned anew each time, in one round trip.
    async fn of_postgres_as_asked(&self, client: &Client) -> Result<f64, Failure> {
        let Some(text) = self.question.postgres_as_asked else { return Ok(f64::NAN) };
        let median = self.median(async |about, _| {
            let rows = client.query_typed(text, &[(&about, Type::TEXT)]).await?;
            let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
            Ok(Some(count.map_or(rows.len() as u64, i64::unsigned_abs)))
        });
        Ok(median.await?.0)
    }

    async fn of_kuzu(&self, kuzu: &mut Kuzu) -> Result<f64, Failure> {
        let Some(text) = self.question.kuzu else { return Ok(f64::NAN) };
        let mut latencies = Latencies::default();
        let mut number = 0;
        let begin = now();
        while number < QUESTIONS_MIN || (number < QUESTIONS_MAX && begin.elapsed() < self.longest) {
            let parameters = match self.question.about {
                About::Nothing => json!({}),
                _ => json!({"it": self.about(number)}),
            };
            let answered = kuzu.ask(text, parameters).await?;
            let found = answered.first.as_u64().unwrap_or(answered.rows);
            if let Some(expected) = self.question.expects.filter(|expected| *expected != found) {
                return Err(format!("{} of Kùzu: {found} instead of {expected}", self.question.name).into());
            }
            latencies.add(Duration::from_secs_f64(answered.milliseconds / 1000.0));
            number += 1;
        }
        Ok(latencies.percentile_ms(0.5))
    }
}

async fn load_twinhub(twinhub: &Twinhub, plant: Plant) -> Result<(Vec<Metric>, GraphClient), Failure> {
    progress(&format!("loading {} twins over HTTPS", plant.twins()));
    let authorization = twinhub.digital_twins.sign_in().await?;
    twinhub.digital_twins.upload(&authorization, &data::models()).await?;
    let client = || twinhub.digital_twins.client(&authorization);
    let mut metrics = Vec::new();
    for (names, of_twins) in [(TWINS_PUT, true), (RELATIONSHIPS_PUT, false)] {
        let (start, before) = (now(), written(&twinhub.process)?);
        let mut loading = JoinSet::new();
        for first in 0..LOADING {
            let client = client();
            loading.spawn(async move {
                let mut count = 0_usize;
                for number in (first..plant.buildings).step_by(LOADING) {
                    count += load_building(&client, number, of_twins).await?;
                }
                Ok::<_, Failure>(count)
            });
        }
        let mut count = 0;
        while let Some(loaded) = loading.join_next().await {
            count += loaded??;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts and bytes are far below 2^52")]
        let (count, bytes) = (count as f64, (written(&twinhub.process)? - before) as f64);
        let metric = |name, unit, better, value| Metric {
            name,
            unit,
            better,
            subject: Series(vec![value]),
            anchor: None,
        };
        metrics.push(metric(names[0], "/s", Better::Higher, count / start.elapsed().as_secs_f64()));
        metrics.push(metric(names[1], "B each", Better::Lower, bytes / count));
    }
    Ok((metrics, client()))
}

const TWINS_PUT: [&str; 2] = ["twins put", "written for a twin"];
const RELATIONSHIPS_PUT: [&str; 2] = ["relationships put", "written for a relationship"];

async fn load_building(client: &GraphClient, number: usize, of_twins: bool) -> Result<usize, Failure> {
    let (twins, edges) = data::building_of(number);
    if of_twins {
        for twin in &twins {
            client.put(&twin.id, &twin.body()).await?;
        }
        return Ok(twins.len());
    }
    for edge in &edges {
        client.put_relationship(&edge.source, &edge.id(), &edge.body()).await?;
    }
    Ok(edges.len())
}

/// Bytes that the process had written to disks.
fn written(process: &Process) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{}/io", process.id()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("/proc tells nothing of writes")?.trim().parse()?)
}

const TABLES: &str = "CREATE TABLE digital_twin (id text PRIMARY KEY, model text NOT NULL, doc jsonb NOT NULL);
    CREATE TABLE relationship (source text, id text, target text NOT NULL, name text NOT NULL, doc jsonb NOT NULL, PRIMARY KEY (source, id));";
const INDEXES: &str = "CREATE INDEX ON digital_twin (model, id);
    CREATE INDEX ON digital_twin ((doc ->> 'serial'));
    CREATE INDEX ON relationship (source, name, id, target);
    CREATE INDEX ON relationship (target, name, source, id);
    VACUUM ANALYZE;";

async fn load_postgres(client: &Client, plant: Plant) -> Result<(), Failure> {
    client.batch_execute(TABLES).await?;
    let twins_insert = client
        .prepare("INSERT INTO digital_twin SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])")
        .await?;
    let edges_insert = client
        .prepare("INSERT INTO relationship SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[])")
        .await?;
    for number in 0..plant.buildings {
        let (twins, edges) = data::building_of(number);
        let column = |of: &dyn Fn(&data::Twin) -> String| twins.iter().map(of).collect::<Vec<_>>();
        let documents: Vec<Value> = twins.iter().map(data::Twin::document).collect();
        let (ids, models) = (column(&|twin| twin.id.clone()), column(&|twin| twin.kind.to_owned()));
        client.execute(&twins_insert, &[&ids, &models, &documents]).await?;
        let column = |of: &dyn Fn(&data::Edge) -> String| edges.iter().map(of).collect::<Vec<_>>();
        let documents: Vec<Value> = edges.iter().map(data::Edge::document).collect();
        let (sources, ids) = (column(&|edge| edge.source.clone()), column(&data::Edge::id));
        let (targets, names) = (column(&|edge| edge.target.clone()), column(&|edge| edge.name.to_owned()));
        client.execute(&edges_insert, &[&sources, &ids, &targets, &names, &documents]).await?;
    }
    for statement in INDEXES.split(';').filter(|statement| !statement.trim().is_empty()) {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
