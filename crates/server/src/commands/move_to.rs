//! `twinhub move` brings what a server that does not run keeps in its data directory into a PostgreSQL database: first everything that
//! waits is told, then the store moves records and streams, then the database takes over the server's own secrets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use access::Directory;
use base::hosts::{Hosts, NoMachine};
use base::tasks::Tasks;
use base::{Clock, Refusals, caps};
use clap::Args;
use server::out;
use store::transfer::{self, Arrived, Move};
use store::{Batch, Location, Store, StoreError};

use super::{DataDirArgs, ServeArgs};
use crate::config::{self, Config};
use crate::house::{Ground, House};
use crate::serve::{Data, open_data};
use crate::{Failure, backup, cluster_key, data_directory, logging};

#[derive(Args)]
pub(crate) struct MoveArgs {
    /// An empty database, as for `serve --store`; whoever lists this machine's processes reads it
    #[arg(long, value_name = "URL", required_unless_present = "to_file")]
    to: Option<String>,
    /// A file in which that stands alone, for an address with a password
    #[arg(long, value_name = "PATH", conflicts_with = "to")]
    to_file: Option<PathBuf>,
    /// A file with the key under which the database is to keep the server's own secrets, as for `serve`
    #[arg(long, value_name = "PATH")]
    cluster_key_file: Option<PathBuf>,
    #[command(flatten)]
    data_dir: DataDirArgs,
}

impl MoveArgs {
    /// What a server is started with behind the move.
    fn target(&self) -> Result<Config, Failure> {
        let args = ServeArgs {
            data_dir: self.data_dir.data_dir.clone(),
            cluster_key_file: self.cluster_key_file.clone(),
            ..ServeArgs::default()
        };
        let mut flags = args.layer();
        // Both, so that a setting of the other name does not stand before the one that is given.
        let file = self.to_file.as_ref().map(|path| path.to_string_lossy().into_owned());
        flags.values.push(("store", "--to", self.to.clone().unwrap_or_default()));
        flags.values.push(("store_file", "--to-file", file.unwrap_or_default()));
        let config = config::load(&flags)?;
        match config.store {
            Location::Postgres(_) => Ok(config),
            Location::File(_) | Location::Memory => {
                Err("a move goes to a PostgreSQL database: postgres://user:password@host/database".into())
            }
        }
    }

    /// The directory in which the records are, whatever the next start is to use.
    fn source(&self) -> Result<PathBuf, Failure> {
        let config = config::load(&self.data_dir.layer())?;
        match config.store {
            Location::File(directory) => Ok(directory),
            Location::Postgres(_) => Ok(config.data_dir),
            Location::Memory => Err("what is kept in memory ends with its server".into()),
        }
    }
}

pub(crate) fn run(args: &MoveArgs) -> Result<ExitCode, Failure> {
    let (target, source) = (args.target()?, args.source()?);
    // Before anything is done that takes long.
    cluster_key::check(&target)?;
    logging::start("warn", target.log_format)?;
    if !source.join("records.db").is_file() {
        return Err(format!("there is no data of a server in {}", source.display()).into());
    }
    let _claim = if transfer::has_begun(&source)? {
        claim(&target.data_dir)?
    } else {
        out::line(format_args!("telling what waits in {}", source.display()));
        let source =
            Config { store: Location::File(source.clone()), cluster_key_file: None, ..target.clone() };
        // A runtime of its own: when it ends, nothing of the house holds on to the directory any more.
        tokio::runtime::Runtime::new()?.block_on(tell_everything(&source))?
    };
    tokio::runtime::Runtime::new()?.block_on(bring(&source, &target))?;
    logging::finish();
    Ok(ExitCode::SUCCESS)
}

fn claim(data_dir: &Path) -> Result<File, Failure> {
    let claim = data_directory::claim(data_dir)?;
    backup::refuse_half_restored(data_dir)?;
    Ok(claim)
}

