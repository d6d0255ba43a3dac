//! What a server asks of its database while nobody asks anything of the server.

use std::time::Duration;

use super::{Database, metric};
use crate::postgres::Postgres;
use crate::report::{Better, Comparison};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure};

const SECONDS: u32 = 20;
/// Sessions tell what they counted when they have been idle for a second.
const SETTLING: Duration = Duration::from_secs(3);

pub(super) async fn look(bench: &Bench, postgres: &Postgres) -> Result<Comparison, Failure> {
    let database = Database::create(postgres, "idle").await?;
    let url = format!("postgres://bench@{}/{}?sslmode=disable", database.at, database.name);
    let variables = [("TWINHUB_STORE", url.as_str())];
    let data = bench.directory("idle-twinhub")?;
    let twinhub = Twinhub::start_with(&bench.server, &data, &variables).await?;
    tokio::time::sleep(SETTLING).await;
    let transactions = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'idle'";
    let watcher = Database { at: database.at, name: "postgres" }.connect().await?;
    let count = async || Ok::<i64, Failure>(watcher.query_one(transactions, &[]).await?.get(0));
    let before = count().await?;
    tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
    let asked = u32::try_from(count().await? - before)?;
    twinhub.process.stop().await?;
    Ok(Comparison {
        title: "A server on a database that nobody uses".into(),
        subject: "twinhub",
        anchor: None,
        metrics: vec![metric(
            "transactions",
            "/s",
            Better::Lower,
            Series(vec![f64::from(asked) / f64::from(SECONDS)]),
            None,
        )],
    })
}
