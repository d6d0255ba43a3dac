//! `twinhub help`, completions and manual pages: all from one declaration, so none may lack what another has.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::deadline;
use crate::{help, listed};

fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.args(arguments));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program that only some machines have is here.
fn exists(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Every command by its words: `["config", "check"]`.
fn commands() -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![Vec::new()];
    let mut next = 0;
    while let Some(words) = found.get(next).cloned() {
        let path: Vec<_> = words.iter().map(String::as_str).collect();
        let below = listed(&help(&path)).into_iter().filter(|(name, _)| name != "help");
        found.extend(below.map(|(name, _)| [words.clone(), vec![name]].concat()));
        next += 1;
    }
    found.split_off(1)
}

#[test]
fn help_with_a_command_says_what_its_flag_says() {
    for words in commands() {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let asked = run(&[&["help"][..], &words].concat());
        assert_eq!(asked, help(&words), "{words:?}");
    }
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(&["completions", shell]);
        for word in commands().iter().flatten() {
            assert!(script.contains(word.as_str()), "{shell} does not know {word}");
        }
        assert!(script.contains("listen"), "{shell} knows flags");
    }
}

#[test]
fn bash_takes_its_completions_and_completes_with_them() {
    if !exists("bash") {
        return;
    }
    let script = run(&["completions", "bash"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("twinhub.bash");
    std::fs::write(&path, script).unwrap();
    let parsed = deadline::output(Command::new("bash").arg("-n").arg(&path));
    assert!(parsed.status.success() && parsed.stderr.is_empty(), "{parsed:?}");
    let complete = |line: &[&str]| {
        let program = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                       _twinhub twinhub \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                       printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        command.args(["-c", program, "bash"]).arg(&path).args(line);
        String::from_utf8(deadline::output(&mut command).stdout).unwrap()
    };
    assert_eq!(complete(&["twinhub", "comp"]), "completions\n");
    assert_eq!(complete(&["twinhub", "demo", "--lis"]), "--listen\n");
    assert_eq!(complete(&["twinhub", "config", "ch"]), "check\n");
}

#[test]
fn there_is_a_manual_page_for_every_command_which_man_renders_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    run(&["man", pages.to_str().unwrap()]);
    let mut names = vec!["twinhub".to_owned()];
    names.extend(commands().iter().map(|words| format!("twinhub-{}", words.join("-"))));
    for name in &names {
        let path = pages.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        rendered(&path, name);
    }
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), names.len());
    let main = std::fs::read_to_string(pages.join("twinhub.1")).unwrap();
    assert_eq!(main, run(&["man"]), "the page that is printed is the one that is written");
    assert!(main.contains("TWINHUB_LISTEN"), "settings are told");
    assert!(main.contains("twinhub\\-serve(1)"), "commands are told with their pages");
}

fn rendered(path: &Path, name: &str) {
    if !exists("man") {
        return;
    }
    let mut man = Command::new("man");
    man.args(["--warnings", "--no-justification", "--encoding=UTF-8", "--local-file"]).arg(path);
    let output = deadline::output(man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100"));
    assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("SYNOPSIS") && text.contains(&name.replace('-', " ")), "{name}: {text}");
}

#[test]
fn a_directory_that_cannot_be_made_for_manual_pages_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.arg("man").arg(in_the_way.join("man1")));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(in_the_way.to_str().unwrap()), "{said}");
}