/// Runs the services without their doors until no event waits.
async fn tell_everything(source: &Config) -> Result<File, Failure> {
    let clock = Clock::system();
    let Data { claim, store, streams, .. } = open_data(source, &clock).await?;
    let tasks = Tasks::new();
    let directory = Directory::open(store.clone(), clock.clone(), &source.domain, Vec::new()).await?;
    let house = House::open(Ground {
        store: store.clone(),
        streams,
        clock: clock.clone(),
        hosts: Hosts::new(&source.domain, source.ports.https, NoMachine),
        tasks: tasks.clone(),
        directory,
        refusals: Refusals::new(clock.clone()),
        queue_depth: source.queue_depth,
        resource_manager: source.resource_manager.clone(),
        keys: None,
    })
    .await?;
    let told = wait_until_told(&house, &clock).await;
    tasks.drain(Duration::from_secs(caps::DRAIN_SECONDS_MAX)).await;
    // Events that were told are deleted by the next commit, whatever that is of.
    store.commit(Batch::default()).await?;
    store.close();
    told.map(|()| claim)
}

async fn wait_until_told(house: &House, clock: &Clock) -> Result<(), Failure> {
    let begin = clock.elapsed();
    let is_over = |seconds| clock.elapsed() >= begin.plus(Duration::from_secs(seconds));
    while house.events.has_untold().await? {
        if is_over(caps::MOVE_TELLING_SECONDS_MAX) {
            return Err("events could not be told, and the database would give them other numbers: start the server once more, and see in \
                        its log what keeps them"
                .into());
        }
        clock.sleep(LOOKED_EVERY).await;
    }
    loop {
        match house.events.endpoints_waiting().await? {
            0 => return Ok(()),
            endpoints if is_over(caps::MOVE_DELIVERY_SECONDS_MAX) => {
                out::line(format_args!(
                    "{endpoints} endpoints do not take their events now: these move too, and wait there"
                ));
                return Ok(());
            }
            _ => clock.sleep(LOOKED_EVERY).await,
        }
    }
}

const LOOKED_EVERY: Duration = Duration::from_millis(50);

async fn bring(source: &Path, target: &Config) -> Result<(), Failure> {
    let Location::Postgres(url) = &target.store else { return Err("a move goes to a database".into()) };
    let begun = Move::begin(source, url.expose(), target.durability).await;
    let to = begun.map_err(|error| match error {
        StoreError::InUse(directory) => data_directory::held(directory.as_ref()),
        error => error.to_string(),
    })?;
    let mut counted = Counted::default();
    if to.is_over() {
        out::line("an earlier call brought everything; only its last step is missing");
    } else {
        to.records(|arrived| counted.tell(&arrived)).await?;
        to.streams(|arrived| counted.tell(&arrived)).await?;
        let mut chunks = 0;
        to.chunks(|arrived| chunks += arrived.rows).await?;
        let Counted { records, messages } = counted;
        out::line(format_args!(
            "{records} records, {messages} messages and {chunks} pieces of blobs are there, counted and compared"
        ));
        to.finish()?;
    }
    hand_over(target, to.target()).await?;
    to.forget().await?;
    out::line(format_args!(
        "Everything is in the database. {} keeps what it had, and no server starts on it any more.",
        source.display()
    ));
    out::line(format_args!(
        "Start the server with the database from now on: --store, or the setting store_file, and --data-dir {}",
        target.data_dir.display()
    ));
    Ok(())
}

/// The database takes over what lies in files of the data directory.
async fn hand_over(target: &Config, store: Store) -> Result<(), Failure> {
    let secrets = cluster_key::secrets(target, &store).await?;
    tokio::task::spawn_blocking(move || secrets.hand_over()).await??;
    Ok(())
}

/// What has arrived, told part by part.
#[derive(Default)]
struct Counted {
    records: u64,
    messages: u64,
}

impl Counted {
    fn tell(&mut self, arrived: &Arrived) {
        let Arrived { part, rows, was_there, .. } = arrived;
        let count = if arrived.is_stream { &mut self.messages } else { &mut self.records };
        *count += rows;
        if *rows > 0 {
            let since = if *was_there { ", there since an earlier call" } else { "" };
            out::line(format_args!("  {part}: {rows}{since}"));
        }
    }
}
