//! The command line as clap sees it (`design.md` §2). Flags become the topmost layer of the configuration.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Flags;

/// IoT Hub, Device Provisioning, Digital Twins, Resource Manager and Entra endpoints on your own machine.
#[derive(Parser)]
#[command(name = "twinhub", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run everything in the foreground until SIGTERM or SIGINT.
    Serve(ServeArgs),
    /// Run the main job: devices, provisioning, twins and a graph, seen to work; then keep serving.
    Demo(DemoArgs),
    /// Print what a client needs to reach a running server: eval "$(twinhub env)".
    Env(EnvArgs),
    /// Print device messages and events of a running server.
    Events(EventsArgs),
    /// Look at DTDL models.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Write everything that a running server keeps, its keys too, into one file.
    Backup(BackupArgs),
    /// Make a data directory from a backup.
    Restore(RestoreArgs),
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
}

#[derive(Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Whose events [default: the default hub's]
    #[arg(long, value_name = "NAME")]
    pub(crate) hub: Option<String>,
    /// Where to begin [default: earliest, or latest with --follow]
    #[arg(long, value_enum)]
    pub(crate) from: Option<From>,
    /// Go on with what arrives instead of ending at the present end
    #[arg(long)]
    pub(crate) follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    Earliest,
    Latest,
}

#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Validate models without a server; fails when one has an issue.
    Check(ModelsCheckArgs),
}

#[derive(Args)]
pub(crate) struct ModelsCheckArgs {
    /// JSON files, each with a model or an array of models; they may refer to each other
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// One JSON object per issue
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// A tar file that must not be there yet; it will hold secrets
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// What `twinhub backup` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// An empty directory, or one that is not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum RecordsCommand {
    /// Say whether records.db and its write-ahead log are sound; changes nothing, fails when they are not.
    Check(DataDirArgs),
    /// Make records that open from damaged ones; keeps what was there, says what is lost.
    Repair(DataDirArgs),
}

#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Read every record of the log; changes nothing, names what is damaged and which events are lost, fails when there is any.
    Check(DataDirArgs),
    /// Read events back that recovery cut off, and make damaged openings of segments anew; keeps what was there.
    Repair(DataDirArgs),
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its value and where it came from.
    Check(ServeArgs),
}

#[derive(Args, Default)]
pub(crate) struct ServeArgs {
    /// Where everything is kept [default: the platform's place for application data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    listen: Option<String>,
    /// The host name or address at which clients reach this server [default: the one that each of them dialled]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The domain below which instances have their host names [default: localhost]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// A configuration file [default: twinhub.toml here or in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where records are kept: `sqlite://` (in the data directory) or `sqlite::memory:` [default: sqlite://]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// full: acknowledged means synced; relaxed: for CI [default: full]
    #[arg(long, value_name = "full|relaxed")]
    durability: Option<String>,
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
            ("listen", "--listen", self.listen.clone()),
            ("advertise", "--advertise", self.advertise.clone()),
            ("domain", "--domain", self.domain.clone()),
            ("store", "--store", self.store.clone()),
            ("durability", "--durability", self.durability.clone()),
            ("manage_hosts", "--manage-hosts", self.manage_hosts.then(|| "true".to_owned())),
        ];
        let values = given.into_iter().filter_map(|(name, flag, value)| Some((name, flag, value?))).collect();
        Flags { values, config_file: self.config.clone() }
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

#[derive(Args, Clone)]
pub(crate) struct DemoArgs {
    /// Where the demo keeps its data [default: beside the default data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// End after the summary instead of serving on
    #[arg(long)]
    pub(crate) exit: bool,
}

impl DemoArgs {
    pub(crate) fn layer(&self) -> Flags {
        ServeArgs { data_dir: self.data_dir.clone(), ..ServeArgs::default() }.layer()
    }
}

#[derive(Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    #[arg(long, value_enum, default_value = "shell")]
    pub(crate) format: Format,
}

/// How `twinhub env` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// export NAME='value' for POSIX shells
    Shell,
    /// NAME="value" lines
    Dotenv,
    /// One object of strings
    Json,
    /// The commands that point the Azure CLI at the server
    Az,
}
