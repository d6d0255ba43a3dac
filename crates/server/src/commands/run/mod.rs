//! `twinhub run -- COMMAND…`: a server for one command. It starts on an address of its own, the command finds it in its environment,
//! and when the command has ended, so has the server, and nothing of the two is left.

mod command;
mod directory;
#[cfg(unix)]
pub(crate) mod guard;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::command::Command;
use self::directory::Directory;
use super::{ServeArgs, StartArgs};
use crate::config::{Config, Flags, Purpose};
use crate::{Failure, config, serve};

/// As `docker run`, `env` and `timeout` have it: the command was not run, because of us.
const NOT_STARTED: u8 = 125;

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Keep the data, and say where it is
    #[arg(long)]
    keep: bool,
    /// Serve this data, and keep it [default: new data that is removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on [default: a loopback address of its own, where the system has such]
    #[arg(long, value_name = "IP")]
    listen: Option<String>,
    /// The command and what it is given
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl RunArgs {
    /// What a throw-away server is, whatever is configured for others; and what it says unless told to say more.
    fn layer(&self, directory: &Directory) -> Flags {
        const BY: &str = "twinhub run";
        let in_memory = "sqlite::memory:".to_owned();
        let records = if directory.is_kept() { "sqlite://".to_owned() } else { in_memory };
        let listen = self.listen.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        let values = vec![
            ("data_dir", BY, directory.path().to_string_lossy().into_owned()),
            ("listen", "--listen", listen),
            ("advertise", BY, String::new()),
            ("store", BY, records),
            ("cluster_key_file", BY, String::new()),
            ("durability", BY, "relaxed".to_owned()),
            ("manage_hosts", BY, "false".to_owned()),
        ];
        Flags { values, defaults: vec![("log", "warn")], ..ServeArgs::default().layer() }
    }

    fn config(&self, directory: &Directory) -> Result<Config, Failure> {
        let mut config = config::load(&self.layer(directory))?;
        self.start.apply(&mut config)?;
        config.purpose = Purpose::OneCommand { any_address: self.listen.is_none() };
        Ok(config)
    }
}

pub(crate) fn run(args: &RunArgs) -> ExitCode {
    directory::remove_abandoned();
    match serve_one(args) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("twinhub run: {failure}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn serve_one(args: &RunArgs) -> Result<ExitCode, Failure> {
    let directory = Directory::open(args.data_dir.as_deref(), args.keep)?;
    let config = args.config(&directory)?;
    let code = serve::run_until(&config, async |run, ending| {
        let mut variables = run.environment;
        // So that our own commands, run by the command, find this server.
        variables.insert("TWINHUB_DATA_DIR".to_owned(), directory.path().to_string_lossy().into_owned());
        let command = Command { line: &args.command, variables: &variables, data: directory.removed() };
        ExitCode::from(command.run(ending).await)
    })?;
    directory.close();
    Ok(code)
}
