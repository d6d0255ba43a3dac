//! Where the database is and how it is reached, out of one connection string. What it holds is secret: nothing here prints it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::caps;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::faults::Fault;
use super::hosts::Hosts;
use crate::error::StoreError;
use crate::store::Durability;

/// Where systems keep the certificates of authorities that they trust.
const SYSTEM_ROOTS: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What of libpq's connection strings is ours to read: the driver does not know it.
const ROOTS: &str = "sslrootcert=";

#[derive(Clone)]
pub(crate) struct Config {
    pub(super) database: tokio_postgres::Config,
    pub(super) hosts: Arc<Hosts>,
    pub(super) tls: MakeRustlsConnect,
    /// `Relaxed` takes a server that does not sync.
    pub(super) durability: Durability,
    /// For tests.
    pub(super) fault: Option<Fault>,
}

impl Config {
    /// `postgres://user:password@host1,host2/database?sslmode=…&sslrootcert=…`. A host is reached over TLS and must prove its name,
    /// unless `sslmode` says otherwise; a folder, which is a unix socket, needs none.
    pub(crate) fn parse(url: &str, durability: Durability) -> Result<Self, StoreError> {
        let (url, roots) = without_roots(url);
        let names_mode = url.contains("sslmode=");
        // To prove the name is what we do anyway.
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut database: tokio_postgres::Config =
            url.parse().map_err(|_| refused("it is no connection string of PostgreSQL"))?;
        if database.get_hosts().is_empty() {
            return Err(refused("it names no host"));
        }
        let is_local = database.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if is_local {
            database.ssl_mode(SslMode::Disable);
        } else if !names_mode {
            database.ssl_mode(SslMode::Require);
        }
        let needs_tls = database.get_ssl_mode() != SslMode::Disable;
        // Of several hosts, the one that takes writes: reads go there too, since a standby may be behind.
        database.target_session_attrs(TargetSessionAttrs::ReadWrite);
        database.application_name("twinhub").keepalives_idle(Duration::from_secs(30));
        if database.get_connect_timeout().is_none() {
            database.connect_timeout(Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX));
        }
        if database.get_tcp_user_timeout().is_none() {
            // A machine that is gone takes nothing any more, and says nothing of it.
            database.tcp_user_timeout(Duration::from_secs(2 * caps::DATABASE_ANSWER_SECONDS_MAX));
        }
        Ok(Self {
            hosts: Arc::new(Hosts::of(&database)),
            database,
            tls: MakeRustlsConnect::new(tls(needs_tls, roots.as_deref())?),
            durability,
            fault: None,
        })
    }

    /// Which database this is, for people: nothing of who logs in.
    pub(crate) fn place(&self) -> String {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<String> = self.database.get_hosts().iter().map(host).collect();
        format!("{} at {}", self.database.get_dbname().unwrap_or_default(), hosts.join(" and "))
    }
}

fn refused(why: &str) -> StoreError {
    StoreError::Refused(format!("the database's address: {why}"))
}

fn without_roots(url: &str) -> (String, Option<PathBuf>) {
    let Some((address, options)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (roots, rest): (Vec<_>, Vec<_>) = options.split('&').partition(|option| option.starts_with(ROOTS));
    let roots = roots.first().map(|option| PathBuf::from(&option[ROOTS.len()..]));
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    (format!("{address}{rest}"), roots)
}

fn tls(is_needed: bool, roots: Option<&Path>) -> Result<ClientConfig, StoreError> {
    let mut trusted = RootCertStore::empty();
    if is_needed {
        let file = match roots {
            Some(file) => file.to_owned(),
            None => system_roots().ok_or_else(|| refused("TLS needs sslrootcert, a file of certificates"))?,
        };
        let unread = |error: &dyn std::fmt::Display| refused(&format!("{}: {error}", file.display()));
        for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| unread(&error))? {
            let certificate = certificate.map_err(|error| unread(&error))?;
            // A system's file may hold one that this library does not read; the others still count.
            if let Err(error) = trusted.add(certificate) {
                tracing::debug!(%error, file = %file.display(), "an authority's certificate is not used");
            }
        }
        if trusted.is_empty() {
            return Err(unread(&"no certificate in it"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refused(&error.to_string()))?;
    Ok(builder.with_root_certificates(trusted).with_no_client_auth())
}

fn system_roots() -> Option<PathBuf> {
    SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        let Ok(config) = Config::parse(url, Durability::Full) else { panic!("{url}") };
        config.database.get_ssl_mode()
    }

    #[test]
    fn a_host_is_reached_over_tls_unless_the_address_says_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let (roots, key) = (directory.path().join("ca.pem"), directory.path().join("empty.pem"));
        std::fs::write(&key, "").unwrap();
        assert_eq!(mode("postgres://u@%2Frun%2Fpg/db"), SslMode::Disable);
        assert_eq!(mode("postgres://u@db.example/db?sslmode=disable"), SslMode::Disable);
        let with_roots = |file: &Path| {
            Config::parse(
                &format!("postgres://u:secret@db.example/db?sslrootcert={}", file.display()),
                Durability::Full,
            )
        };
        for file in [&roots, &key] {
            let Err(StoreError::Refused(why)) = with_roots(file) else { panic!("{}", file.display()) };
            assert!(why.contains(file.to_str().unwrap()) && !why.contains("secret"), "{why}");
        }
        let system = system_roots().is_some();
        assert_eq!(Config::parse("postgres://u@db.example/db", Durability::Full).is_ok(), system);
        assert!(Config::parse("mysql://u@db.example/db", Durability::Full).is_err());
        assert!(Config::parse("postgres:///db", Durability::Full).is_err());
    }
}
