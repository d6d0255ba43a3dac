//! The binary that is given out: symbols aside, what it needs of a system, and that it says nothing of the machine that built it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Outcome, cargo, output, root, step, target};

/// What we promise: Debian 12's. A binary that needs a later one is not given out.
const GLIBC_MAX: (u32, u32) = (2, 36);

/// A shared library that the binary is linked with, with the package that it is from.
pub struct Library {
    /// Where the loader finds it.
    pub path: String,
    pub content: Vec<u8>,
    pub package: String,
    pub copyright: Vec<u8>,
}

/// Builds with the profile `dist`, and gives the binary's path. Paths of this machine are written as others, in Rust and in C.
pub fn build() -> Result<PathBuf, String> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .map_err(|_| "neither CARGO_HOME nor HOME is set")?;
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let (checkout, products) = (root().display().to_string(), target().display().to_string());
    // The last that fits wins, and the products may lie in the checkout.
    let others = [(&checkout, "/twinhub"), (&products, "/build"), (&home, "/cargo")];
    let rust = others.map(|(from, to)| format!("--remap-path-prefix={from}={to}")).join(" ");
    let c = others.map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).join(" ");
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "dist", "--package", "server"]);
    // A target directory of its own: flags like these would have everything else built anew.
    let folder = target().join("dist/build");
    build.env("RUSTFLAGS", format!("{given} {rust}")).env("CFLAGS", c).env("CARGO_TARGET_DIR", &folder);
    step("dist build", &mut build)?;
    Ok(folder.join("dist/twinhub"))
}

/// Fails where a path of this machine has stayed in what is given out.
pub fn says_nothing_of_this_machine(binary: &[u8]) -> Outcome {
    let home = std::env::var("HOME").unwrap_or_default();
    let text = String::from_utf8_lossy(binary);
    for path in [root().display().to_string(), format!("{home}/.cargo"), format!("{home}/.rustup")] {
        if path.len() > 1 && text.contains(&path) {
            return Err(format!("the binary holds the path {path} of this machine"));
        }
    }
    Ok(())
}

/// Copies the binary without symbols to `to`, and its symbols beside it, where debuggers look for them.
pub fn strip(from: &Path, to: &Path) -> Outcome {
    let symbols = to.with_extension("debug");
    let mut aside = Command::new("objcopy");
    aside.args(["--only-keep-debug", "--compress-debug-sections"]).arg(from).arg(&symbols);
    quietly(&mut aside)?;
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-all").arg(format!("--add-gnu-debuglink={}", symbols.display())).arg(from).arg(to);
    quietly(&mut strip)
}

fn quietly(command: &mut Command) -> Outcome {
    let done =
        command.output().map_err(|error| format!("{command:?}: {error} (Debian's package binutils)"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

fn readelf(what: &str, binary: &Path) -> Result<String, String> {
    output(Command::new("readelf").args([what, "--wide"]).arg(binary))
        .ok_or_else(|| format!("readelf {what} {}: failed (Debian's package binutils)", binary.display()))
}

/// Debian's word for the processor.
pub fn architecture(binary: &Path) -> Result<&'static str, String> {
    let header = readelf("--file-header", binary)?;
    let machine = header.lines().find_map(|line| line.trim().strip_prefix("Machine:"));
    match machine.map(str::trim) {
        Some("Advanced Micro Devices X86-64") => Ok("amd64"),
        Some("AArch64") => Ok("arm64"),
        other => Err(format!("{}: a processor that nobody has packed for yet: {other:?}", binary.display())),
    }
}

/// The versions of the C library's symbols, all of them, oldest first.
pub fn glibc_versions(binary: &Path) -> Result<Vec<(u32, u32)>, String> {
    let versions = versions_in(&readelf("--version-info", binary)?);
    match versions.last() {
        None => Err(format!("{} is not linked with glibc", binary.display())),
        Some(last) if *last > GLIBC_MAX => {
            let (name, wanted, most) = (binary.display(), last, GLIBC_MAX);
            Err(format!(
                "{name} needs glibc {}.{}, and {}.{} is what we promise",
                wanted.0, wanted.1, most.0, most.1
            ))
        }
        Some(_) => Ok(versions),
    }
}

fn versions_in(text: &str) -> Vec<(u32, u32)> {
    let number = |text: &str| {
        let (major, rest) = text.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let mut versions: Vec<_> = text.split("GLIBC_").skip(1).filter_map(number).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// The loader and the libraries, from this machine.
pub fn libraries(binary: &Path, architecture: &str) -> Result<Vec<Library>, String> {
    let header = readelf("--program-headers", binary)?;
    let loader = header
        .split("Requesting program interpreter: ")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .ok_or_else(|| format!("{} names no loader", binary.display()))?
        .to_owned();
    let folder = if architecture == "arm64" { "/lib/aarch64-linux-gnu" } else { "/lib/x86_64-linux-gnu" };
    let dynamic = readelf("--dynamic", binary)?;
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let names =
        needed.filter_map(|line| line.split(['[', ']']).nth(1)).filter(|name| !loader.ends_with(name));
    let paths = names.map(|name| format!("{folder}/{name}"));
    std::iter::once(loader.clone()).chain(paths).map(library).collect()
}

fn library(path: String) -> Result<Library, String> {
    let content = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    let real = fs::canonicalize(&path).map_err(|error| format!("{path}: {error}"))?;
    let package = owner(&real)
        .or_else(|| owner(real.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest))?.as_path()));
    let package =
        package.ok_or_else(|| format!("{path} is of no Debian package, so its licence is not known"))?;
    let copyright = format!("/usr/share/doc/{package}/copyright");
    let copyright = fs::read(&copyright).map_err(|error| format!("{copyright}: {error}"))?;
    Ok(Library { path, content, package, copyright })
}

/// The package that a file is from.
fn owner(path: &Path) -> Option<String> {
    let said = output(Command::new("dpkg-query").arg("--search").arg(path))?;
    Some(said.split(':').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_numbers() {
        let text = "0x01: Rev: 1  Flags: none  Index: 5  Cnt: 3\n Name: GLIBC_2.34 Flags\n Name: GLIBC_2.4  Flags\n GLIBC_2.2.5 (2)";
        assert_eq!(versions_in(text), [(2, 2), (2, 4), (2, 34)]);
    }

    #[test]
    fn a_path_of_this_machine_is_found_wherever_it_stands() {
        let binary = [b"\x7fELF...", root().display().to_string().as_bytes(), b"/crates"].concat();
        assert!(says_nothing_of_this_machine(&binary).is_err());
        assert_eq!(says_nothing_of_this_machine(b"/twinhub/crates"), Ok(()));
    }
}
