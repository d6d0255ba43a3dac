//! The blob endpoint of storage accounts (`messaging.md` §4): by host `{account}.blob.{domain}/{container}/{blob}`, at an address also
//! `/{account}/{container}/{blob}`. It has no routes of words, since blobs may be called anything; the pipeline is that of every door:
//! what is meant, who asks, and only then the body, which here goes on in parts.

mod blobs;
mod containers;
mod error;
mod headers;
mod operations;
#[cfg(test)]
mod tests;
mod xml;

use std::net::IpAddr;
use std::sync::Arc;

use base::Clock;
use base::hosts::{Host, Hosts, Service, strip_port};
use base::measure::{Histogram, REQUEST_MICROS, Stopwatch};
use storage::sas::{Permission, Target};
use storage::shared_key::Authorization;
use storage::{Account, Accounts, At, BlobName, Caller, ContainerName, Sas, shared_key};

use self::error::Refusal;
use self::operations::{Level, OPERATIONS, What};
use crate::body::RequestBody;
use crate::counted::{Answers, Counted};
use crate::front::{AnyDoor, Body, Served};
use crate::router::{Fault, RouteInfo};
use crate::wire::{Head, Response};

/// Any of these makes a token one that can be of use here.
const ANY: [Permission; 6] = [
    Permission::Read,
    Permission::Add,
    Permission::Create,
    Permission::Write,
    Permission::Delete,
    Permission::List,
];
/// The oldest version whose requests are those that are answered here, and what is said to who names none.
const OLDEST_VERSION: &str = "2018-03-28";
const USUAL_VERSION: &str = "2026-10-06";

/// The door, with what is counted of its answers.
pub struct BlobDoor {
    accounts: Accounts,
    hosts: Hosts,
    clock: Clock,
    answers: Vec<Arc<Answers>>,
    unknown: Arc<Answers>,
    latency: Arc<Histogram>,
}

/// A request that has been understood, and whose sender is known.
struct Asked<'a> {
    head: &'a Head,
    account: &'a Account,
    caller: &'a Caller,
    /// Of the account, where the path begins with it.
    is_path_style: bool,
}

type Outcome = Result<Response, Refusal>;

/// Every operation that there is, for who looks whether the documents tell of it.
pub fn routes() -> Vec<RouteInfo> {
    OPERATIONS.iter().map(|operation| operation.info).collect()
}

/// What a path names, below its account.
enum Named {
    Service,
    Container(ContainerName),
    Blob(ContainerName, BlobName),
}

impl Named {
    fn parse(path: &str) -> Result<Self, Refusal> {
        let (container, blob) = path.split_once('/').unwrap_or((path, ""));
        if container.is_empty() {
            return Ok(Self::Service);
        }
        let decoded = percent_encoding::percent_decode_str(container).decode_utf8();
        let container = decoded.map_err(|_| storage::InvalidName::Characters)?.parse()?;
        if blob.is_empty() {
            return Ok(Self::Container(container));
        }
        Ok(Self::Blob(container, BlobName::from_path(blob)?))
    }

    fn level(&self) -> Level {
        match self {
            Self::Service => Level::Service,
            Self::Container(_) => Level::Container,
            Self::Blob(..) => Level::Blob,
        }
    }

    fn target(&self) -> Target<'_> {
        match self {
            Self::Service => Target::Service,
            Self::Container(container) => Target::Container(container),
            Self::Blob(container, blob) => Target::Blob(container, blob),
        }
    }

    fn container(&self) -> Result<&ContainerName, Refusal> {
        match self {
            Self::Container(container) | Self::Blob(container, _) => Ok(container),
            Self::Service => Err(Refusal::Fault(Fault::UnknownPath)),
        }
    }

    fn blob(&self) -> Result<At<'_>, Refusal> {
        match self {
            Self::Blob(container, blob) => Ok((container, blob)),
            Self::Service | Self::Container(_) => Err(Refusal::Fault(Fault::UnknownPath)),
        }
    }
}

impl Asked<'_> {
    /// As lists name it.
    fn endpoint(&self) -> String {
        let account = if self.is_path_style { format!("{}/", self.account.name()) } else { String::new() };
        format!("{}/{account}", self.head.base_url())
    }

    fn require_key(&self) -> Result<(), Refusal> {
        match self.caller {
            Caller::Key => Ok(()),
            Caller::Sas { .. } => Err(storage::Error::Refused(storage::sas::Refusal::Permission).into()),
        }
    }

    async fn answer(&self, what: What, named: &Named, body: &mut dyn RequestBody) -> Outcome {
        match what {
            What::ListContainers => containers::list(self).await,
            What::ServiceProperties => containers::service_properties(self),
            What::AccountProperties => Ok(containers::account_properties()),
            What::CreateContainer => containers::create(self, named.container()?).await,
            What::GetContainer => containers::get(self, named.container()?).await,
            What::DeleteContainer => containers::delete(self, named.container()?).await,
            What::SetContainerMetadata => containers::set_metadata(self, named.container()?).await,
            What::GetPolicies => containers::get_policies(self, named.container()?).await,
            What::SetPolicies => containers::set_policies(self, named.container()?, body).await,
            What::ListBlobs => containers::list_blobs(self, named.container()?).await,
            What::PutBlob => blobs::put(self, named.blob()?, body).await,
            What::PutBlock => blobs::put_block(self, named.blob()?, body).await,
            What::PutBlockList => blobs::put_block_list(self, named.blob()?, body).await,
            What::GetBlockList => blobs::get_block_list(self, named.blob()?).await,
            What::AppendBlock => blobs::append(self, named.blob()?, body).await,
            What::GetBlob => blobs::get(self, named.blob()?).await,
            What::GetBlobProperties => blobs::get_properties(self, named.blob()?).await,
            What::DeleteBlob => blobs::delete(self, named.blob()?).await,
            What::SetBlobMetadata => blobs::set_metadata(self, named.blob()?).await,
            What::SetBlobProperties => blobs::set_properties(self, named.blob()?).await,
            What::Nothing => Err(Refusal::Fault(Fault::UnknownPath)),
        }
    }
}

