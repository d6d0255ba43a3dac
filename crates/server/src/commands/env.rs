//! `twinhub env`: prints what clients need, as the running server last wrote it down; and what one device needs, as its hub or its
//! enrollment tells.

use std::path::Path;
use std::process::ExitCode;

use base::{Clock, ConnectionString, Key};
use clap::{Args, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use server::client::{ClientError, Https, ServiceApi, Trust, Variables, variable};
use server::out;

use super::DataDirArgs;
use super::device;
use crate::environment::{self, Recipe};
use crate::run_file::RunFile;
use crate::{Failure, config};

const PROVISIONING_VERSION: &str = "2021-10-01";

#[derive(Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    #[arg(long, value_enum, default_value = "shell")]
    pub(crate) format: Format,
    /// Add what this device of the default hub needs
    #[arg(long, value_name = "NAME", conflicts_with = "registration")]
    device: Option<String>,
    /// Add what a device with this registration id needs to register through provisioning
    #[arg(long, value_name = "ID")]
    registration: Option<String>,
    /// The enrollment group of the registration [default: it has an enrollment of its own]
    #[arg(long, value_name = "GROUP", requires = "registration")]
    group: Option<String>,
}

/// How `twinhub env` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// export NAME='value' for POSIX shells: eval "$(twinhub env)"
    Shell,
    /// twinhub env --format fish | source
    Fish,
    /// twinhub env --format powershell | Out-String | Invoke-Expression
    Powershell,
    /// NAME="value" lines
    Dotenv,
    /// NAME=value lines without quotes, for docker run --env-file
    Docker,
    /// Lines for the file `$GITHUB_ENV`; a job of GitHub Actions is told to mask the secrets in its logs
    Github,
    /// One object of strings
    Json,
    /// The commands that point the Azure CLI at the server, in a configuration directory of its own
    Az,
    /// Forget all of them in a POSIX shell; asks no server
    Unset,
}

pub(crate) fn run(args: &EnvArgs) -> Result<ExitCode, Failure> {
    if args.format == Format::Unset {
        out::write(environment::unset());
        return Ok(ExitCode::SUCCESS);
    }
    let data_dir = config::load(&args.data_dir.layer())?.data_dir;
    let run = RunFile::of_running(&data_dir)?;
    let mut variables = run.environment;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let more = runtime.block_on(more(args, &data_dir, &variables))?;
    variables.extend(more);
    if args.format == Format::Github && std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
        eprint!("{}", environment::masks(&variables));
    }
    let config_dir = std::path::absolute(data_dir.join("az"))?;
    let recipe = Recipe { tenant_id: &run.tenant_id, config_dir: &config_dir };
    out::write(environment::write(&variables, args.format, &recipe)?);
    Ok(ExitCode::SUCCESS)
}

/// Of the device that was asked for.
async fn more(
    args: &EnvArgs,
    data_dir: &Path,
    variables: &Variables,
) -> Result<Vec<(String, String)>, Failure> {
    let named = |all: &[(&str, String)]| {
        all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>()
    };
    if let Some(name) = &args.device {
        let (key, connection_string) = device::credentials(data_dir, name).await?;
        return Ok(named(&environment::for_device(name, &key, &connection_string)));
    }
    if let Some(id) = &args.registration {
        let key = registration_key(variables, id, args.group.as_deref()).await?;
        return Ok(named(&environment::for_registration(id, key.text())));
    }
    Ok(Vec::new())
}

/// The key with which `id` registers: that of its enrollment, or derived from its group's.
async fn registration_key(variables: &Variables, id: &str, group: Option<&str>) -> Result<Key, Failure> {
    let trust = Trust::only(&std::fs::read_to_string(variable(variables, "TWINHUB_CA_FILE")?)?)?;
    let connection = ConnectionString::new(variable(variables, "PROVISIONING_CONNECTION_STRING")?);
    let service = ServiceApi::new(&connection, Https::new(trust), Clock::system())?;
    let (collection, name) = group.map_or(("enrollments", id), |group| ("enrollmentGroups", group));
    let escaped = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let path = format!("/{collection}/{escaped}/attestationmechanism?api-version={PROVISIONING_VERSION}");
    let attestation = match service.call("POST", &path, &[], &Value::Null).await {
        Ok(attestation) => attestation,
        Err(ClientError::Service(refusal)) if refusal.status == 404 => {
            return Err(not_enrolled(&service, id, group).await);
        }
        Err(error) => return Err(error.into()),
    };
    let key = attestation["symmetricKey"]["primaryKey"].as_str().and_then(|key| key.parse::<Key>().ok());
    let kind = attestation["type"].as_str().unwrap_or_default();
    let key = key.ok_or_else(|| {
        format!("{name} attests by {kind}, and only symmetric keys can register with this server yet")
    })?;
    Ok(if group.is_some() { key.derive(id) } else { key })
}

async fn not_enrolled(service: &ServiceApi, id: &str, group: Option<&str>) -> Failure {
    let groups = format!("/enrollmentGroups/query?api-version={PROVISIONING_VERSION}");
    let groups =
        service.call("POST", &groups, &[], &json!({"query": "SELECT * FROM enrollmentGroups"})).await;
    let groups = groups.unwrap_or_default();
    let names =
        groups.as_array().into_iter().flatten().filter_map(|group| group["enrollmentGroupId"].as_str());
    let names: Vec<&str> = names.take(base::caps::CLIENT_NAMES_SHOWN_MAX).collect();
    let there = if names.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there is {}", names.join(", "))
    };
    match group {
        Some(group) => format!("there is no enrollment group {group}: {there}"),
        None => format!("{id} has no enrollment of its own: name the enrollment group whose key it registers with by --group ({there})"),
    }
    .into()
}
