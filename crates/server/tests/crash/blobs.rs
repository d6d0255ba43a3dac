//! Blobs whose bytes tell what they ought to be, at the account of a server that is killed and started again.

use std::convert::Infallible;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use md5::{Digest, Md5};
use server::client::Answer;
use storage::{AccountAddress, Credential, shared_key};

use super::*;

const CONTAINER: &str = "crash";
/// Written over again and again.
const HOT: &str = "hot";
/// Of the largest; a chunk is shorter.
const LONG_BYTES: usize = base::caps::CHUNK_BYTES_MAX + 10_000;

/// What is known of a blob by what its writer was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// There, whole, or not there.
    Tried,
    There,
    Deleting,
    Gone,
}

#[derive(Default)]
struct Shelf {
    /// With what its bytes come from.
    blobs: BTreeMap<String, (Pen, Fate)>,
    /// Those of which this life knows more than the last look does.
    fresh: BTreeSet<String>,
    put: u64,
    listed: u64,
    /// The number of the last content of `HOT` that was answered, and of the last that was tried.
    hot: (u64, u64),
}

/// Makes bytes out of a number, always the same.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pen(u64);

impl Pen {
    /// Its number comes first.
    fn bytes(self) -> Vec<u8> {
        let mut rng = Rng::with_seed(self.0);
        let length = if rng.u8(0..12) == 0 { LONG_BYTES } else { rng.usize(8..100_000) };
        let mut bytes = self.0.to_le_bytes().to_vec();
        bytes.resize_with(length, || rng.u8(..));
        bytes
    }
}

