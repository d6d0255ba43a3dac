//! A storage account as its connection string names it: where its blobs lie and what opens it. Whoever stores one checks it by this,
//! whoever dials one goes by it. Printed, it names the place alone.

use std::fmt;

use base::{Key, Secret, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::name::{AccountName, BlobName, ContainerName};
use crate::sas::{self, Permission};

const CLOUD_SUFFIX: &str = "core.windows.net";
/// The emulator's account, which everybody knows.
const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const DEVELOPMENT_PORT: u16 = 10000;
/// What stands in a path as it is: RFC 3986's unreserved characters, and what parts a blob's name.
const ESCAPED_IN_PATHS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnectionString {
    #[error("it is not made of fields `Name=value` with `;` between them")]
    Fields,
    #[error("its DefaultEndpointsProtocol is neither http nor https")]
    Protocol,
    #[error("its AccountName is missing, or no name of an account")]
    Account,
    #[error("its AccountKey is no key in base64")]
    Key,
    #[error("its BlobEndpoint is no address over http or https")]
    Endpoint,
    #[error("it has neither an AccountKey nor a SharedAccessSignature")]
    NoCredential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContainerUri {
    #[error("it is no address of a container over http or https")]
    Address,
    #[error("it has no shared access signature, by which the container is opened")]
    NoSignature,
}

/// What opens an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Key(Key),
    /// A query without its `?`.
    Signature(Secret),
}

#[derive(Clone, PartialEq, Eq)]
pub struct AccountAddress {
    pub name: AccountName,
    pub credential: Credential,
    pub is_https: bool,
    /// With the port where it is no usual one.
    pub authority: String,
    /// Before the container's name in every path: nothing, or `/` and the account's name.
    base_path: String,
}

impl AccountAddress {
    pub fn parse(text: &str) -> Result<Self, InvalidConnectionString> {
        let fields = fields(text)?;
        let field = |name: &str| {
            let found = fields.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            found.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };
        if field("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return development(field("DevelopmentStorageProxyUri"));
        }
        let endpoint = match field("BlobEndpoint") {
            Some(uri) => Endpoint::parse(uri)?,
            None => Endpoint::of_cloud(&field)?,
        };
        let name = field("AccountName").or_else(|| endpoint.account());
        let name = name.and_then(|name| name.parse().ok()).ok_or(InvalidConnectionString::Account)?;
        let credential = match (field("AccountKey"), field("SharedAccessSignature")) {
            (Some(key), _) => Credential::Key(key.parse().map_err(|_| InvalidConnectionString::Key)?),
            (None, Some(signature)) => Credential::Signature(Secret::new(signature.trim_start_matches('?'))),
            (None, None) => return Err(InvalidConnectionString::NoCredential),
        };
        let Endpoint { is_https, authority, base_path } = endpoint;
        Ok(Self { name, credential, is_https, authority, base_path })
    }

    /// Of a container, as `{scheme}://{host}/{container}?{signature}`, with the account in the path or in the host.
    pub fn of_container(uri: &str) -> Result<(Self, ContainerName), InvalidContainerUri> {
        let (place, signature) = uri.split_once('?').ok_or(InvalidContainerUri::NoSignature)?;
        if !signature.split('&').any(|field| field.starts_with("sig=")) {
            return Err(InvalidContainerUri::NoSignature);
        }
        let (account, container) =
            place.trim_end_matches('/').rsplit_once('/').ok_or(InvalidContainerUri::Address)?;
        let endpoint = Endpoint::parse(account).map_err(|_| InvalidContainerUri::Address)?;
        let name = endpoint.account().and_then(|name| name.parse().ok());
        let Endpoint { is_https, authority, base_path } = endpoint;
        let address = Self {
            name: name.ok_or(InvalidContainerUri::Address)?,
            credential: Credential::Signature(Secret::new(signature)),
            is_https,
            authority,
            base_path,
        };
        Ok((address, container.parse().map_err(|_| InvalidContainerUri::Address)?))
    }

    /// What clients put behind `https://` and before the container: the host, and the account where it stands in the path.
    pub fn host_name(&self) -> String {
        format!("{}{}", self.authority, self.base_path)
    }

    pub fn container_path(&self, container: &ContainerName) -> String {
        format!("{}/{container}", self.base_path)
    }

    /// Escaped, as it stands in a request.
    pub fn blob_path(&self, container: &ContainerName, blob: &BlobName) -> String {
        let blob = utf8_percent_encode(blob.as_str(), ESCAPED_IN_PATHS);
        format!("{}/{blob}", self.container_path(container))
    }

    pub fn blob_uri(&self, container: &ContainerName, blob: &BlobName) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.blob_path(container, blob))
    }

    /// A signature for one blob, with its `?`. Only a key makes one.
    pub fn sign_blob(
        &self,
        at: (&ContainerName, &BlobName),
        permissions: &[Permission],
        expires_at: Timestamp,
    ) -> Option<String> {
        let Credential::Key(key) = &self.credential else { return None };
        Some(format!("?{}", sas::build_for_blob(&self.name, at, permissions, expires_at, key)))
    }
}

