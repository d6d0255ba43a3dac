//! The store on PostgreSQL beside what a program would do there by hand: the same documents, blocks and rows by the barest statements,
//! on the same server in the same run. It asks the store itself and not a server, so that no door is part of a figure.

mod commits;
mod connects;
mod fail_over;
mod idle;
mod moves;
mod streams;

use std::net::SocketAddr;

use base::Secret;
use store::{Durability, Location, Options, Store};
use tokio_postgres::{Client, NoTls};

use crate::postgres::{Cluster, Postgres};
use crate::report::{Better, Comparison, Metric};
use crate::statistics::Series;
use crate::{Bench, Failure, progress};

/// A database of its own, on a server that syncs what it acknowledges.
struct Database {
    at: SocketAddr,
    name: &'static str,
}

impl Database {
    async fn create(postgres: &Postgres, name: &'static str) -> Result<Self, Failure> {
        let database = Self { at: postgres.at.at, name };
        let text =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
        Self { at: database.at, name: "postgres" }.connect().await?.batch_execute(&text).await?;
        Ok(database)
    }

    /// In the place of one of the same name.
    async fn create_anew(postgres: &Postgres, name: &'static str) -> Result<Self, Failure> {
        let server = Self { at: postgres.at.at, name: "postgres" }.connect().await?;
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        Self::create(postgres, name).await
    }

    fn url(&self) -> String {
        let Self { at, name } = self;
        format!("postgres://bench@{at}/{name}?sslmode=disable")
    }

    fn location(&self) -> Location {
        Location::Postgres(Secret::new(self.url()))
    }

    /// Another server's view of it.
    fn options(&self) -> Options {
        Options::new(self.location(), Durability::Full)
    }

    fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.options())?)
    }

    /// A connection as bare as the store's own.
    async fn connect(&self) -> Result<Client, Failure> {
        let mut config = tokio_postgres::Config::new();
        config.host(self.at.ip().to_string()).port(self.at.port()).user("bench").dbname(self.name);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::task::spawn_local(connection);
        Ok(client)
    }

    /// One number.
    async fn count(&self, text: &str) -> Result<i64, Failure> {
        Ok(self.connect().await?.query_one(text, &[]).await?.get(0))
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    tokio::task::LocalSet::new().run_until(compare(bench)).await
}

pub(crate) async fn fail_over(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    Ok(vec![tokio::task::LocalSet::new().run_until(fail_over::compare(bench)).await?])
}

async fn compare(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let mut postgres = Cluster::create(&bench.directory("database")?).await?.start().await?;
    let mut comparisons = Vec::new();
    progress("commits");
    comparisons.extend(commits::compare(bench, &mut postgres).await?);
    progress("streams");
    comparisons.extend(streams::compare(bench, &mut postgres).await?);
    progress("connects");
    comparisons.push(connects::compare(bench, &mut postgres).await?);
    progress("moves");
    comparisons.push(moves::compare(bench, &postgres).await?);
    progress("a server that does nothing");
    comparisons.push(idle::look(bench, &postgres).await?);
    postgres.process.stop().await?;
    Ok(comparisons)
}

fn metric(
    name: &'static str,
    unit: &'static str,
    better: Better,
    subject: Series,
    anchor: Option<Series>,
) -> Metric {
    Metric { name, unit, better, subject, anchor }
}
