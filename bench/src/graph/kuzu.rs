//! Kùzu, an embedded graph database, as its package from `PyPI` runs it in a Python process. No network, no token and no JSON stand
//! between the question and the answer, and the interpreter's time is in its figures.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::data::{self, Plant};
use crate::Failure;

const SCRIPT: &str = include_str!("kuzu.py");

pub(super) struct Kuzu {
    /// Killed when dropped.
    _child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

pub(super) struct Answered {
    pub(super) milliseconds: f64,
    pub(super) rows: u64,
    pub(super) first: Value,
}

impl Kuzu {
    /// Loads the graph; takes a while.
    pub(super) async fn start(python: &Path, directory: &Path, plant: Plant) -> Result<Self, Failure> {
        std::fs::create_dir_all(directory)?;
        let files = write_files(directory, plant)?;
        // Not by the name of the package that it imports.
        let script = directory.join("answer.py");
        std::fs::write(&script, SCRIPT)?;
        let mut command = Command::new(python);
        command.arg(script).arg(directory.join("database")).args(files);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", python.display()))?;
        let questions = child.stdin.take().ok_or("no stdin")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        answers.next_line().await?.ok_or("Kùzu did not load the graph")?;
        Ok(Self { _child: child, questions, answers })
    }

    pub(super) async fn ask(&mut self, text: &str, parameters: Value) -> Result<Answered, Failure> {
        let question = json!({"text": text, "parameters": parameters});
        self.questions.write_all(format!("{question}\n").as_bytes()).await?;
        let answer = self.answers.next_line().await?.ok_or("Kùzu ended")?;
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(Answered {
            milliseconds: answer["ms"].as_f64().unwrap_or(f64::NAN),
            rows: answer["rows"].as_u64().unwrap_or_default(),
            first: answer["first"].clone(),
        })
    }
}

fn write_files(directory: &Path, plant: Plant) -> Result<[PathBuf; 3], Failure> {
    let paths = ["twins.csv", "contains.csv", "feeds.csv"].map(|name| directory.join(name));
    let mut texts = [String::new(), String::new(), String::new()];
    for number in 0..plant.buildings {
        let (twins, edges) = data::building_of(number);
        for twin in twins {
            let document = twin.document().to_string().replace('"', "\"\"");
            let (id, kind, serial, temperature) = (&twin.id, twin.kind, &twin.serial, twin.temperature);
            writeln!(texts[0], "{id},{kind},{serial},{temperature},\"{document}\"")?;
        }
        for edge in edges {
            writeln!(texts[if edge.name == "contains" { 1 } else { 2 }], "{},{}", edge.source, edge.target)?;
        }
    }
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text)?;
    }
    Ok(paths)
}
