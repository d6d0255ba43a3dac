//! A blob endpoint as clients see it, by signed requests and by tokens.

use base::hosts::{EveryName, Hosts, Machine, NoMachine};
use base::tasks::Tasks;
use base::{Clock, InstanceId, Key, Scope, Timestamp};
use bytes::Bytes;
use entrance::Peer;
use futures_util::StreamExt;
use storage::{AccountSettings, Accounts, Context, shared_key};

use super::*;
use crate::body::AtHand;
use crate::wire::Body as AnswerBody;

struct Fixture {
    door: BlobDoor,
    account: Account,
    host: String,
    clock: Clock,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.header("x-ms-error-code")), (status, code), "{}", self.text());
        if !code.is_empty() && status != 304 {
            assert!(self.text().contains(&format!("<Code>{code}</Code>")), "{}", self.text());
        }
    }
}

/// Loopback addresses are there, names are not.
struct Addresses;

impl Machine for Addresses {
    fn reach(&self, name: &str) -> base::hosts::Reach {
        NoMachine.reach(name)
    }

    fn listen_also(&self, _: std::net::Ipv4Addr) -> bool {
        true
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::on(EveryName).await
    }

    async fn on(machine: impl Machine + 'static) -> Self {
        let (store, _) = test_store::open();
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let hosts = Hosts::new("example.test", 443, machine);
        let accounts = Accounts::new(Context::new(store, clock.clone(), hosts.clone(), Tasks::new()));
        let instance = InstanceId::from_stored("storage-files1-1");
        let settings =
            AccountSettings::new(instance, "files1".parse().unwrap(), Scope::new("/s"), clock.now());
        let account = accounts.ensure(settings).await.unwrap();
        let host = account.host_name(&base::hosts::Dialled::here());
        Self { door: BlobDoor::new(accounts, hosts, clock.clone()), account, host, clock }
    }

    fn key(&self) -> Key {
        self.account.settings().keys[0].clone()
    }

    async fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(url).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::new(&parts, Peer::default());
        let body = Box::new(AtHand::new(Bytes::copy_from_slice(body)));
        let response = self.door.serve(head, body).await;
        let body = match response.body {
            AnswerBody::Full(bytes) => bytes,
            AnswerBody::Stream(parts) => parts.collect::<Vec<_>>().await.concat().into(),
        };
        Answer { status: response.status.as_u16(), headers: response.headers, body }
    }

    /// Signed with the account's key.
    async fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (date, length) = (self.clock.now().rfc1123(), body.len().to_string());
        let mut all = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2026-10-06")];
        if !body.is_empty() || method == "PUT" {
            all.push(("content-length", &length));
        }
        all.extend(headers);
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let decode =
            |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = shared_key::Request { verb: method, headers: &all, path, query: &pairs };
        let authorization = shared_key::sign(request, self.account.name(), &self.key());
        all.push(("authorization", &authorization));
        self.send(method, url, &all, body).await
    }

    async fn with_container(self) -> Self {
        self.ask("PUT", "/c1x?restype=container", &[], b"").await.is(201, "");
        self
    }

    async fn put(&self, url: &str, body: &[u8]) -> Answer {
        self.ask("PUT", url, &[("x-ms-blob-type", "BlockBlob")], body).await
    }
}

