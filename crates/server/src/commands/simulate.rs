//! `twinhub simulate`: a fleet against a running server, through the public wire: see [`server::fleet`]. Progress goes to stderr,
//! the summary to stdout.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use base::{Clock, caps};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use server::client::{Https, Trust};
use server::fleet::{DeviceModel, Group, Outcome, Plan, Provisioning, Simulation, Site, readable};
use server::out;

use super::DataDirArgs;
use crate::ending::Ending;
use crate::run_file::RunFile;
use crate::{Failure, config, data_directory, open_files};

/// Files of this process beside the devices' connections.
const OTHER_FILES: u64 = 64;
/// How often it is looked at; a line for people comes each second on a terminal.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Where lines stay, as in a log of CI.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = "\
Devices register through provisioning with keys derived from their group's, connect over MQTT with TLS, send telemetry, report
properties, take desired ones and answer direct methods. Ctrl-C ends it with the summary. What it made stays: name its group with
--group to have the same devices again.

With --model each message holds the Telemetry of the interface or of one of its components, all of it and one element in turn;
properties and commands follow IoT Plug and Play. Without, messages hold temperature and humidity, and every method is answered.

It succeeds when every device came up and the server was there to the end.")]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// How many devices
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=caps::SIMULATED_DEVICES_MAX as u64)
    )]
    pub(crate) devices: usize,
    /// How long to send, from when every device has come up [default: until Ctrl-C]
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<u64>,
    /// Messages per second of each device; 0.1 is one in ten seconds
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// A JSON file with the DTDL model of the devices, and those that it extends or has as components
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Which interface of the file [default: the first that is not part of another]
    #[arg(long, value_name = "DTMI", requires = "model")]
    pub(crate) model_id: Option<String>,
    /// An enrollment group with symmetric keys that is there [default: a new one, simulated-…]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// How long to try again once the server has gone
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) patience: u64,
    /// Begins chance here, so that devices send the same values again [default: by chance]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed_number: Option<u64>,
    /// The summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is expected".to_owned())?;
    if rate.is_finite() && (0.001..=1000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("from 0.001 (one message in 1000 seconds) to 1000".to_owned())
    }
}

pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let model = read_model(args)?;
    let run = RunFile::of_running(&config::load(&args.data_dir.layer())?.data_dir)?;
    make_room(args.devices)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(simulate(args, model, &run))
}

fn read_model(args: &SimulateArgs) -> Result<DeviceModel, Failure> {
    let Some(path) = &args.model else { return Ok(DeviceModel::plain()) };
    let shown = path.display();
    let text = data_directory::read(path)?;
    let model = DeviceModel::read(&text, args.model_id.as_deref())
        .map_err(|error| format!("{shown}: {error}\n(twinhub models check {shown} tells more)"))?;
    if !model.others().is_empty() && args.model_id.is_none() {
        let others = model.others().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        eprintln!("{shown} holds other interfaces too, which --model-id chooses: {others}");
    }
    Ok(model)
}

/// Every device is an open file here.
fn make_room(devices: usize) -> Result<(), Failure> {
    let wanted = u64::try_from(devices)? + OTHER_FILES;
    match open_files::raise_limit() {
        Some(limit) if limit < wanted => Err(format!(
            "{devices} devices need {wanted} open files, and the system allows this process {limit}: \
             allow more with ulimit -n {wanted} (as root, or LimitNOFILE= of a service), or take fewer devices. \
             The server needs as many."
        )
        .into()),
        _ => Ok(()),
    }
}

