//! `twinhub doctor`: looks for what would stop a client on this machine, with a server or without one, and says what to do about it.
//! Every check has its deadline, and what takes longer is told as not known.

mod address;
mod machine;
mod names;
mod ports;
mod tool;
mod trust;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use base::Clock;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use server::out;

use super::ServeArgs;
use crate::config::Config;
use crate::run_file::RunFile;
use crate::{Failure, config};

/// A check that takes longer is told as not known. They run side by side.
const CHECK: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What is looked at.
struct Patient {
    config: Config,
    /// `None`: no server runs on the data directory.
    run: Option<RunFile>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Level {
    Ok,
    /// Works, or stops some clients only, in a way that is known and documented.
    Note,
    /// Would stop a client.
    Problem,
    /// Could not be looked at.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), remedy: None }
    }

    fn note(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Note, remedy: Some(remedy.into()), ..Self::ok(check, message) }
    }

    fn problem(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Problem, remedy: Some(remedy.into()), ..Self::ok(check, message) }
    }

    fn unknown(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Unknown, ..Self::ok(check, message) }
    }
}

type Check = fn(&Patient) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("data", machine::data_directory),
    ("ports", ports::check),
    ("names", names::check),
    ("address", address::check),
    ("clock", machine::clock),
    ("files", machine::files),
    ("disk", machine::disk),
    ("proxy", trust::proxy),
    ("trust", trust::curl),
    ("trust", trust::openssl),
    ("trust", trust::python),
    ("trust", trust::requests),
    ("trust", trust::node),
    ("trust", trust::java),
    ("trust", trust::by_file),
];

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let config = config::load(&args.serve.layer())?;
    let run = RunFile::of_running(&config.data_dir).ok();
    let patient = Arc::new(Patient { config, run, clock: Clock::system() });
    let findings = findings(&patient);
    let is_well = findings.iter().all(|finding| finding.level != Level::Problem);
    if args.json {
        let all = json!({
            "healthy": is_well,
            "serverRuns": patient.run.is_some(),
            "dataDirectory": patient.config.data_dir,
            "findings": findings,
        });
        out::line(serde_json::to_string_pretty(&all)?);
    } else {
        out::write(text(&patient, &findings));
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(patient: &Arc<Patient>) -> Vec<Finding> {
    let begun = patient.clock.elapsed();
    let running: Vec<_> = CHECKS.iter().map(|(name, check)| (*name, start(patient, *check))).collect();
    let mut all = Vec::new();
    for (name, answer) in running {
        let left = CHECK.saturating_sub(patient.clock.elapsed().since(begun));
        match answer.recv_timeout(left.max(Duration::from_millis(1))) {
            Ok(findings) => all.extend(findings),
            Err(_) => all.push(Finding::unknown(
                name,
                format!("it could not be looked at within {} s", CHECK.as_secs()),
            )),
        }
    }
    all
}

/// On a thread of its own, which the end of the process ends too.
fn start(patient: &Arc<Patient>, check: Check) -> Receiver<Vec<Finding>> {
    let (done, answer) = sync_channel(1);
    let patient = patient.clone();
    std::thread::spawn(move || drop(done.send(check(&patient))));
    answer
}

fn text(patient: &Patient, findings: &[Finding]) -> String {
    let data_dir = patient.config.data_dir.display();
    let mut out = match &patient.run {
        Some(run) => format!("A server runs on {data_dir}, process {}.\n", run.process_id),
        None => format!(
            "No server runs on {data_dir}: what only a running one shows is left out. Start it with twinhub serve --data-dir {data_dir}\n"
        ),
    };
    for Finding { check, level, message, remedy } in findings {
        let mark = match level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "PROBLEM",
            Level::Unknown => "unknown",
        };
        let _ = writeln!(out, "{mark:<8} {check:<8} {message}");
        if let Some(remedy) = remedy {
            let _ = writeln!(out, "{:18}-> {remedy}", "");
        }
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    let _ = match problems {
        0 => writeln!(out, "Nothing would stop a client."),
        1 => writeln!(out, "1 problem would stop a client."),
        count => writeln!(out, "{count} problems would stop a client."),
    };
    out
}