fn md5_of(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

pub(crate) struct Blobs {
    https: Https,
    address: Mutex<AccountAddress>,
    shelf: Mutex<Shelf>,
}

type Acts = Result<Infallible, ClientError>;

fn address(server: &Server) -> AccountAddress {
    AccountAddress::parse(server.variable("AZURE_STORAGE_CONNECTION_STRING")).unwrap()
}

impl Blobs {
    pub(crate) async fn furnish(https: Https, server: &Server) -> Self {
        let blobs = Self { https, address: Mutex::new(address(server)), shelf: Mutex::default() };
        let made = blobs.send("PUT", "", &[("restype", "container")], &[], Vec::new()).await.unwrap();
        assert_eq!(made.status, 201);
        blobs
    }

    pub(crate) fn move_to(&self, server: &Server) {
        *self.address.lock().unwrap() = address(server);
    }

    pub(crate) fn counts(&self) -> [u64; 3] {
        let shelf = self.shelf.lock().unwrap();
        [shelf.put, shelf.listed, shelf.hot.0]
    }

    /// Signed with the account's key, as the clients of storage do it.
    async fn send(
        &self,
        method: &str,
        blob: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let address = self.address.lock().unwrap().clone();
        let Credential::Key(key) = &address.credential else { panic!("a key") };
        let base = address.container_path(&CONTAINER.parse().unwrap());
        let path = if blob.is_empty() { base } else { format!("{base}/{blob}") };
        let (date, length) = (Clock::system().now().rfc1123(), body.len().to_string());
        let mut sent = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2026-10-06")];
        sent.extend(headers);
        let signed: Vec<_> = sent.iter().copied().chain([("content-length", length.as_str())]).collect();
        let request = shared_key::Request { verb: method, headers: &signed, path: &path, query };
        let authorization = shared_key::sign(request, &address.name, key);
        sent.push(("authorization", &authorization));
        let escape = |text: &str| text.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F");
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let url = format!("https://{}{path}?{}", address.authority, query.join("&"));
        let told = self.https.send(method, &url, &sent, body).await;
        told.map_err(|error| ClientError::Broken(format!("{method} {url}: {error}")))
    }

    async fn insist(
        &self,
        status: u16,
        method: &str,
        blob: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let answer = self.send(method, blob, query, headers, body).await?;
        assert_eq!(
            answer.status,
            status,
            "{method} {blob} {query:?}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        Ok(answer)
    }

    fn note(&self, name: &str, pen: Pen, fate: Fate) {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.blobs.insert(name.to_owned(), (pen, fate));
        shelf.fresh.insert(name.to_owned());
    }

    /// One blob after another; some are deleted again.
    pub(crate) async fn puts(&self, who: &str, from: u64, mut rng: Rng) -> Acts {
        for number in from.. {
            let (name, pen) = (format!("{who}-{number}"), Pen(rng.u64(..)));
            self.note(&name, pen, Fate::Tried);
            self.insist(201, "PUT", &name, &[], &[("x-ms-blob-type", "BlockBlob")], pen.bytes()).await?;
            self.note(&name, pen, Fate::There);
            self.shelf.lock().unwrap().put += 1;
            if rng.u8(0..4) == 0 {
                self.note(&name, pen, Fate::Deleting);
                self.insist(202, "DELETE", &name, &[], &[], Vec::new()).await?;
                self.note(&name, pen, Fate::Gone);
            }
        }
        unreachable!("numbers do not end")
    }

    /// Blobs in a few blocks, none of which is seen before the list is there.
    pub(crate) async fn puts_blocks(&self, from: u64, mut rng: Rng) -> Acts {
        for number in from.. {
            let (name, pen) = (format!("blocks-{number}"), Pen(rng.u64(..)));
            self.note(&name, pen, Fate::Tried);
            let (bytes, count) = (pen.bytes(), rng.usize(1..5));
            let ids = self.puts_blocks_of(&name, &bytes, count).await?;
            self.insist(404, "HEAD", &name, &[], &[], Vec::new()).await?;
            self.lists(&name, &bytes, &ids).await?;
            self.note(&name, pen, Fate::There);
            self.shelf.lock().unwrap().listed += 1;
        }
        unreachable!("numbers do not end")
    }

    async fn puts_blocks_of(
        &self,
        name: &str,
        bytes: &[u8],
        count: usize,
    ) -> Result<Vec<String>, ClientError> {
        let mut ids = Vec::new();
        for (at, block) in bytes.chunks(bytes.len().div_ceil(count)).enumerate() {
            let id = STANDARD.encode(format!("{at:06}"));
            let query = [("comp", "block"), ("blockid", id.as_str())];
            self.insist(201, "PUT", name, &query, &[], block.to_vec()).await?;
            ids.push(id);
        }
        Ok(ids)
    }

    async fn lists(&self, name: &str, bytes: &[u8], ids: &[String]) -> Result<(), ClientError> {
        let ids: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        let list = format!("<BlockList>{ids}</BlockList>").into_bytes();
        let (query, md5) = ([("comp", "blocklist")], md5_of(bytes));
        self.insist(201, "PUT", name, &query, &[("x-ms-blob-content-md5", &md5)], list).await.map(drop)
    }

    /// One blob, in whole and in blocks by turns.
    pub(crate) async fn writes_over(&self, mut rng: Rng) -> Acts {
        loop {
            let number = {
                let mut shelf = self.shelf.lock().unwrap();
                shelf.hot.1 += 1;
                shelf.hot.1
            };
            let bytes = Pen(number).bytes();
            if rng.bool() {
                self.insist(201, "PUT", HOT, &[], &[("x-ms-blob-type", "BlockBlob")], bytes).await?;
            } else {
                let count = rng.usize(1..5);
                let ids = self.puts_blocks_of(HOT, &bytes, count).await?;
                self.lists(HOT, &bytes, &ids).await?;
            }
            self.shelf.lock().unwrap().hot.0 = number;
        }
    }

    pub(crate) async fn reads_what_is_written_over(&self) -> Acts {
        loop {
            self.reads_hot().await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whole, and none of those before the one that was acknowledged when it was asked for.
    async fn reads_hot(&self) -> Result<Option<u64>, ClientError> {
        let least = self.shelf.lock().unwrap().hot.0;
        let answer = self.send("GET", HOT, &[], &[], Vec::new()).await?;
        let most = self.shelf.lock().unwrap().hot.1;
        if answer.status == 404 {
            assert_eq!(least, 0, "{HOT} was acknowledged and is gone");
            return Ok(None);
        }
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let number = u64::from_le_bytes(answer.body[..8].try_into().unwrap());
        assert!((least..=most).contains(&number), "{HOT} is {number}, which is none of {least} to {most}");
        is_whole(HOT, Pen(number), &answer);
        Ok(Some(number))
    }

    /// Looks at everything that has been touched since the last look.
    pub(crate) async fn are_as_answered(&self) {
        let fresh = std::mem::take(&mut self.shelf.lock().unwrap().fresh);
        for name in fresh {
            let (pen, fate) = self.shelf.lock().unwrap().blobs[&name];
            let answer = self.send("GET", &name, &[], &[], Vec::new()).await.unwrap();
            let is_there = answer.status != 404;
            match fate {
                Fate::There => assert!(is_there, "{name} was acknowledged and is gone"),
                Fate::Gone => assert!(!is_there, "{name} was deleted and is there"),
                Fate::Tried | Fate::Deleting => {}
            }
            if is_there {
                is_whole(&name, pen, &answer);
            }
        }
        let number = self.reads_hot().await.unwrap().unwrap_or_default();
        // What was in flight is there or will never be.
        let mut shelf = self.shelf.lock().unwrap();
        shelf.hot.0 = number;
    }
}

fn is_whole(name: &str, pen: Pen, answer: &Answer) {
    let expected = pen.bytes();
    assert!(
        answer.body == expected,
        "{name} has {} bytes, and not its {}",
        answer.body.len(),
        expected.len()
    );
    assert_eq!(answer.header("content-md5"), Some(md5_of(&expected).as_str()), "{name}");
}