#[tokio::test]
async fn a_blob_is_put_read_described_and_deleted() {
    let f = Fixture::new().await.with_container().await;
    let headers = [
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-blob-content-type", "text/plain"),
        ("x-ms-meta-color", "red"),
        ("x-ms-client-request-id", "mine"),
    ];
    let put = f.ask("PUT", "/c1x/dev%2Fa%20b.txt", &headers, b"hello world").await;
    put.is(201, "");
    assert_eq!(put.header("content-md5"), "XrY7u+Ae7tCTyyK7j1rNww==");
    assert_eq!((put.header("x-ms-version"), put.header("x-ms-client-request-id")), ("2026-10-06", "mine"));
    assert!(put.header("etag").starts_with("\"0x8D") && !put.header("last-modified").is_empty());
    let got = f.ask("GET", "/c1x/dev/a%20b.txt", &[], b"").await;
    got.is(200, "");
    assert_eq!((got.text().as_str(), got.header("content-length")), ("hello world", "11"));
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-meta-color", "red"),
        ("accept-ranges", "bytes"),
        ("x-ms-lease-state", "available"),
        ("x-ms-server-encrypted", "true"),
        ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww=="),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    let part = f
        .ask("GET", "/c1x/dev/a%20b.txt", &[("range", "bytes=0-0"), ("x-ms-range", "bytes=6-99")], b"")
        .await;
    part.is(206, "");
    assert_eq!((part.text().as_str(), part.header("content-range")), ("world", "bytes 6-10/11"));
    assert_eq!(
        (part.header("content-md5"), part.header("x-ms-blob-content-md5")),
        ("", "XrY7u+Ae7tCTyyK7j1rNww==")
    );
    f.ask("GET", "/c1x/dev/a%20b.txt", &[("range", "bytes=11-")], b"").await.is(416, "InvalidRange");
    let described = f.ask("HEAD", "/c1x/dev/a%20b.txt", &[], b"").await;
    described.is(200, "");
    assert_eq!((described.header("content-length"), described.body.len()), ("11", 0));
    f.ask("GET", "/c1x/dev/a%20b.txt", &[("if-none-match", got.header("etag"))], b"")
        .await
        .is(304, "ConditionNotMet");
    f.ask("DELETE", "/c1x/dev/a%20b.txt", &[("if-match", "\"0x8D1\"")], b"").await.is(412, "ConditionNotMet");
    f.ask("DELETE", "/c1x/dev/a%20b.txt", &[], b"").await.is(202, "");
    f.ask("HEAD", "/c1x/dev/a%20b.txt", &[], b"").await.is(404, "BlobNotFound");
}

#[tokio::test]
async fn who_has_no_credentials_or_wrong_ones_is_kept_out_before_the_body_is_read() {
    let f = Fixture::new().await.with_container().await;
    f.send("GET", "/c1x/b", &[], b"").await.is(401, "NoAuthenticationInformation");
    let date = f.clock.now().rfc1123();
    let wrong = [("x-ms-date", date.as_str()), ("authorization", "SharedKey files1:AAAA")];
    f.send("GET", "/c1x/b", &wrong, b"").await.is(403, "AuthenticationFailed");
    let other = [("x-ms-date", date.as_str()), ("authorization", "SharedKey files2:AAAA")];
    f.send("GET", "/c1x/b", &other, b"").await.is(403, "AuthenticationFailed");
    f.send("GET", "/c1x/b?sv=2020-12-06&sr=b&sp=r&se=2099-01-01&sig=AAAA", &[], b"")
        .await
        .is(403, "AuthenticationFailed");
    f.send("GET", "/c1x/b", &[("authorization", "Bearer x")], b"").await.is(403, "AuthenticationFailed");
    f.ask("GET", "/c1x/b", &[("x-ms-versions", "1")], b"").await.is(404, "BlobNotFound");
    for version in ["2017-11-09", "yesterday", "2026-10"] {
        let headers = [("x-ms-version", version)];
        f.send("GET", "/c1x/b", &headers, b"").await.is(400, "InvalidHeaderValue");
    }
}

#[tokio::test]
async fn a_token_for_a_blob_uploads_it_as_devices_do() {
    let f = Fixture::new().await.with_container().await;
    let (container, blob) = ("c1x".parse().unwrap(), "dev1/my file.txt".parse().unwrap());
    let expires = f.clock.now().plus(std::time::Duration::from_secs(60));
    let token = |permissions: &[Permission]| {
        storage::sas::build_for_blob(f.account.name(), (&container, &blob), permissions, expires, &f.key())
    };
    let write = token(&[Permission::Read, Permission::Write]);
    let put = [("x-ms-blob-type", "BlockBlob")];
    f.send("PUT", &format!("/c1x/dev1%2Fmy%20file.txt?{write}"), &put, b"data").await.is(201, "");
    f.send("PUT", &format!("/c1x/dev2%2Fmy%20file.txt?{write}"), &put, b"data")
        .await
        .is(403, "AuthenticationFailed");
    let read = f
        .send("GET", &format!("/c1x/dev1/my%20file.txt?{}&rsct=x", token(&[Permission::Read])), &[], b"")
        .await;
    read.is(403, "AuthenticationFailed");
    f.send("GET", &format!("/c1x/dev1/my%20file.txt?{}", token(&[Permission::Read])), &[], b"")
        .await
        .is(200, "");
    f.send("DELETE", &format!("/c1x/dev1/my%20file.txt?{write}"), &[], b"")
        .await
        .is(403, "AuthorizationPermissionMismatch");
    f.clock.advance(std::time::Duration::from_secs(60));
    f.send("GET", &format!("/c1x/dev1/my%20file.txt?{write}"), &[], b"")
        .await
        .is(403, "AuthenticationFailed");
}

