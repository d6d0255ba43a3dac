//! `twinhub events`: prints what devices send and what changes, as it lies in a hub's event stream. Asks the running server.
//! Events that are lost are told on stderr, and the command fails at its end; stdout holds events alone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use serde_json::Value;

use super::DataDirArgs;
use crate::live::Live;
use crate::{Failure, config};

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

pub(crate) fn run(args: &EventsArgs) -> Result<ExitCode, Failure> {
    let data_dir = config::load(&args.data_dir.layer())?.data_dir;
    let live = Live::of_running(&data_dir)?;
    let path = format!("/_twinhub/events?{}", query(args));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(print(&live, &path, args.json))
}

fn query(args: &EventsArgs) -> String {
    let escaped = |hub| percent_encoding::utf8_percent_encode(hub, percent_encoding::NON_ALPHANUMERIC);
    let hub = args.hub.as_deref().map(|hub| format!("&hub={}", escaped(hub))).unwrap_or_default();
    let from = match args.from {
        Some(From::Earliest) => "&from=earliest",
        Some(From::Latest) => "&from=latest",
        None => "",
    };
    format!("follow={}{hub}{from}", args.follow)
}

async fn print(live: &Live, path: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let mut body = live.follow("GET", path).await?;
    let (mut pending, mut is_whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        pending.extend_from_slice(frame?.data_ref().map_or(&[], |data| &data[..]));
        let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = pending.drain(..=end).collect();
        match write_out(&lines, as_json) {
            Ok(whole) => is_whole &= whole,
            // Whoever read us has seen enough: `twinhub events | head`.
            Err(_) => break,
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the lines tell of nothing that is missing.
fn write_out(lines: &[u8], as_json: bool) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut is_whole = true;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(missing) = missing(&event) {
            is_whole = false;
            out.flush()?;
            eprintln!("twinhub: {missing}");
        } else if as_json {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{}", readable(&event))?;
        }
    }
    out.flush()?;
    Ok(is_whole)
}

/// What a line says that is no event.
fn missing(line: &Value) -> Option<&str> {
    line["lost"]["message"].as_str().or_else(|| line["error"].as_str())
}

/// `2026-01-02T03:04:05.678Z  dev1/mod1  Telemetry  {"t":21.5}  unit=C`
fn readable(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let time =
        text("enqueuedTime").get(..23).map_or_else(|| text("enqueuedTime").to_owned(), |t| format!("{t}Z"));
    let who = match (text("deviceId"), text("moduleId")) {
        ("", _) => "-".to_owned(),
        (device, "") => device.to_owned(),
        (device, module) => format!("{device}/{module}"),
    };
    let source = Some(text("source")).filter(|source| !source.is_empty()).unwrap_or("-");
    let body = match text("bodyEncoding") {
        "base64" => as_text(text("body")).unwrap_or_else(|| format!("base64:{}", text("body"))),
        _ => event["body"].to_string(),
    };
    let properties = event["properties"].as_object().into_iter().flatten();
    let mut line = format!("{time}  {who}  {source}  {body}");
    for (name, value) in properties {
        let _ = write!(line, "  {name}={}", value.as_str().unwrap_or_default());
    }
    line
}

/// A body that is text, on one line and without what a terminal would obey; `None` where it is none.
fn as_text(base64: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    // Bytes below a space are rare in texts and common in numbers: with one that is no white space it is no text.
    let is_text = text.chars().all(|character| !character.is_control() || character.is_whitespace());
    is_text.then(|| text.chars().flat_map(shown).collect())
}

/// A character, or its escape where it would break the line.
fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_people_says_when_who_what() {
        let event = json!({
            "deviceId": "dev1", "moduleId": null, "enqueuedTime": "2026-01-02T03:04:05.6789012Z", "source": "Telemetry",
            "properties": {"unit": "C"}, "body": {"t": 21.5}
        });
        assert_eq!(readable(&event), "2026-01-02T03:04:05.678Z  dev1  Telemetry  {\"t\":21.5}  unit=C");
        let module = json!({"deviceId": "d", "moduleId": "m", "body": "AA==", "bodyEncoding": "base64"});
        assert_eq!(readable(&module), "  d/m  -  base64:AA==");
    }

    #[test]
    fn a_text_is_shown_as_text_on_one_line_and_anything_else_as_base64() {
        assert_eq!(as_text(&STANDARD.encode("21,5 °C")), Some("21,5 °C".into()));
        assert_eq!(as_text(&STANDARD.encode("a=1\r\nb=2\t")), Some("a=1\\r\\nb=2\\t".into()));
        assert_eq!(as_text(""), Some(String::new()));
        for bytes in [&b"\xff\xfe"[..], b"\x1b[2J", b"\x00\x01\x02\x03"] {
            assert_eq!(as_text(&STANDARD.encode(bytes)), None, "{bytes:?}");
        }
    }
}