impl BlobDoor {
    pub fn new(accounts: Accounts, hosts: Hosts, clock: Clock) -> Self {
        let answers = OPERATIONS.iter().map(|_| Arc::default()).collect();
        let latency = Arc::new(Histogram::new(REQUEST_MICROS));
        Self { accounts, hosts, clock, answers, unknown: Arc::default(), latency }
    }

    async fn answer(&self, head: &Head, body: &mut dyn RequestBody) -> (Outcome, &Answers) {
        let understood = self.understand(head);
        let (account, named, is_path_style, at) = match understood {
            Ok(understood) => understood,
            Err(refusal) => return (Err(refusal), &self.unknown),
        };
        let (operation, answers) = (&OPERATIONS[at], &self.answers[at]);
        if operation.what == What::Nothing {
            return (Err(Refusal::NotBuilt(operation.info.operation)), answers);
        }
        let caller = match enter(head, &account, &named).await {
            Ok(caller) => caller,
            Err(refusal) => return (Err(refusal), answers),
        };
        head.peer.proof.give();
        let asked = Asked { head, account: &account, caller: &caller, is_path_style };
        (asked.answer(operation.what, &named, body).await, answers)
    }

    /// The account, what the path names below it, whether it begins with the account, and the place of the operation.
    fn understand(&self, head: &Head) -> Result<(Account, Named, bool, usize), Refusal> {
        if let Some(malformed) = head.malformed {
            return Err(Refusal::Fault(Fault::Malformed(malformed)));
        }
        check_version(head)?;
        let Host::Instance(Service::Storage, name) = self.hosts.resolve(&head.host, head.local()) else {
            return Err(Refusal::UnknownAccount);
        };
        let account = self.accounts.find(&name).ok_or(Refusal::UnknownAccount)?;
        let path = head.raw_path.strip_prefix('/').unwrap_or(&head.raw_path);
        let below = path_below(path, &head.host, &name);
        let named = Named::parse(below.unwrap_or(path))?;
        let at = operations::find(head, named.level())?;
        Ok((account, named, below.is_some(), at))
    }

    fn finish(head: &Head, response: Response) -> Response {
        let version = head.header("x-ms-version").unwrap_or(USUAL_VERSION);
        let response = response
            .header("server", "twinhub")
            .header("x-ms-request-id", &head.request_id.to_string())
            .header("x-ms-version", version);
        match head.header("x-ms-client-request-id") {
            Some(id) => response.header("x-ms-client-request-id", id),
            None => response,
        }
    }
}

/// What follows the account in a path that begins with it. Clients write it so where the host is an address, which names no account.
fn path_below<'p>(path: &'p str, host: &str, account: &str) -> Option<&'p str> {
    strip_port(host).parse::<IpAddr>().ok()?;
    let rest = path.strip_prefix(account)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// A date: whatever is newer than what is known is asked by clients that are newer.
fn check_version(head: &Head) -> Result<(), Refusal> {
    let Some(version) = head.header("x-ms-version") else { return Ok(()) };
    let is_date = version.len() == OLDEST_VERSION.len()
        && version.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if is_date && version >= OLDEST_VERSION { Ok(()) } else { Err(Refusal::Header("x-ms-version")) }
}

/// Who asks. Sees no body.
async fn enter(head: &Head, account: &Account, named: &Named) -> Result<Caller, Refusal> {
    let query: Vec<(&str, &str)> = head.query_pairs().collect();
    if let Some(text) = head.authorization() {
        let authorization: Authorization = text.parse().map_err(|_| {
            storage::Error::AuthenticationFailed("its authorization is of no kind that is taken here")
        })?;
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let request = shared_key::Request {
            verb: head.method.as_str(),
            headers: &headers,
            path: &head.raw_path,
            query: &query,
        };
        return Ok(account.check(&authorization, request)?);
    }
    let sas = Sas::parse(&query).map_err(storage::Error::from)?.ok_or(Refusal::NoCredentials)?;
    let peer = head.peer.remote_address().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let caller = Caller::Sas { sas: Box::new(sas), is_https: true, peer };
    account.permit(&caller, named.target(), &ANY).await?;
    Ok(caller)
}

impl AnyDoor for BlobDoor {
    fn name(&self) -> &'static str {
        "storage"
    }

    /// Only its hosts lead here.
    fn knows_path(&self, _: &Head) -> bool {
        false
    }

    fn knows_beginning(&self, _: &Head) -> bool {
        false
    }

    fn routes(&self) -> Vec<RouteInfo> {
        routes()
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        let response = Self::finish(head, Refusal::from(fault).answer(head, self.clock.now()));
        self.unknown.note(response.status);
        response
    }

    fn counted(&self) -> Counted {
        let operations = OPERATIONS.iter().zip(&self.answers);
        let operations = operations.map(|(operation, answers)| (operation.info.operation, answers.clone()));
        Counted::new(self.name(), operations.collect(), self.unknown.clone(), self.latency.clone())
    }

    fn serve<'a>(&'a self, head: Head, mut body: Body<'a>) -> Served<'a> {
        Box::pin(async move {
            let watch = Stopwatch::start();
            let (outcome, answers) = self.answer(&head, &mut *body).await;
            let response = outcome.unwrap_or_else(|refusal| refusal.answer(&head, self.clock.now()));
            answers.note(response.status);
            self.latency.observe(watch.elapsed());
            Self::finish(&head, response)
        })
    }
}
