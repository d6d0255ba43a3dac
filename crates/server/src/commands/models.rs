//! `twinhub models check`: what an upload of the models would be told, without a server. All files are one set of models, so that
//! they may refer to each other; every issue is told with its file, line and column.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use digital_twins::model_issues;
use dtdl::{INVALID_JSON, Issue};
use serde_json::json;
use server::out;

use crate::Failure;

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

/// A file's share of the text that is checked.
struct Part {
    path: PathBuf,
    /// Lines of the text before this file's first.
    lines_before: u32,
    lines: u32,
}

/// Prints one line per issue. Fails when there is one.
pub(crate) fn check(args: &ModelsCheckArgs) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push((path.clone(), text.trim_start_matches('\u{feff}').to_owned()));
    }
    let issues = issues(&files);
    for (path, issue) in &issues {
        if args.json {
            out::line(as_json(path, issue));
        } else {
            out::line(format_args!("{}:{issue}", path.display()));
        }
    }
    if issues.is_empty() {
        eprintln!("{} {} valid", files.len(), if files.len() == 1 { "file is" } else { "files are" });
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn as_json(path: &std::path::Path, issue: &Issue) -> serde_json::Value {
    json!({
        "file": path.display().to_string(),
        "line": issue.position.map(|at| at.line),
        "column": issue.position.map(|at| at.column),
        "model": issue.model.as_ref().map(dtdl::Dtmi::as_str),
        "path": issue.path,
        "rule": issue.rule,
        "message": issue.message,
    })
}

/// Every issue with the file it is in, in the order of the files. A file that is not JSON is told alone: what the others say
/// of models they miss would mislead.
fn issues(files: &[(PathBuf, String)]) -> Vec<(PathBuf, Issue)> {
    let not_json: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| model_issues(text).into_iter().map(|issue| (path.clone(), issue)))
        .filter(|(_, issue)| issue.rule == INVALID_JSON)
        .collect();
    if !not_json.is_empty() {
        return not_json;
    }
    let (text, parts) = joined(files);
    model_issues(&text).into_iter().map(|issue| located(issue, &parts)).collect()
}

/// One array of the models of all files, in which every file keeps its lines.
fn joined(files: &[(PathBuf, String)]) -> (String, Vec<Part>) {
    let (mut text, mut parts, mut lines_before) = (String::from("["), Vec::new(), 0);
    let mut is_first = true;
    for (path, file) in files {
        let inner = without_brackets(file);
        if !is_first && !inner.trim().is_empty() {
            text.push(',');
        }
        is_first &= inner.trim().is_empty();
        // The line break keeps the columns of a file's first line.
        text.push('\n');
        lines_before += 1;
        text.push_str(&inner);
        let lines = u32::try_from(inner.matches('\n').count()).unwrap_or(u32::MAX);
        parts.push(Part { path: path.clone(), lines_before, lines });
        lines_before += lines;
    }
    text.push_str("\n]");
    (text, parts)
}

/// An array's brackets become blanks, so that its models stand where they stood.
fn without_brackets(text: &str) -> String {
    let trimmed = text.trim_ascii();
    if !trimmed.starts_with('[') {
        return text.to_owned();
    }
    let open = text.find('[').unwrap_or_default();
    let close = text.rfind(']').unwrap_or_default();
    format!("{} {} {}", &text[..open], &text[open + 1..close], &text[close + 1..])
}

fn located(mut issue: Issue, parts: &[Part]) -> (PathBuf, Issue) {
    let line = issue.position.map_or(1, |at| at.line);
    let part = parts.iter().rev().find(|part| part.lines_before < line).unwrap_or(&parts[0]);
    if let Some(at) = &mut issue.position {
        at.line = line.saturating_sub(part.lines_before).clamp(1, part.lines + 1);
    }
    // The first step of the path counts over all files and would mean nothing to the reader.
    let below = issue.path.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest);
    issue.path = format!("/{below}");
    (part.path.clone(), issue)
}

#[cfg(test)]
mod tests {
    use access::Caller;
    use base::hosts::{Hosts, NoMachine};
    use base::{Clock, InstanceId, Scope, Throttle, Timestamp, caps};
    use digital_twins::{Context, InstanceSettings, Instances};
    use serde_json::Value;
    use store::{Options, Store};
    use test_data::shared_json;

    use super::*;

    const FLOOR: &str = r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:com:example:Floor;1", "@type": "Interface",
        "contents": [{"@type": "Relationship", "name": "has", "target": "dtmi:com:example:Room;1"}]}"#;
    const ROOM: &str = r#"
[{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:com:example:Room;1", "@type": "Interface",
  "extends": "dtmi:com:example:Space;1"},
 {"@context": "dtmi:dtdl:context;2", "@id": "dtmi:com:example:Space;1", "@type": "Interface"}]
