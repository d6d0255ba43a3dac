//! A storage account small enough to read: one container in memory behind a real socket. It believes a signature as `storage` says,
//! and misbehaves for blobs whose names say so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use base::{Clock, Key};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use storage::sas::{Permission, Refusal, Target, Use};
use storage::{AccountName, BlobName, ContainerName, Sas, shared_key};
use test_certificates::{Certified, SanType, authority, leaf, with};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(crate) const CONTAINER: &str = "files";
/// Names on one page of a list.
const PAGE: usize = 2;

pub(crate) struct TestAccount {
    address: SocketAddr,
    is_https: bool,
    pub(crate) authority_pem: String,
    inside: Arc<Inside>,
    _serves: JoinSet<()>,
}

struct Inside {
    name: AccountName,
    key: Key,
    clock: Clock,
    is_https: bool,
    blobs: Mutex<BTreeMap<String, Bytes>>,
    asked: AtomicUsize,
}

impl TestAccount {
    pub(crate) async fn start(is_https: bool, clock: Clock) -> Self {
        let authority = Certified::own(authority("account's authority"));
        let localhost = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let own = authority.signs(with(leaf("account"), |params| params.subject_alt_names.push(localhost)));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(own.der.clone())],
                PrivateKeyDer::try_from(own.key_der()).unwrap(),
            );
        let acceptor = is_https.then(|| TlsAcceptor::from(Arc::new(config.unwrap())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::new(Inside {
            name: "acct".parse().unwrap(),
            key: KEY.parse().unwrap(),
            clock,
            is_https,
            blobs: Mutex::default(),
            asked: AtomicUsize::new(0),
        });
        let mut serves = JoinSet::new();
        serves.spawn(accept(listener, acceptor, inside.clone()));
        Self { address, is_https, authority_pem: authority.pem, inside, _serves: serves }
    }

    pub(crate) fn host_name(&self) -> String {
        format!("{}/acct", self.address)
    }

    pub(crate) fn connection_string(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("AccountName=acct;AccountKey={KEY};BlobEndpoint={scheme}://{}/", self.host_name())
    }

    /// How many requests came.
    pub(crate) fn asked(&self) -> usize {
        self.inside.asked.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, inside: Arc<Inside>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, inside) = (acceptor.clone(), inside.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve(tcp, inside).await,
                Some(acceptor) => {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(tls, inside).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, inside: Arc<Inside>) {
    let service = service_fn(|request| {
        let inside = inside.clone();
        async move { Ok::<_, Infallible>(inside.answer(request).await) }
    });
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// The beginning of a body whose connection ends then.
struct Cut(Option<Bytes>);

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = self.0.take().map(Frame::data).ok_or_else(|| io::Error::other("cut"));
        Poll::Ready(Some(next))
    }
}

fn with_body(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn refused(code: &'static str) -> Answer {
    let mut answer = with_body(StatusCode::FORBIDDEN, "");
    answer.headers_mut().insert("x-ms-error-code", code.parse().unwrap());
    answer
}

impl Inside {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let query: Vec<(String, String)> = head
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some((name.to_owned(), percent_decode_str(value).decode_utf8().unwrap().into_owned()))
            })
            .collect();
        let query: Vec<(&str, &str)> =
            query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let path = head.uri.path().strip_prefix("/acct/").unwrap();
        let (container, blob) = path.split_once('/').unwrap_or((path, ""));
        if let Err(code) = self.may(&head, &query, (container, blob)) {
            return refused(code);
        }
        if container != CONTAINER {
            return with_body(StatusCode::NOT_FOUND, "");
        }
        let blob = percent_decode_str(blob).decode_utf8().unwrap().into_owned();
        match (head.method.as_str(), blob.as_str()) {
            ("HEAD", "") => with_body(StatusCode::OK, ""),
            ("GET", "") => self.list(&query),
            (_, "silent") => std::future::pending().await,
            (_, "endless") => with_body(StatusCode::OK, vec![b'x'; base::caps::BLOB_ANSWER_BYTES_MAX + 1]),
            (_, "cut") => {
                let body = Cut(Some(Bytes::from_static(b"xxx"))).boxed();
                Response::builder().header("content-length", 10).body(body).unwrap()
            }
            ("PUT", _) => {
                assert_eq!(head.headers["x-ms-blob-type"], "BlockBlob");
                self.blobs.lock().insert(blob, body);
                with_body(StatusCode::CREATED, "")
            }
            ("DELETE", _) => match self.blobs.lock().remove(&blob) {
                Some(_) => with_body(StatusCode::ACCEPTED, ""),
                None => with_body(StatusCode::NOT_FOUND, ""),
            },
            (method, _) => match self.blobs.lock().get(&blob) {
                None => with_body(StatusCode::NOT_FOUND, ""),
                Some(body) => {
                    let sent = if method == "HEAD" { Bytes::new() } else { body.clone() };
                    let mut answer = with_body(StatusCode::OK, sent);
                    let headers = answer.headers_mut();
                    headers.insert("content-length", body.len().into());
                    headers.insert("last-modified", self.clock.now().rfc1123().parse().unwrap());
                    answer
                }
            },
        }
    }

    fn may(
        &self,
        head: &http::request::Parts,
        query: &[(&str, &str)],
        (container, blob): (&str, &str),
    ) -> Result<(), &'static str> {
        let failed = "AuthenticationFailed";
        let keys = [&self.key, &self.key];
        if let Some(authorization) = head.headers.get("authorization") {
            let authorization: shared_key::Authorization =
                authorization.to_str().unwrap().parse().map_err(|_| failed)?;
            let headers: Vec<(&str, &str)> =
                head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let verb = head.method.as_str();
            let signed = shared_key::Request { verb, headers: &headers, path: head.uri.path(), query };
            return authorization.check(signed, keys, self.clock.now()).map_err(|_| failed);
        }
        let token = Sas::parse(query).map_err(Refusal::code)?.ok_or(failed)?;
        let container: ContainerName = container.parse().unwrap();
        let blob = BlobName::from_path(blob).unwrap();
        let permissions: &[Permission] = match head.method.as_str() {
            "PUT" => &[Permission::Write, Permission::Create],
            "DELETE" => &[Permission::Delete],
            _ => &[Permission::Read],
        };
        let wanted = Use {
            account: &self.name,
            target: Target::Blob(&container, &blob),
            permissions,
            is_https: self.is_https,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            now: self.clock.now(),
            policy: None,
        };
        token.check(keys, wanted).map_err(Refusal::code)
    }

    /// The marker is the first name of the next page.
    fn list(&self, query: &[(&str, &str)]) -> Answer {
        let of = |name: &str| query.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| *value);
        assert_eq!((of("restype"), of("comp")), ("container", "list"));
        let blobs = self.blobs.lock();
        let wanted =
            blobs.keys().filter(|name| name.starts_with(of("prefix")) && name.as_str() >= of("marker"));
        let mut page: Vec<String> = wanted.take(PAGE + 1).map(|name| escaped(name)).collect();
        let marker = if page.len() > PAGE { page.pop().unwrap() } else { String::new() };
        let page: String =
            page.iter().map(|name| format!("<Blob><Name>{name}</Name><Properties/></Blob>")).collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{CONTAINER}\"><Prefix>dev1/</Prefix><Blobs>{page}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        );
        with_body(StatusCode::OK, body)
    }
}

fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
