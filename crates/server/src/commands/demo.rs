//! `twinhub demo`: serves on a data directory of its own, tells the story of [`server::demo`] to itself over the public wire, and
//! then serves on with what a first visitor needs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::Clock;
use clap::Args;
use server::demo::{self, Report, Target};
use server::out;

use super::{ReachArgs, ServeArgs, StartArgs};
use crate::config::Flags;
use crate::ending::Ending;
use crate::run_file::RunFile;
use crate::{Failure, admin_key, config, data_directory, serve};

#[derive(Args, Clone)]
pub(crate) struct DemoArgs {
    /// Where the demo keeps its data [default: beside the default data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// End after the summary instead of serving on
    #[arg(long)]
    pub(crate) exit: bool,
    /// How lines of the log are written, text or json [default: text]
    #[arg(long, value_name = "text|json")]
    pub(crate) log_format: Option<String>,
    #[command(flatten)]
    pub(crate) start: StartArgs,
}

impl DemoArgs {
    pub(crate) fn layer(&self) -> Flags {
        ServeArgs {
            data_dir: self.data_dir.clone(),
            reach: self.reach.clone(),
            log_format: self.log_format.clone(),
            ..ServeArgs::default()
        }
        .layer()
    }
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let mut args = args.clone();
    if args.data_dir.is_none() {
        // Beside the real one, never in it: a demo must not leave its devices among somebody's own.
        args.data_dir = data_directory::platform_default().map(|path| path.with_file_name("twinhub-demo"));
    }
    let mut config = config::load(&args.layer())?;
    args.start.apply(&mut config)?;
    let data_dir = config.data_dir.clone();
    serve::run_until(&config, async |run: RunFile, ending: &mut Ending| {
        ending.with_terminal();
        serve::announce(&config, &run);
        let told = tokio::select! {
            told = tell(&run, &data_dir, args.exit) => told,
            () = ending.told() => Err("told to end before everything was seen to work".into()),
        };
        match told {
            Err(failure) => {
                eprintln!("\ntwinhub demo: {failure}");
                ExitCode::FAILURE
            }
            Ok(()) if args.exit => ExitCode::SUCCESS,
            Ok(()) => {
                out::line("\nServing on. Ctrl-C ends it; the same data is there at the next start.");
                ending.told().await;
                ExitCode::SUCCESS
            }
        }
    })
}

async fn tell(run: &RunFile, data_dir: &Path, ends: bool) -> Result<(), Failure> {
    let trust_file = run.environment.get("TWINHUB_CA_FILE").map(String::as_str).unwrap_or_default();
    let target = Target {
        variables: run.environment.clone(),
        trust_pem: data_directory::read(Path::new(trust_file))?,
        admin_url: format!("https://{}:{}", run.address, run.https_port),
        admin_key: admin_key::read(data_dir)?.expose().to_owned(),
        mqtt_port: run.mqtt_port,
    };
    let clock = Clock::system();
    out::line("\nThe main job, through the public wire:\n");
    let mut report = Report::new(clock.clone(), std::io::stdout().is_terminal());
    let summary = demo::run(&target, &clock, &mut report).await?;
    out::line(summary.text());
    if ends {
        // Addresses and a sample would be of a server that nobody can reach any more.
        let data_dir = data_dir.display();
        out::line(format_args!("Ended. Its data stays: twinhub serve --data-dir {data_dir}"));
        return Ok(());
    }
    out::line(addresses(run, data_dir));
    out::line(format_args!("One more device, with the official Python SDK:\n\n{}", summary.sample));
    Ok(())
}

/// Where everything is.
fn addresses(run: &RunFile, data_dir: &Path) -> String {
    let rows = [
        ("IoT Hub", "IOTHUB_HOSTNAME"),
        ("Device Provisioning", "PROVISIONING_HOST"),
        ("  id scope", "PROVISIONING_IDSCOPE"),
        ("Digital Twins", "AZURE_DIGITALTWINS_URL"),
        ("Resource Manager and Entra", "AZURE_RESOURCE_MANAGER_ENDPOINT"),
        ("trust this certificate", "TWINHUB_CA_FILE"),
    ];
    let line = |(what, name): (&str, &str)| {
        format!("  {what:<28}{}\n", run.environment.get(name).map_or("", String::as_str))
    };
    let rows: String = rows.into_iter().map(line).collect();
    let data_dir = data_dir.display();
    format!("{rows}  {:<28}eval \"$(twinhub env --data-dir {data_dir})\"\n", "everything a client needs")
}
