//! `twinhub models check`: DTDL validation without a server. All files are one set of models, so that they may refer to each
//! other; every issue is told with its file, line and column.

use std::path::PathBuf;
use std::process::ExitCode;

use dtdl::{Issue, Options};
use serde_json::json;
use server::out;

use crate::Failure;
use crate::command_line::ModelsCheckArgs;

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
    let nothing = |_: &dtdl::Dtmi| None;
    let options = Options::language();
    let not_json: Vec<_> = files
        .iter()
        .filter(|(_, text)| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err())
        .flat_map(|(path, text)| {
            let issues = dtdl::check_text(text, &nothing, &options);
            issues.into_iter().map(|issue| (path.clone(), issue))
        })
        .collect();
    if !not_json.is_empty() {
        return not_json;
    }
    let (text, parts) = joined(files);
    let found = dtdl::check_text(&text, &nothing, &options);
    found.into_iter().map(|issue| located(issue, &parts)).collect()
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
