//! The command line as clap sees it (`design.md` §2), and a file for each command: what it takes, then what it does. Those of `serve`
//! become the topmost layer of the configuration.

pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod move_to;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use backup::{BackupArgs, RestoreArgs};
use clap::{Args, Parser, Subcommand};
use completions::CompletionsArgs;
use demo::DemoArgs;
use device::DeviceArgs;
use doctor::DoctorArgs;
use env::EnvArgs;
use events::EventsArgs;
use man::ManArgs;
use models::ModelsCommand;
use move_to::MoveArgs;
use repair::{LogCommand, RecordsCommand};
use run::RunArgs;
use simulate::SimulateArgs;
use status::StatusArgs;
use wait::WaitArgs;

use crate::config::{Config, Flags};
use crate::seed::Seed;
use crate::{Failure, config, serve};

/// IoT Hub, Device Provisioning, Digital Twins, Resource Manager and Entra endpoints on your own machine.
#[derive(Parser)]
#[command(name = "twinhub", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run everything in the foreground until SIGTERM or SIGINT.
    Serve(ServeCommand),
    /// Run the main job: devices, provisioning, twins and a graph, seen to work; then keep serving.
    Demo(DemoArgs),
    /// Run one command with a server of its own, which goes with it: twinhub run -- pytest.
    Run(RunArgs),
    /// Cleans up after a `run` that was killed.
    #[cfg(unix)]
    #[command(hide = true)]
    Guard(run::guard::GuardArgs),
    /// Wait until a server is ready.
    Wait(WaitArgs),
    /// Show what a running server serves, who is connected, what waits and whom it refused last.
    Status(StatusArgs),
    /// Look for what would stop a client on this machine, and say what to do about it.
    Doctor(DoctorArgs),
    /// Print what a client needs to reach a running server: eval "$(twinhub env)".
    Env(EnvArgs),
    /// Make, show, use and remove devices of a running server.
    Device(DeviceArgs),
    /// Print device messages and events of a running server.
    Events(EventsArgs),
    /// Let a fleet of simulated devices register, send, report and answer against a running server.
    Simulate(SimulateArgs),
    /// Look at DTDL models.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Write everything that a running server keeps, its keys too, into one file.
    Backup(BackupArgs),
    /// Make a data directory from a backup.
    Restore(RestoreArgs),
    /// Bring what a server that does not run keeps into an empty PostgreSQL database, and go on there.
    Move(MoveArgs),
    /// Look at the records of a server that does not run.
    Records {
        #[command(subcommand)]
        command: RecordsCommand,
    },
    /// Look at the log of a server that does not run: device messages and events.
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Print the hosts-file lines of every instance of a running server.
    Hosts(DataDirArgs),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print what makes a shell complete the commands and flags of twinhub.
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for every command into a directory.
    Man(ManArgs),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(args) => {
                let mut config = config::load(&args.serve.layer())?;
                args.start.apply(&mut config)?;
                serve::run(&config)
            }
            Self::Demo(args) => demo::run(&args),
            Self::Run(args) => Ok(run::run(&args)),
            #[cfg(unix)]
            Self::Guard(args) => run::guard::run(&args),
            Self::Wait(args) => wait::run(&args),
            Self::Status(args) => status::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Env(args) => env::run(&args),
            Self::Device(args) => device::run(&args),
            Self::Events(args) => events::run(&args),
            Self::Simulate(args) => simulate::run(&args),
            Self::Models { command: ModelsCommand::Check(args) } => models::check(&args),
            Self::Backup(args) => backup::backup(&args),
            Self::Restore(args) => backup::restore(&args),
            Self::Move(args) => move_to::run(&args),
            Self::Records { command: RecordsCommand::Check(args) } => {
                repair::run(&args, store::check_records)
            }
            Self::Records { command: RecordsCommand::Repair(args) } => {
                repair::run(&args, store::repair_records)
            }
            Self::Log { command: LogCommand::Check(args) } => repair::run(&args, store::check_log),
            Self::Log { command: LogCommand::Repair(args) } => repair::run(&args, store::repair_log),
            Self::Hosts(args) => hosts::run(&args),
            Self::Config { command: ConfigCommand::Check(args) } => config::check(&args.layer()),
            Self::Completions(args) => Ok(completions::run(&args)),
            Self::Man(args) => man::run(&args),
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its value, where that came from, its variable and what it means.
    Check(ServeArgs),
}

#[derive(Args)]
pub(crate) struct ServeCommand {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    start: StartArgs,
}

/// What a server shall have from the beginning.
#[derive(Args, Clone)]
pub(crate) struct StartArgs {
    /// A file (.toml or .json) of hubs, devices, models, twins and the like that the server shall have
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Policies, and devices that the seed makes without keys, have keys that everybody knows: for development on this machine
    #[arg(long)]
    well_known_keys: bool,
}

impl StartArgs {
    fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        config.well_known_keys = self.well_known_keys;
        config.seed = self.seed.as_deref().map(Seed::read).transpose()?.map(Arc::new);
        Ok(())
    }
}

#[derive(Args, Default)]
pub(crate) struct ServeArgs {
    /// Where everything is kept [default: the platform's place for application data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    reach: ReachArgs,
    /// A configuration file [default: twinhub.toml here or in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept: `sqlite://` (in the data directory), `sqlite::memory:` or `postgres://user@host/database`, whose
    /// password belongs into a file that the setting `store_file` names [default: sqlite://]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A file with the key that seals the server's own secrets in a PostgreSQL database: `openssl rand -base64 32` makes one
    #[arg(long, value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,
    /// full: acknowledged means synced; relaxed: for CI [default: full]
    #[arg(long, value_name = "full|relaxed")]
    durability: Option<String>,
    /// How lines of the log are written, text or json; `log` says which [default: text]
    #[arg(long, value_name = "text|json")]
    pub(crate) log_format: Option<String>,
}

/// Where clients find what is served.
#[derive(Args, Clone, Default)]
pub(crate) struct ReachArgs {
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    listen: Option<String>,
    /// The host name or address at which clients reach this server [default: the one that each of them dialled]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The domain below which instances have their host names [default: localhost]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Keep a marked block of the hosts file in sync while serving
    #[arg(long)]
    manage_hosts: bool,
}

impl ServeArgs {
    /// The flags that were given, by the name of their setting.
    pub(crate) fn layer(&self) -> Flags {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let given = [
            ("data_dir", "--data-dir", self.data_dir.as_ref().map(path)),
            ("listen", "--listen", self.reach.listen.clone()),
            ("advertise", "--advertise", self.reach.advertise.clone()),
            ("domain", "--domain", self.reach.domain.clone()),
            ("store", "--store", self.store.clone()),
            ("cluster_key_file", "--cluster-key-file", self.cluster_key_file.as_ref().map(path)),
            ("durability", "--durability", self.durability.clone()),
            ("log_format", "--log-format", self.log_format.clone()),
            ("manage_hosts", "--manage-hosts", self.reach.manage_hosts.then(|| "true".to_owned())),
        ];
        let values = given.into_iter().filter_map(|(name, flag, value)| Some((name, flag, value?))).collect();
        Flags { values, config_file: self.config.clone(), ..Flags::default() }
    }
}

#[derive(Args, Default)]
pub(crate) struct DataDirArgs {
    /// The server's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirArgs {
    pub(crate) fn layer(&self) -> Flags {
        ServeArgs { data_dir: self.data_dir.clone(), ..ServeArgs::default() }.layer()
    }
}