async fn simulate(args: &SimulateArgs, model: DeviceModel, run: &RunFile) -> Result<ExitCode, Failure> {
    let mut ending = Ending::listen()?;
    ending.with_terminal();
    let clock = Clock::system();
    let trust_file = run.environment.get("TWINHUB_CA_FILE").map(PathBuf::from).unwrap_or_default();
    let trust = Trust::only(&data_directory::read(&trust_file)?)?;
    let provisioning = Provisioning::new(&run.environment, Https::new(trust.clone()), clock.clone())?;
    let group = tokio::select! {
        group = group(args, &provisioning) => group?,
        () = ending.told() => return Ok(ExitCode::SUCCESS),
    };
    let seed = args.seed_number.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    begin(args, &group, &model, seed);
    let plan = Plan {
        site: Site { trust, mqtt_port: run.mqtt_port, clock },
        group,
        model,
        devices: args.devices,
        every: Duration::from_secs_f64(1.0 / args.rate),
        duration: args.seconds.map(Duration::from_secs),
        patience: Duration::from_secs(args.patience),
        seed,
    };
    let mut simulation = Simulation::start(plan);
    let mut lines = Lines::new(args.devices);
    let outcome = watch(&mut simulation, &mut ending, &mut lines).await;
    lines.clear();
    let is_whole = simulation.is_whole() || outcome == Outcome::Told;
    tokio::select! {
        () = simulation.stop() => {}
        () = ending.told() => eprintln!("told twice: not waiting any longer"),
    }
    finish(args, &simulation, outcome, seed);
    let is_good = is_whole && matches!(outcome, Outcome::Done | Outcome::Told);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn group(args: &SimulateArgs, provisioning: &Provisioning) -> Result<Group, Failure> {
    if let Some(name) = &args.group {
        return Ok(provisioning.find_group(name).await?);
    }
    let id = format!("simulated-{}", base::secret::random_hex(3));
    Ok(provisioning.make_group(&id, &json!({})).await?)
}

fn begin(args: &SimulateArgs, group: &Group, model: &DeviceModel, seed: u64) {
    let of = model.id().map(|id| format!(" of {id}")).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "devices are few")]
    let all = args.devices as f64 * args.rate;
    eprintln!(
        "{} devices{of} in enrollment group {}, {} messages a second each, {all} in all; seed number {seed}",
        args.devices, group.id, args.rate
    );
}

/// Until it is time to end.
async fn watch(simulation: &mut Simulation, ending: &mut Ending, lines: &mut Lines) -> Outcome {
    let mut since_line = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = ending.told() => return Outcome::Told,
        }
        if let Some(outcome) = simulation.look() {
            return outcome;
        }
        lines.tell_of_absence(simulation);
        since_line += LOOK_EVERY;
        if since_line >= lines.every() {
            lines.progress(simulation, since_line);
            since_line = Duration::ZERO;
        }
    }
}

/// What is told meanwhile: one line that is written over on a terminal, else lines that stay, and fewer.
struct Lines {
    is_terminal: bool,
    devices: usize,
    sent: u64,
    is_gone: bool,
}

impl Lines {
    fn new(devices: usize) -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), devices, sent: 0, is_gone: false }
    }

    fn every(&self) -> Duration {
        if self.is_terminal { LINE_EVERY } else { PLAIN_LINE_EVERY }
    }

    fn progress(&mut self, simulation: &Simulation, since: Duration) {
        let now = simulation.tally().progress();
        #[expect(clippy::cast_precision_loss, reason = "messages of a few seconds")]
        let rate = (now.sent - self.sent) as f64 / since.as_secs_f64();
        self.sent = now.sent;
        let mut told = vec![
            format!("{:>5.0} s", simulation.ran_for().as_secs_f64()),
            format!("{} of {} connected", now.connected, self.devices),
            format!("{rate:.0} sent/s"),
        ];
        if now.registered < u64::try_from(self.devices).unwrap_or(u64::MAX) {
            told.push(format!("{} registered", now.registered));
        }
        if now.acknowledged > 0 {
            told.push(format!("p50 {}  p99 {}", readable(now.median), readable(now.p99)));
        }
        if now.errors > 0 {
            told.push(format!("{} errors", now.errors));
        }
        let line = told.join("  ");
        if self.is_terminal {
            eprint!("\r\x1b[2K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Once when the server goes, and once when it is back.
    fn tell_of_absence(&mut self, simulation: &Simulation) {
        let is_gone = simulation.gone_for().is_some();
        if is_gone == self.is_gone {
            return;
        }
        self.is_gone = is_gone;
        self.clear();
        eprintln!(
            "{}",
            if is_gone { "the server has gone; devices try again" } else { "the server is back" }
        );
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
    }
}

fn finish(args: &SimulateArgs, simulation: &Simulation, outcome: Outcome, seed: u64) {
    match outcome {
        Outcome::ServerGone => {
            eprintln!("twinhub: the server has gone and did not come back within {} s", args.patience);
        }
        Outcome::NobodyLeft => eprintln!("twinhub: no device could register; the errors below say why"),
        Outcome::Done | Outcome::Told => {}
    }
    let seconds = simulation.ran_for().as_secs_f64();
    if args.json {
        let mut summary = simulation.tally().json(seconds);
        summary["seedNumber"] = json!(seed);
        out::line(summary);
    } else {
        out::write(simulation.tally().text(seconds));
    }
}
