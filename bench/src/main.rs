//! The benchmark program (`cargo xtask bench`): starts twinhub and what it is compared with, runs them in turn, and prints
//! ratios with medians and spread. A tool: nothing in the house may use it, and it reaches servers through the wire only.

mod azurite;
mod certificate;
mod clock;
mod connects;
mod database;
mod disk;
mod graph;
mod idle_memory;
mod load;
mod loopback;
mod machine;
mod measure;
mod models;
mod mosquitto;
mod postgres;
mod process;
mod profile;
mod report;
mod start;
mod statistics;
mod telemetry;
mod twin_patches;
mod twin_queries;
mod twinhub;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::json;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::measure::Window;
use crate::report::Comparison;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures twinhub beside mosquitto, PostgreSQL and Kùzu.
#[derive(Parser)]
struct Arguments {
    /// The twinhub binary
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// Where results are written, one JSON file a benchmark
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
    /// Where servers keep their data; it must lie on a disk, or durability would cost nothing
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Rounds of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured seconds of a round; the warm-up takes two fifths as long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Add a round that shows where twinhub's time goes (uses perf where it is installed)
    #[arg(long)]
    profile: bool,
    /// Digital twins of the graph, and devices that are queried
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    twins: u32,
    /// A Python with the package kuzu, to have the graph's questions answered by it too
    #[arg(long, value_name = "PATH")]
    kuzu: Option<PathBuf>,
    /// The main.js of Azurite's blob service, to have starts measured beside it too
    #[arg(long, value_name = "PATH")]
    azurite: Option<PathBuf>,
    /// Which benchmarks [default: all]
    #[arg(value_enum)]
    names: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    Start,
    IdleMemory,
    Models,
    Telemetry,
    Connects,
    TwinPatches,
    TwinQueries,
    Graph,
    Database,
    FailOver,
}

impl Name {
    const ALL: [Self; 10] = [
        Self::Start,
        Self::IdleMemory,
        Self::Models,
        Self::Telemetry,
        Self::Connects,
        Self::TwinPatches,
        Self::TwinQueries,
        Self::Graph,
        Self::Database,
        Self::FailOver,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::IdleMemory => "idle_memory",
            Self::Models => "models",
            Self::Telemetry => "telemetry",
            Self::Connects => "connects",
            Self::TwinPatches => "twin_patches",
            Self::TwinQueries => "twin_queries",
            Self::Graph => "graph",
            Self::Database => "database",
            Self::FailOver => "fail_over",
        }
    }

    async fn run(self, bench: &Bench) -> Result<Vec<Comparison>, Failure> {
        match self {
            Self::Start => start::run(bench).await,
            Self::IdleMemory => idle_memory::run(bench).await,
            Self::Models => models::run(bench).await,
            Self::Telemetry => telemetry::run(bench).await,
            Self::Connects => connects::run(bench).await,
            Self::TwinPatches => twin_patches::run(bench).await,
            Self::TwinQueries => twin_queries::run(bench).await,
            Self::Graph => graph::run(bench).await,
            Self::Database => database::run(bench).await,
            Self::FailOver => database::fail_over(bench).await,
        }
    }
}

/// What every benchmark is given.
struct Bench {
    server: PathBuf,
    results: PathBuf,
    scratch: TempDir,
    rounds: u32,
    window: Window,
    disk: Disk,
    profile: bool,
    /// Of the graph, and devices that are queried.
    twins: usize,
    kuzu: Option<PathBuf>,
    azurite: Option<PathBuf>,
}

impl Bench {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        std::fs::create_dir_all(&arguments.results)?;
        let scratch = tempfile::Builder::new().prefix("twinhub-bench-").tempdir_in(&arguments.scratch)?;
        postgres::open_to_all(scratch.path())?;
        let measured = Duration::from_secs(arguments.seconds.into());
        Ok(Self {
            server: twinhub::find(&arguments.server)?,
            results: arguments.results.clone(),
            disk: Disk::under(scratch.path())?,
            scratch,
            rounds: arguments.rounds,
            window: Window { warm_up: measured * 2 / 5, measured },
            profile: arguments.profile,
            twins: arguments.twins as usize,
            kuzu: arguments.kuzu.clone(),
            azurite: arguments.azurite.clone(),
        })
    }

    /// A directory of this name for one server.
    fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// Says on stderr what is being done; stdout is for results.
fn progress(text: &str) {
    eprintln!("   {text}");
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into);
    let outcome = outcome.and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                outcome = run(&arguments) => outcome,
                // Leaving drops every server, which ends it.
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    raise_file_limit();
    let bench = Bench::new(arguments)?;
    let machine = machine::describe(&bench.server, bench.scratch.path())?;
    println!("{machine:#}");
    let settings = json!({"rounds": arguments.rounds, "measuredSeconds": arguments.seconds});
    let names = if arguments.names.is_empty() { &Name::ALL[..] } else { &arguments.names };
    let mut failed = Vec::new();
    for name in names {
        eprintln!("── {}", name.text());
        // One benchmark that fails must not hide the figures of the others.
        match name.run(&bench).await {
            Ok(comparisons) => {
                for comparison in &comparisons {
                    print!("{}", report::table(comparison));
                }
                report::write(&bench.results, name.text(), &settings, &machine, &comparisons)?;
            }
            Err(error) => failed.push(format!("{}: {error}", name.text())),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n       ").into()) }
}

/// Thousands of connections need as many files, here and in the servers, which inherit the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        eprintln!("   the limit of open files stays where it is");
    }
}

/// The place of a profile in the results.
fn profile_path(results: &Path, name: &str) -> PathBuf {
    results.join(format!("{name}.profile.txt"))
}
