//! The ways to write variables, each for one reader whose quoting it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::{NAMES, sample};
use crate::Failure;
use crate::commands::env::Format;

type Variables = BTreeMap<String, String>;

/// What only the recipe for `az` needs.
pub(crate) struct Recipe<'a> {
    pub(crate) tenant_id: &'a str,
    /// Where `az` keeps what it learns of this server, and nothing else.
    pub(crate) config_dir: &'a Path,
}

pub(crate) fn write(variables: &Variables, format: Format, recipe: &Recipe<'_>) -> Result<String, Failure> {
    Ok(match format {
        Format::Shell => lines(variables, |name, value| format!("export {name}={}", shell_quoted(value))),
        Format::Fish => lines(variables, |name, value| format!("set -gx {name} {}", fish_quoted(value))),
        Format::Powershell => {
            lines(variables, |name, value| format!("$env:{name} = {}", powershell_quoted(value)))
        }
        Format::Dotenv => lines(variables, |name, value| format!("{name}={}", dotenv_quoted(value))),
        Format::Docker => docker(variables)?,
        Format::Github => lines(variables, github),
        Format::Json => {
            format!("{}\n", serde_json::to_string_pretty(variables).expect("strings are plain data"))
        }
        Format::Az => az(variables, recipe),
        Format::Unset => unset(),
    })
}

fn lines(variables: &Variables, line: impl Fn(&str, &str) -> String) -> String {
    variables.iter().map(|(name, value)| line(name, value) + "\n").collect()
}

/// Forgets all that any of these formats may have set, for POSIX shells. What the shell had before is not known.
pub(crate) fn unset() -> String {
    let (device, registration) = (sample::for_device("", "", ""), sample::for_registration("", ""));
    let others = device.iter().chain(&registration).map(|(name, _)| *name);
    let names: BTreeSet<&str> = NAMES.iter().copied().chain(others).collect();
    format!("unset {}\n", names.into_iter().collect::<Vec<_>>().join(" "))
}

/// Single quotes keep everything but themselves.
fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// [`shell_quoted`] where that is needed: plain ids and paths read better without.
pub(crate) fn shell_word(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@%+,".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) { value.to_owned() } else { shell_quoted(value) }
}

/// In fish's single quotes a backslash escapes itself and the quote.
fn fish_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// PowerShell takes the typographic single quotes for the plain one; each is doubled.
fn powershell_quoted(value: &str) -> String {
    let mut quoted = String::from("'");
    for letter in value.chars() {
        quoted.push(letter);
        if matches!(letter, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            quoted.push(letter);
        }
    }
    quoted.push('\'');
    quoted
}

/// Double quotes, in which dotenv readers know these escapes; `$` would be expanded by some.
fn dotenv_quoted(value: &str) -> String {
    if value.contains(['$', '`']) && !value.contains('\'') {
        return format!("'{value}'");
    }
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// `docker run --env-file` takes a line as it is: it knows no quotes, no escapes and no second line.
fn docker(variables: &Variables) -> Result<String, Failure> {
    if let Some((name, _)) = variables.iter().find(|(_, value)| value.contains(['\n', '\r'])) {
        return Err(format!("{name} has more than one line, which a file for docker cannot hold").into());
    }
    Ok(lines(variables, |name, value| format!("{name}={value}")))
}

/// What a step appends to `$GITHUB_ENV`. Several lines stand between delimiters that are no line of theirs.
fn github(name: &str, value: &str) -> String {
    if !value.contains(['\n', '\r']) {
        return format!("{name}={value}");
    }
    let mut delimiter = "END".to_owned();
    while value.lines().any(|line| line == delimiter) {
        delimiter.push('_');
    }
    format!("{name}<<{delimiter}\n{value}\n{delimiter}")
}

/// Commands for the runner of GitHub Actions, which reads them from standard error too, prints none of them, and from then on
/// stars out what they name in every log of the job.
pub(crate) fn masks(variables: &Variables) -> String {
    let is_secret = |name: &str| {
        let endings = ["SECRET", "_KEY", "CONNECTION_STRING", "_CONN_STR", "_CONN_STRING"];
        endings.iter().any(|ending| name.ends_with(ending))
    };
    let mut secrets = BTreeSet::new();
    for (_, value) in variables.iter().filter(|(name, _)| is_secret(name)) {
        // The key by itself too, which a client may log without the rest.
        let names = ["SharedAccessKey=", "AccountKey="];
        let keys =
            value.split(';').filter_map(|field| names.iter().find_map(|name| field.strip_prefix(name)));
        secrets.extend(keys.chain([value.as_str()]).filter(|secret| !secret.is_empty()));
    }
    let escaped = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    secrets.into_iter().fold(String::new(), |mut out, secret| {
        let _ = writeln!(out, "::add-mask::{}", escaped(secret));
        out
    })
}

/// Commands for a shell with the Azure CLI (`arm-and-auth.md` §5.3), in a configuration of its own but with the user's extensions.
/// The authority ends in `adfs`, for which the CLI asks no host of Microsoft's whether ours may be trusted, so that nothing need be
/// remembered in later shells but the trust. A cloud that an earlier server registered is pointed at this one. The name is not
/// `AzureCloud`, which belongs to the CLI.
fn az(variables: &Variables, recipe: &Recipe<'_>) -> String {
    let value = |name: &str| shell_quoted(variables.get(name).map_or("", String::as_str));
    let tenant = shell_quoted(recipe.tenant_id);
    let base_url = variables.get("AZURE_AUTHORITY_HOST").map_or("", String::as_str);
    let authority = shell_quoted(&format!("{base_url}/adfs"));
    format!(
        "# az keeps to a configuration of its own here: logins and settings of yours stay as they are. To leave, end this shell or:\n\
         #   unset AZURE_CONFIG_DIR AZURE_EXTENSION_DIR ARM_CLOUD_METADATA_URL REQUESTS_CA_BUNDLE SSL_CERT_FILE\n\
         # and to forget the login too: rm -r {config_dir}\n\
         export AZURE_EXTENSION_DIR=\"${{AZURE_EXTENSION_DIR:-${{AZURE_CONFIG_DIR:-$HOME/.azure}}/cliextensions}}\"\n\
         export AZURE_CONFIG_DIR={config_dir}\n\
         export REQUESTS_CA_BUNDLE={bundle}\n\
         export SSL_CERT_FILE={bundle}\n\
         export AZURE_CORE_COLLECT_TELEMETRY=false\n\
         if az cloud show --name twinhub >/dev/null 2>&1; then twinhub_verb=update; else twinhub_verb=register; fi\n\
         az cloud \"$twinhub_verb\" --name twinhub --endpoint-resource-manager {endpoint} --endpoint-active-directory {authority}\n\
         az cloud set --name twinhub\n\
         az login --service-principal --username {client} --password {secret} --tenant {tenant}\n\
         az account set --subscription {subscription}\n",
        config_dir = shell_quoted(&recipe.config_dir.to_string_lossy()),
        bundle = value("REQUESTS_CA_BUNDLE"),
        endpoint = value("AZURE_RESOURCE_MANAGER_ENDPOINT"),
        client = value("AZURE_CLIENT_ID"),
        secret = value("AZURE_CLIENT_SECRET"),
        subscription = value("AZURE_SUBSCRIPTION_ID"),
    )
}
