//! `cargo xtask first-hour`: five people who have just heard of twinhub, each with a folder and a server of its own and the packages
//! of their world fetched anew. Each is a script, which says what it has reached; here is noted when.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::dist;
use crate::shell::{self, Outcome, now, root, take_option, target};

/// What stands before every script.
const COMMON: &str = include_str!("common.sh");

/// Who they are, and what they do.
const PEOPLE: &[(&str, &str)] = &[
    ("mosquitto", include_str!("mosquitto.sh")),
    ("python", include_str!("python.sh")),
    ("node", include_str!("node.sh")),
    ("az", include_str!("az.sh")),
    ("operator", include_str!("operator.sh")),
];

/// Where the two packages of the operator lie.
struct Packages {
    first: PathBuf,
    next: PathBuf,
}

struct Stage<'a> {
    binary: PathBuf,
    listen: String,
    packages: &'a Packages,
}

/// What was reached, and how long after the beginning.
type Milestones = Vec<(String, Duration)>;

/// `first-hour [--binary PATH] [--listen ADDRESS] [PERSON…]`
pub fn run(arguments: &[String]) -> Outcome {
    let mut arguments = arguments.to_vec();
    let binary = take_option(&mut arguments, "--binary")?
        .map_or_else(|| target().join("dist/twinhub"), PathBuf::from)
        .canonicalize()
        .map_err(|error| format!("no binary: {error}; cargo xtask dist makes one, --binary names another"))?;
    let listen = take_option(&mut arguments, "--listen")?.unwrap_or_else(|| "127.0.0.1".to_owned());
    let is_asked = |name: &str| arguments.is_empty() || arguments.iter().any(|asked| asked == name);
    if let Some(unknown) = arguments.iter().find(|asked| PEOPLE.iter().all(|(name, _)| name != asked)) {
        return Err(format!("nobody is called {unknown}"));
    }
    for (program, package) in
        [("mosquitto_rr", "mosquitto-clients"), ("mosquitto", "mosquitto"), ("jq", "jq"), ("curl", "curl")]
    {
        shell::ensure_debian(program, package)?;
    }
    let packages = packages(&binary, is_asked("operator"))?;
    let stage = Stage { binary, listen, packages: &packages };
    let mut played = Vec::new();
    for (name, script) in PEOPLE.iter().filter(|(name, _)| is_asked(name)) {
        eprintln!("── {name}");
        let milestones = play(&stage, name, script)?;
        print_one(name, &milestones);
        played.push((*name, milestones));
    }
    println!("\nseconds from nothing");
    for (name, milestones) in &played {
        print_one(name, milestones);
    }
    Ok(())
}

/// The package of this binary, and the same as a later version.
fn packages(binary: &Path, are_wanted: bool) -> Result<Packages, String> {
    let folder = target().join("first-hour/packages");
    let version = env!("CARGO_PKG_VERSION");
    let next = format!("{version}.1");
    if are_wanted {
        for version in [version, &next] {
            let (binary, folder) = (binary.display().to_string(), folder.display().to_string());
            dist::run(&["--binary", &binary, "--output", &folder, "--version", version].map(str::to_owned))?;
        }
    }
    let package = |version: &str| {
        let found = fs::read_dir(&folder).ok().into_iter().flatten().flatten().map(|file| file.path());
        let begins = format!("twinhub_{version}_");
        found.into_iter().find(|path| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with(&begins) && path.extension().is_some_and(|extension| extension == "deb")
            })
        })
    };
    let missing = |version: &str| package(version).unwrap_or_default();
    Ok(Packages { first: missing(version), next: missing(&next) })
}

fn play(stage: &Stage, name: &str, script: &str) -> Result<Milestones, String> {
    let folder = target().join("first-hour").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let own = stage.binary.parent().expect("a file lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let log = fs::File::create(folder.join("said.log")).map_err(|error| error.to_string())?;
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{COMMON}\n{script}")).current_dir(&folder);
    command.env("PATH", format!("{}:{path}", own.display())).env("LISTEN", &stage.listen).env("ROOT", root());
    command.env("SCRIPT", script).env("DEB", &stage.packages.first).env("NEXT_DEB", &stage.packages.next);
    let start = now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().map_err(|e| e.to_string())?;
    let mut milestones = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.map_err(|error| error.to_string())?;
        match line.strip_prefix("@@ ") {
            Some(what) => milestones.push((what.to_owned(), start.elapsed())),
            None => eprintln!("   {line}"),
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() && !milestones.is_empty() {
        return Ok(milestones);
    }
    let last = milestones.last().map_or("nothing", |(what, _)| what.as_str());
    Err(format!("{name} got as far as “{last}” ({status}); see {}", folder.join("said.log").display()))
}

fn print_one(name: &str, milestones: &[(String, Duration)]) {
    println!("{name}");
    for (what, when) in milestones {
        println!("  {:7.1}  {what}", when.as_secs_f64());
    }
}