#[tokio::test]
async fn blocks_are_put_and_committed_and_listed() {
    let f = Fixture::new().await.with_container().await;
    for (id, body) in [("YTE%3D", "one"), ("YjI%3D", "two")] {
        f.ask("PUT", &format!("/c1x/b?comp=block&blockid={id}"), &[], body.as_bytes()).await.is(201, "");
    }
    f.ask("HEAD", "/c1x/b", &[], b"").await.is(404, "BlobNotFound");
    let list = "<?xml version='1.0' encoding='utf-8'?>\n<BlockList><Latest>YjI=</Latest><Latest>YTE=</Latest></BlockList>";
    let headers = [("x-ms-blob-content-type", "text/csv"), ("content-type", "application/xml")];
    f.ask("PUT", "/c1x/b?comp=blocklist", &headers, list.as_bytes()).await.is(201, "");
    let got = f.ask("GET", "/c1x/b", &[], b"").await;
    assert_eq!((got.text().as_str(), got.header("content-type")), ("twoone", "text/csv"));
    let lists = f.ask("GET", "/c1x/b?comp=blocklist&blocklisttype=all", &[], b"").await.text();
    assert!(lists.contains("<CommittedBlocks><Block><Name>YjI=</Name><Size>3</Size></Block>"), "{lists}");
    let missing = "<BlockList><Latest>eHg=</Latest></BlockList>";
    f.ask("PUT", "/c1x/b?comp=blocklist", &[], missing.as_bytes()).await.is(400, "InvalidBlockList");
    f.ask("PUT", "/c1x/b?comp=blocklist", &[], b"<x>").await.is(400, "InvalidXmlDocument");
    f.ask("PUT", "/c1x/b?comp=block&blockid=%21", &[], b"x").await.is(400, "InvalidBlockId");
    f.ask("PUT", "/c1x/log", &[("x-ms-blob-type", "AppendBlob")], b"").await.is(201, "");
    let appended = f.ask("PUT", "/c1x/log?comp=appendblock", &[], b"line").await;
    appended.is(201, "");
    assert_eq!(
        (appended.header("x-ms-blob-append-offset"), appended.header("x-ms-blob-committed-block-count")),
        ("0", "1")
    );
}

