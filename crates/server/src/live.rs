//! Asks the running server of a data directory, with the admin key that lies there. For commands that want its live control.

use std::net::SocketAddr;
use std::path::Path;

use base::Secret;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use server::client::{Https, Trust};

use crate::run_file::RunFile;
use crate::{Failure, admin_key, data_directory};

pub(crate) struct Live {
    https: Https,
    authority: SocketAddr,
    key: Secret,
}

impl Live {
    pub(crate) fn of_running(data_dir: &Path) -> Result<Self, Failure> {
        let run = RunFile::of_running(data_dir)?;
        let key = admin_key::read(data_dir)?;
        let trust_file = run.environment.get("TWINHUB_CA_FILE").map(String::as_str).unwrap_or_default();
        let https = Https::new(Trust::only(&data_directory::read(Path::new(trust_file))?)?);
        Ok(Self { https, authority: SocketAddr::new(run.address, run.https_port), key })
    }

    /// A whole answer of JSON; what the server has against it is the error.
    pub(crate) async fn json(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let body = self.follow(method, path).await?.collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }

    /// An answer of JSON to what is said in JSON; what the server has against it is the error.
    pub(crate) async fn tell(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("https://{}{path}", self.authority);
        let authorization = format!("Bearer {}", self.key.expose());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let answer = self.https.send(method, &url, &headers, body.to_string()).await?;
        if answer.status.is_success() {
            Ok(answer.json())
        } else {
            Err(refusal(answer.status, &answer.json()))
        }
    }

    /// The answer as it comes; what the server has against it is the error.
    pub(crate) async fn follow(&self, method: &str, path: &str) -> Result<Incoming, Failure> {
        let url = format!("https://{}{path}", self.authority);
        let authorization = format!("Bearer {}", self.key.expose());
        let (status, body) = self.https.follow(method, &url, &[("authorization", &authorization)]).await?;
        if status.is_success() {
            return Ok(body);
        }
        let said: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
        Err(refusal(status, &said))
    }
}

fn refusal(status: http::StatusCode, said: &Value) -> Failure {
    let message = said["error"]["message"].as_str().unwrap_or("the server refused");
    format!("{message} ({status})").into()
}