"#;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        issues(&files).iter().map(|(path, issue)| format!("{}:{issue}", path.display())).collect()
    }

    /// Every official case, and models that only the service refuses: the command and an upload say the same of them.
    #[tokio::test]
    async fn a_check_and_an_upload_agree() {
        let mut cases: Vec<(String, Vec<Value>)> = vec![
            ("nothing".into(), vec![json!([])]),
            ("nested".into(), vec![json!([[room_of("2")]])]),
            ("version 4".into(), vec![room_of("4")]),
            ("too large".into(), vec![large(caps::MODEL_BYTES_MAX)]),
            ("just not too large".into(), vec![large(caps::MODEL_BYTES_MAX - 60_000)]),
        ];
        for file in ["generated", "specification", "doc-examples"] {
            let Some(found) = shared_json(&format!("data/dtdl-cases/{file}.json")) else { return };
            for (name, case) in found.as_object().unwrap() {
                let sub_cases = case.as_array().cloned().unwrap_or_else(|| vec![case.clone()]);
                cases.extend(
                    sub_cases
                        .into_iter()
                        .map(|case| (name.clone(), case["input"].as_array().unwrap().clone())),
                );
            }
        }
        let instances = instances();
        let (mut accepted, mut wrong) = (0, Vec::new());
        for (number, (name, documents)) in cases.iter().enumerate() {
            let files: Vec<_> =
                documents.iter().map(|document| (PathBuf::from("f"), document.to_string())).collect();
            let is_valid = issues(&files).is_empty();
            // An upload is one array; a document may be one, too.
            let models = documents.iter().flat_map(|document| {
                document.as_array().map_or(std::slice::from_ref(document), Vec::as_slice)
            });
            let body = Value::from(models.cloned().collect::<Vec<_>>()).to_string();
            let instance = instances.ensure(settings(number)).await.unwrap();
            let uploaded = instance.create_models(&Caller::system(), body.into()).await;
            accepted += usize::from(is_valid);
            if uploaded.is_ok() != is_valid {
                wrong.push(format!("{name}: checked {is_valid}, uploaded {uploaded:?}"));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {} differ: {:#?}",
            wrong.len(),
            cases.len(),
            &wrong[..wrong.len().min(9)]
        );
        assert!(accepted > 1000 && accepted < cases.len() - 1000, "{accepted} of {}", cases.len());
    }

    fn room_of(version: &str) -> Value {
        json!({"@context": format!("dtmi:dtdl:context;{version}"), "@id": "dtmi:test:Room;1", "@type": "Interface"})
    }

    fn large(bytes: usize) -> Value {
        let mut model = room_of("2");
        let value = |v: usize| json!({"name": format!("v{v}"), "enumValue": v, "comment": "x".repeat(512)});
        let property = |p: usize| {
            json!({"@type": "Property", "name": format!("p{p}"), "schema": {"@type": "Enum", "valueSchema": "integer",
                "enumValues": (0..99).map(value).collect::<Vec<_>>()}})
        };
        model["contents"] = (0..=bytes / 55_000).map(property).collect();
        model
    }

    fn instances() -> Instances {
        Instances::new(Context {
            store: Store::open(&Options::memory()).unwrap(),
            clock: Clock::manual(Timestamp::from_unix_seconds(1_750_000_000)),
            throttle: Throttle::unlimited(),
            hosts: Hosts::new("localhost", 443, NoMachine),
        })
    }

    fn settings(number: usize) -> InstanceSettings {
        InstanceSettings {
            instance: InstanceId::from_stored(format!("twins-{number}")),
            name: format!("twins{number}"),
            scope: Scope::new("/subscriptions/s"),
            location: "eastus".to_owned(),
            public_network_access: true,
            is_default: false,
        }
    }

    #[test]
    fn files_may_refer_to_each_other() {
        assert_eq!(
            check(&[("floor.json", FLOOR), ("empty.json", "[]"), ("room.json", ROOM)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_issue_is_told_where_it_stands_in_its_own_file() {
        let wrong = ROOM.replace(
            "\"Interface\",\n  \"extends\": \"dtmi:com:example:Space;1\"",
            "\"Interface\",\n  \"extends\": 7",
        );
        let found = check(&[("floor.json", FLOOR), ("room.json", &wrong)]);
        assert!(!found.is_empty());
        assert!(found.iter().all(|line| line.starts_with("room.json:3:")), "{found:?}");
    }

    #[test]
    fn a_file_that_is_not_json_is_told_alone() {
        let found = check(&[("floor.json", FLOOR), ("broken.json", "{\n\"@id\": ]\n}")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("broken.json:2:"), "{found:?}");
    }
}