#[tokio::test]
async fn lists_are_xml_in_one_order_with_tags_unquoted_for_blobs() {
    let f = Fixture::new().await.with_container().await;
    for name in ["a%26b", "d/1", "d/2", "z"] {
        f.put(&format!("/c1x/{name}"), b"x").await.is(201, "");
    }
    let list =
        f.ask("GET", "/c1x?restype=container&comp=list&delimiter=%2F&include=metadata", &[], b"").await;
    let text = list.text();
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    assert!(place("<Name>a&amp;b</Name>") < place("<BlobPrefix><Name>d/</Name></BlobPrefix>"));
    assert!(place("<BlobPrefix>") < place("<Name>z</Name>"));
    assert!(text.contains("<Etag>0x8D") && text.contains("ContainerName=\"c1x\""));
    let first = f.ask("GET", "/c1x?restype=container&comp=list&maxresults=1", &[], b"").await.text();
    let marker = first.split("<NextMarker>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let second =
        f.ask("GET", &format!("/c1x?restype=container&comp=list&marker={marker}"), &[], b"").await.text();
    assert!(
        !second.contains("a&amp;b")
            && second.contains("<Name>d/1</Name>")
            && second.contains("<NextMarker />")
    );
    let containers = f.ask("GET", "/?comp=list", &[], b"").await.text();
    assert!(
        containers.contains("<Name>c1x</Name>") && containers.contains("<Etag>&quot;0x8D"),
        "{containers}"
    );
    f.ask("GET", "/c1x?restype=container&comp=list&maxresults=x", &[], b"")
        .await
        .is(400, "InvalidQueryParameterValue");
}

#[tokio::test]
async fn policies_and_properties_go_through_the_door() {
    let f = Fixture::new().await.with_container().await;
    let policies = "<SignedIdentifiers><SignedIdentifier><Id>p</Id><AccessPolicy><Permission>r</Permission></AccessPolicy></SignedIdentifier></SignedIdentifiers>";
    f.ask("PUT", "/c1x?restype=container&comp=acl", &[], policies.as_bytes()).await.is(200, "");
    let told = f.ask("GET", "/c1x?restype=container&comp=acl", &[], b"").await.text();
    assert!(told.contains("<Id>p</Id><AccessPolicy><Permission>r</Permission></AccessPolicy>"), "{told}");
    f.ask("PUT", "/c1x?restype=container&comp=metadata", &[("x-ms-meta-a", "1")], b"").await.is(200, "");
    assert_eq!(f.ask("HEAD", "/c1x?restype=container", &[], b"").await.header("x-ms-meta-a"), "1");
    f.ask("PUT", "/c2x?restype=container", &[("x-ms-blob-public-access", "blob")], b"")
        .await
        .is(409, "PublicAccessNotPermitted");
    f.put("/c1x/b", b"x").await.is(201, "");
    f.ask("PUT", "/c1x/b?comp=properties", &[("x-ms-blob-content-type", "a/b")], b"").await.is(200, "");
    f.ask("PUT", "/c1x/b?comp=metadata", &[("x-ms-meta-m", "v")], b"").await.is(200, "");
    let described = f.ask("HEAD", "/c1x/b", &[], b"").await;
    assert_eq!((described.header("content-type"), described.header("x-ms-meta-m")), ("a/b", "v"));
    assert_eq!(
        f.ask("GET", "/?restype=account&comp=properties", &[], b"").await.header("x-ms-account-kind"),
        "StorageV2"
    );
    assert!(f.ask("GET", "/?restype=service&comp=properties", &[], b"").await.text().contains("<Cors />"));
    f.ask("DELETE", "/c1x?restype=container", &[], b"").await.is(202, "");
    f.ask("GET", "/c1x?restype=container", &[], b"").await.is(404, "ContainerNotFound");
}

#[tokio::test]
async fn what_is_not_there_yet_and_what_never_was_are_told_apart() {
    let f = Fixture::new().await.with_container().await;
    f.put("/c1x/b", b"x").await.is(201, "");
    f.ask("PUT", "/c1x/b?comp=lease", &[("x-ms-lease-action", "acquire")], b"")
        .await
        .is(501, "NotImplemented");
    f.ask("PUT", "/c1x/d", &[("x-ms-copy-source", "https://x/y")], b"").await.is(501, "NotImplemented");
    f.ask("PUT", "/c1x/d", &[("x-ms-blob-type", "PageBlob")], b"").await.is(501, "NotImplemented");
    f.ask("GET", "/c1x/b?snapshot=2020-01-01T00:00:00Z", &[], b"").await.is(501, "NotImplemented");
    f.ask("PUT", "/c1x/d", &[], b"").await.is(400, "MissingRequiredHeader");
    f.ask("GET", "/c1x/b?comp=nonsense", &[], b"").await.is(400, "InvalidQueryParameterValue");
    f.ask("PATCH", "/c1x/b", &[], b"").await.is(405, "UnsupportedHttpVerb");
    f.ask("GET", "/c1x/..%2Fc2x%2Fb", &[], b"").await.is(400, "InvalidResourceName");
    f.ask("PUT", "/ab?restype=container", &[], b"").await.is(400, "OutOfRangeInput");
    f.ask("PUT", "/AB?restype=container", &[], b"").await.is(400, "OutOfRangeInput");
    f.ask("PUT", "/Abc?restype=container", &[], b"").await.is(400, "InvalidResourceName");
}

#[tokio::test]
async fn at_an_address_the_account_may_lead_the_path() {
    let f = Fixture::on(Addresses).await;
    assert!(f.host.starts_with("127.0."), "{}", f.host);
    let f = f.with_container().await;
    f.put("/files1/c1x/a/b", b"in the path").await.is(201, "");
    assert_eq!(f.ask("GET", "/c1x/a/b", &[], b"").await.text(), "in the path");
    let list = f.ask("GET", "/files1/c1x?restype=container&comp=list", &[], b"").await.text();
    assert!(list.contains(&format!("ServiceEndpoint=\"https://{}/files1/\"", f.host)), "{list}");
    assert!(f.ask("GET", "/files1?comp=list", &[], b"").await.text().contains("<Name>c1x</Name>"));
}

#[test]
fn every_operation_is_asked_for_in_its_own_way() {
    let mut seen = std::collections::BTreeSet::new();
    for operation in OPERATIONS {
        assert!(seen.insert((operation.info.method, operation.info.template)), "{operation:?}");
    }
}
