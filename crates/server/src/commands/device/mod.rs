//! `twinhub device`: devices and modules of a running server's hub, made, shown, used and removed through the public API, as any
//! back end could. The arguments are here; what is asked of the registry is in `registry`, of a live device in `live`, what a
//! device itself says in `telemetry`.

mod fault;
mod hub;
mod identity;
mod live;
mod messages;
mod next;
mod registry;
mod table;
mod telemetry;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::caps;
use clap::{Args, Subcommand, ValueEnum};

use hub::Hub;
use identity::Identity;

use super::ServeArgs;
use crate::{Failure, config};

#[derive(Args)]
pub(crate) struct DeviceArgs {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    command: DeviceCommand,
}

/// Where to ask, and how to print.
#[derive(Args, Clone, Default)]
pub(crate) struct At {
    /// The server's data directory
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Whose devices [default: the default hub's]
    #[arg(long, value_name = "NAME", global = true)]
    hub: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

impl At {
    fn place(&self) -> Result<PathBuf, Failure> {
        let args = ServeArgs { data_dir: self.data_dir.clone(), ..ServeArgs::default() };
        Ok(config::load(&args.layer())?.data_dir)
    }
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// Make a device or a module and print what its next step needs.
    Create(CreateArgs),
    /// List the devices, or the modules of one.
    List(ListArgs),
    /// Show what the registry knows of a device or a module.
    Show(NameArgs),
    /// Remove a device with its modules, or one module.
    Delete(NameArgs),
    /// Print the keys and their connection strings.
    Keys(KeysArgs),
    /// Print a shared access signature for the device, and nothing else.
    Sas(SasArgs),
    /// Send messages as the device, over MQTT, or to it; done when each is acknowledged.
    Send(SendArgs),
    /// Call a direct method of a connected device.
    Invoke(InvokeArgs),
    /// Show the device twin, or set its desired properties or tags.
    Twin(TwinArgs),
}

#[derive(Args)]
struct NameArgs {
    /// The device
    name: String,
    /// A module of it
    #[arg(long, value_name = "NAME")]
    module: Option<String>,
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    who: NameArgs,
    /// Mark it as an IoT Edge device
    #[arg(long, conflicts_with = "module")]
    edge: bool,
    /// Let it prove itself by the certificate with this thumbprint (SHA-1 or SHA-256, in hex) and by no key; a second one counts as much
    #[arg(long, value_name = "HEX")]
    thumbprint: Vec<String>,
}

#[derive(Args)]
struct ListArgs {
    /// The device whose modules to list
    name: Option<String>,
}

#[derive(Args)]
struct KeysArgs {
    #[command(flatten)]
    who: NameArgs,
    /// Make one of them anew; who uses the old one is refused from then on
    #[arg(long, value_enum)]
    regenerate: Option<KeyName>,
}

#[derive(Args)]
struct SasArgs {
    #[command(flatten)]
    who: NameArgs,
    /// How long it holds
    #[arg(long, value_name = "SECONDS", default_value_t = caps::CLIENT_SAS_SECONDS,
          value_parser = clap::value_parser!(u64).range(1..=caps::CLIENT_SAS_SECONDS_MAX))]
    ttl: u64,
}

#[derive(Args)]
struct SendArgs {
    #[command(flatten)]
    who: NameArgs,
    /// What to send; - reads standard input [default: {"number": 1}, then 2 and so on]
    #[arg(long, value_name = "TEXT|-", allow_hyphen_values = true)]
    body: Option<String>,
    /// An application property; may be given more than once
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = telemetry::property)]
    properties: Vec<(String, String)>,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// [default: application/json where the body is JSON, else none]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Send to the device instead: the messages wait until it takes them
    #[arg(long, conflicts_with = "module")]
    to_device: bool,
    /// Which ends of a message to the device are told: none, positive, negative or full
    #[arg(long, value_name = "WHICH", requires = "to_device", value_parser = ["none", "positive", "negative", "full"])]
    ack: Option<String>,
}

#[derive(Args)]
struct InvokeArgs {
    #[command(flatten)]
    who: NameArgs,
    /// The method's name
    method: String,
    /// JSON for the method [default: none]
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    payload: Option<String>,
    /// How long the device may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = caps::METHOD_RESPONSE_SECONDS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(caps::METHOD_RESPONSE_SECONDS))]
    timeout: u64,
    /// How long to wait for the device to connect
    #[arg(long, value_name = "SECONDS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=caps::METHOD_CONNECT_SECONDS_MAX))]
    connect_timeout: u64,
}

#[derive(Args)]
struct TwinArgs {
    /// The device
    name: String,
    /// A module of it
    #[arg(long, value_name = "NAME", global = true)]
    module: Option<String>,
    #[command(subcommand)]
    change: Option<TwinChange>,
}

#[derive(Subcommand)]
enum TwinChange {
    /// Set desired properties and print the new twin.
    Set(SetArgs),
}

#[derive(Args)]
struct SetArgs {
    /// One JSON object, or KEY=VALUE pairs: dots lead into objects, a VALUE that is no JSON is text, null removes
    #[arg(required = true, value_name = "JSON|KEY=VALUE")]
    values: Vec<String>,
    /// Set tags, which the device does not see, instead of desired properties
    #[arg(long)]
    tags: bool,
}

/// The two keys of an identity, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyName {
    Primary,
    Secondary,
}

pub(crate) fn run(args: &DeviceArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let at = &args.at;
        match &args.command {
            DeviceCommand::Create(args) => registry::create(at, args).await,
            DeviceCommand::List(args) => registry::list(at, args).await,
            DeviceCommand::Show(args) => registry::show(at, args).await,
            DeviceCommand::Delete(args) => registry::delete(at, args).await,
            DeviceCommand::Keys(args) => registry::keys(at, args).await,
            DeviceCommand::Sas(args) => registry::sas(at, args).await,
            DeviceCommand::Send(args) if args.to_device => messages::send(at, args).await,
            DeviceCommand::Send(args) => telemetry::send(at, args).await,
            DeviceCommand::Invoke(args) => live::invoke(at, args).await,
            DeviceCommand::Twin(args) => live::twin(at, args).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The primary key of a device of the default hub, and its connection string.
pub(crate) async fn credentials(data_dir: &Path, name: &str) -> Result<(String, String), Failure> {
    let hub = Hub::find(&At { data_dir: Some(data_dir.to_owned()), ..At::default() }).await?;
    let identity = Identity::find(&hub, name, None).await?;
    let key = identity.key(KeyName::Primary)?;
    Ok((key.text().to_owned(), identity.connection_string(&hub, KeyName::Primary)?))
}