impl fmt::Display for AccountAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the storage account {} at {}", self.name, self.host_name())
    }
}

impl fmt::Debug for AccountAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountAddress({self})")
    }
}

fn fields(text: &str) -> Result<Vec<(&str, &str)>, InvalidConnectionString> {
    let fields = text.split(';').map(str::trim).filter(|field| !field.is_empty());
    // A signature and the padding of a key have `=` too.
    let fields = fields.map(|field| field.split_once('=').map(|(name, value)| (name.trim(), value.trim())));
    fields.collect::<Option<Vec<_>>>().ok_or(InvalidConnectionString::Fields)
}

fn development(proxy: Option<&str>) -> Result<AccountAddress, InvalidConnectionString> {
    let proxy = proxy.unwrap_or("http://127.0.0.1").trim_end_matches('/');
    let endpoint = Endpoint::parse(&format!("{proxy}:{DEVELOPMENT_PORT}/{DEVELOPMENT_ACCOUNT}"))?;
    let Endpoint { is_https, authority, base_path } = endpoint;
    let name = DEVELOPMENT_ACCOUNT.parse().expect("the emulator's account has a name");
    let key = DEVELOPMENT_KEY.parse().expect("the emulator's account has a key");
    Ok(AccountAddress { name, credential: Credential::Key(key), is_https, authority, base_path })
}

struct Endpoint {
    is_https: bool,
    authority: String,
    base_path: String,
}

impl Endpoint {
    fn parse(uri: &str) -> Result<Self, InvalidConnectionString> {
        let (scheme, rest) = uri.split_once("://").ok_or(InvalidConnectionString::Endpoint)?;
        let is_https = is_https(scheme).ok_or(InvalidConnectionString::Endpoint)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
        if !is_authority(authority) || !path.bytes().all(is_path) {
            return Err(InvalidConnectionString::Endpoint);
        }
        Ok(Self { is_https, authority: authority.to_owned(), base_path: path.to_owned() })
    }

    /// `{protocol}://{account}.blob.{suffix}`.
    fn of_cloud<'a>(field: &impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidConnectionString> {
        let protocol = field("DefaultEndpointsProtocol").unwrap_or("https");
        let is_https = is_https(protocol).ok_or(InvalidConnectionString::Protocol)?;
        let account = field("AccountName").ok_or(InvalidConnectionString::Account)?;
        let authority = format!("{account}.blob.{}", field("EndpointSuffix").unwrap_or(CLOUD_SUFFIX));
        if !is_authority(&authority) {
            return Err(InvalidConnectionString::Endpoint);
        }
        Ok(Self { is_https, authority, base_path: String::new() })
    }

    /// The account that it names itself: in its path, or else as the first part of its host.
    fn account(&self) -> Option<&str> {
        match self.base_path.strip_prefix('/') {
            Some(path) => path.split('/').next(),
            None => self.authority.split('.').next(),
        }
    }
}

fn is_https(scheme: &str) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

