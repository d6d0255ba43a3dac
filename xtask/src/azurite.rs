//! Azurite, the emulator of storage accounts that developers know best, over HTTPS: the account of the files of devices for the suites of
//! official clients. It comes from npm by a lock file of its own, and ends with the run.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_certificates::{Certified, SanType, authority, leaf, with};

use crate::conform::environment;
use crate::shell::{self, root, step, target};

/// The account that every Azurite has.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub struct Azurite {
    child: Child,
    pub connection_string: String,
    /// The certificate of the authority that vouches for it.
    pub authority: PathBuf,
}

impl Azurite {
    /// `None` where npm is missing, which is said; a run that must be complete fails then.
    pub fn start() -> Result<Option<Self>, String> {
        if !shell::exists("npm") {
            let missing = "npm is missing, so nothing is uploaded to Azurite";
            if test_data::in_ci() {
                return Err(missing.to_owned());
            }
            eprintln!("hint: {missing}");
            return Ok(None);
        }
        let program = installed()?.join("node_modules/azurite/dist/src/blob/main.js");
        let data = target().join("conform/azurite-data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).map_err(|error| error.to_string())?;
        let authority = certificates(&data).map_err(|error| error.to_string())?;
        let port = free_port().map_err(|error| error.to_string())?;
        let log = fs::File::create(data.join("azurite.log")).map_err(|error| error.to_string())?;
        let mut command = Command::new("node");
        // Clients name versions of the protocol that are newer than it, and ask for encryption, which it does not do.
        command.arg(program).args([
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--loose",
            "--location",
        ]);
        command.arg(&data).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--cert"]);
        command.arg(data.join("own.pem")).arg("--key").arg(data.join("own.key"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|error| format!("Azurite could not start: {error}"))?;
        let connection_string = format!(
            "DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=https://127.0.0.1:{port}/{ACCOUNT};"
        );
        let azurite = Self { child, connection_string, authority };
        let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        if shell::wait_until(Duration::from_mins(1), answers) {
            Ok(Some(azurite))
        } else {
            Err(format!("Azurite does not answer; see {}", data.join("azurite.log").display()))
        }
    }

    /// Gives a client the account and who vouches for it, beside the server's own authority.
    pub fn surround(&self, command: &mut Command, own_authorities: Option<&str>) -> Result<(), String> {
        let both = target().join("conform/authorities.pem");
        let own = own_authorities.map(fs::read_to_string).transpose().map_err(|error| error.to_string())?;
        let azurite = fs::read_to_string(&self.authority).map_err(|error| error.to_string())?;
        fs::write(&both, own.unwrap_or_default() + &azurite).map_err(|error| error.to_string())?;
        command.env("CONFORM_STORAGE", &self.connection_string).env("CONFORM_STORAGE_CA", &self.authority);
        command.env("NODE_EXTRA_CA_CERTS", both);
        Ok(())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed() -> Result<PathBuf, String> {
    let folder = root().join("conformance/azurite");
    environment("azurite", &folder.join("package-lock.json"), |environment| {
        fs::create_dir_all(environment).map_err(|error| error.to_string())?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(folder.join(file), environment.join(file)).map_err(|error| error.to_string())?;
        }
        let mut npm = Command::new("npm");
        step("Azurite", npm.args(["ci", "--silent", "--no-audit"]).current_dir(environment))
    })
}

/// A certificate of its own from an authority that nobody else has; gives the authority's.
fn certificates(folder: &Path) -> std::io::Result<PathBuf> {
    let authority = Certified::own(authority("Azurite's authority"));
    let here = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let own = authority.signs(with(leaf("Azurite"), |params| params.subject_alt_names.push(here)));
    fs::write(folder.join("own.pem"), &own.pem)?;
    fs::write(folder.join("own.key"), own.key_pem())?;
    let file = folder.join("authority.pem");
    fs::write(&file, &authority.pem)?;
    Ok(file)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