/// A host with or without a port; nobody logs in by it.
fn is_authority(text: &str) -> bool {
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    !host.is_empty() && host.bytes().all(is_host) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn parse(text: &str) -> Result<AccountAddress, InvalidConnectionString> {
        AccountAddress::parse(&text.replace("KEY", KEY))
    }

    /// Account, whether over HTTPS, host with what precedes the container.
    fn place(text: &str) -> (String, bool, String) {
        let address = parse(text).unwrap();
        (address.name.to_string(), address.is_https, address.host_name())
    }

    #[test]
    fn the_forms_that_accounts_are_named_by_are_read() {
        for (text, name, is_https, host) in [
            (
                "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=KEY;EndpointSuffix=core.windows.net",
                "acct",
                true,
                "acct.blob.core.windows.net",
            ),
            ("accountname=acct;accountkey=KEY;", "acct", true, "acct.blob.core.windows.net"),
            (
                "DefaultEndpointsProtocol=http;AccountName=acct;AccountKey=KEY;EndpointSuffix=core.chinacloudapi.cn",
                "acct",
                false,
                "acct.blob.core.chinacloudapi.cn",
            ),
            (
                "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=KEY;BlobEndpoint=https://127.0.0.1:10000/devstoreaccount1/;",
                "devstoreaccount1",
                true,
                "127.0.0.1:10000/devstoreaccount1",
            ),
            (
                "BlobEndpoint=https://acct.blob.example:8443;SharedAccessSignature=?sv=1&sig=a=",
                "acct",
                true,
                "acct.blob.example:8443",
            ),
            ("BlobEndpoint=http://[::1]:10000/acct;AccountKey=KEY", "acct", false, "[::1]:10000/acct"),
            ("UseDevelopmentStorage=true", "devstoreaccount1", false, "127.0.0.1:10000/devstoreaccount1"),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite/",
                "devstoreaccount1",
                false,
                "azurite:10000/devstoreaccount1",
            ),
        ] {
            assert_eq!(place(text), (name.to_owned(), is_https, host.to_owned()), "{text}");
        }
        let signed = parse("BlobEndpoint=https://acct.example;SharedAccessSignature=?sv=1&sig=a=").unwrap();
        assert_eq!(signed.credential, Credential::Signature(Secret::new("sv=1&sig=a=")));
    }

    #[test]
    fn what_names_or_opens_no_account_is_refused_for_what_it_is() {
        use InvalidConnectionString::{Account, Endpoint, Fields, Key, NoCredential, Protocol};
        for (text, why) in [
            ("acct", Fields),
            ("", Account),
            ("AccountKey=KEY", Account),
            ("AccountName=Not-One;AccountKey=KEY", Account),
            ("AccountName=acct", NoCredential),
            ("AccountName=acct;AccountKey=", NoCredential),
            ("AccountName=acct;AccountKey=****", Key),
            ("AccountName=acct;AccountKey=KEY;DefaultEndpointsProtocol=ftp", Protocol),
            ("AccountName=acct;AccountKey=KEY;BlobEndpoint=acct.example", Endpoint),
            ("AccountName=acct;AccountKey=KEY;BlobEndpoint=https://user:pass@acct.example", Endpoint),
            ("AccountName=acct;AccountKey=KEY;BlobEndpoint=https://acct.example/a?b", Endpoint),
            ("AccountName=acct;AccountKey=KEY;BlobEndpoint=https://acct.example:99999", Endpoint),
            ("AccountName=acct;AccountKey=KEY;EndpointSuffix=evil/path", Endpoint),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn addresses_of_blobs_are_escaped_and_signatures_open_that_blob_alone() {
        let address = parse("AccountName=acct;AccountKey=KEY;BlobEndpoint=http://h:1/acct").unwrap();
        let (container, blob): (ContainerName, BlobName) =
            ("files".parse().unwrap(), "dev1/a b+ü.txt".parse().unwrap());
        assert_eq!(address.blob_uri(&container, &blob), "http://h:1/acct/files/dev1/a%20b%2B%C3%BC.txt");
        let expires = Timestamp::from_unix_seconds(2_000_000_000);
        let token = address.sign_blob((&container, &blob), &[Permission::Read, Permission::Write], expires);
        let token = token.unwrap();
        assert!(token.starts_with("?sv=") && token.contains("sr=b") && token.contains("sp=rw"), "{token}");
        let by_signature = parse("BlobEndpoint=https://acct.example;SharedAccessSignature=sig=a").unwrap();
        assert_eq!(by_signature.sign_blob((&container, &blob), &[Permission::Read], expires), None);
    }

    #[test]
    fn a_container_is_named_by_an_address_with_a_signature() {
        for (uri, account, at, container) in [
            (
                "https://acct.blob.core.windows.net/files?sv=1&sig=a%3D",
                "acct",
                "acct.blob.core.windows.net",
                "files",
            ),
            ("http://127.0.0.1:10000/acct/files/?sig=a", "acct", "127.0.0.1:10000/acct", "files"),
        ] {
            let (address, named) = AccountAddress::of_container(uri).unwrap();
            assert_eq!(
                (address.name.as_str(), &*address.host_name(), named.as_str()),
                (account, at, container)
            );
        }
        for (uri, why) in [
            ("https://acct.blob.core.windows.net/files", InvalidContainerUri::NoSignature),
            ("https://acct.blob.core.windows.net/files?sv=1&mysig=", InvalidContainerUri::NoSignature),
            ("https://acct.blob.core.windows.net?sig=a", InvalidContainerUri::Address),
            ("https://acct.blob.core.windows.net/?sig=a", InvalidContainerUri::Address),
            ("ftp://acct.blob.core.windows.net/files?sig=a", InvalidContainerUri::Address),
            ("https://user:pass@acct.x/files?sig=a", InvalidContainerUri::Address),
            ("https://acct.blob.core.windows.net/No Name?sig=a", InvalidContainerUri::Address),
            ("?sig=a", InvalidContainerUri::Address),
        ] {
            assert_eq!(AccountAddress::of_container(uri), Err(why), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_key_is_printed(text in "([A-Za-z]{0,12}[=;:/.@]{0,2}){0,12}", host in "[a-z./:@-]{0,20}") {
            let whole = format!("AccountName=acct;AccountKey={KEY};BlobEndpoint=https://{host};{text}");
            for text in [&text, &whole] {
                match AccountAddress::parse(text) {
                    Ok(address) => {
                        let printed = format!("{address} {address:?}");
                        prop_assert!(!printed.contains(KEY));
                    }
                    Err(why) => prop_assert!(!why.to_string().contains(KEY)),
                }
            }
        }
    }
}
