//! What a service says when it refuses, out of the envelopes that Azure's services put it in.

use std::fmt;

use base::caps;
use serde_json::Value;

use super::Answer;

/// An answer other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// The service's own name of it, such as `DeviceNotFound`; empty where it gives none.
    pub code: String,
    pub message: String,
}

impl Refusal {
    /// `None` for an answer that is a success.
    pub fn of(answer: &Answer) -> Option<Self> {
        if answer.status.is_success() {
            return None;
        }
        let (code, message) = envelope(&answer.json());
        let named = answer.header("iothub-errorcode").or_else(|| answer.header("x-ms-error-code"));
        let plain = || {
            String::from_utf8_lossy(&answer.body).chars().take(caps::CLIENT_REFUSAL_CHARACTERS_MAX).collect()
        };
        Some(Self {
            status: answer.status.as_u16(),
            code: named.map_or(code, str::to_owned),
            message: if message.is_empty() { plain() } else { message },
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message } = self;
        match (code.as_str(), message.as_str()) {
            ("", "") => write!(f, "{status}"),
            ("", message) => write!(f, "{message} ({status})"),
            (code, message) => write!(f, "{message} ({status} {code})"),
        }
    }
}

/// Code and message: a hub's `{"Message": "ErrorCode:Name;text"}`, where the text may be JSON of its own; a provisioning service's
/// `{"errorCode", "message"}`; Resource Manager's and Digital Twins' `{"error": {"code", "message"}}`; Entra's
/// `{"error", "error_description"}`.
fn envelope(body: &Value) -> (String, String) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if let Some(said) = body["Message"].as_str() {
        if let Ok(nested @ Value::Object(_)) = serde_json::from_str(said) {
            return envelope(&nested);
        }
        let named = said.strip_prefix("ErrorCode:").and_then(|rest| rest.split_once(';'));
        return named
            .map_or((String::new(), said.to_owned()), |(code, text)| (code.to_owned(), text.to_owned()));
    }
    if body["error"].is_object() {
        return (text(&body["error"]["code"]), text(&body["error"]["message"]));
    }
    if body["error_description"].is_string() {
        return (text(&body["error"]), text(&body["error_description"]));
    }
    (text(&body["errorCode"]), text(&body["message"]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn refused(status: u16, body: &'static str) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
        Refusal::of(&answer).unwrap()
    }

    #[test]
    fn every_envelope_gives_its_code_and_its_text() {
        for (body, said) in [
            (
                r#"{"Message":"ErrorCode:DeviceNotFound;Device d not registered.","ExceptionMessage":""}"#,
                "Device d not registered. (404 DeviceNotFound)",
            ),
            (
                r#"{"Message":"{\"errorCode\":404103,\"message\":\"not online\",\"info\":null}","ExceptionMessage":""}"#,
                "not online (404 404103)",
            ),
            (
                r#"{"errorCode":404201,"trackingId":"t","message":"Enrollment not found."}"#,
                "Enrollment not found. (404 404201)",
            ),
            (
                r#"{"error":{"code":"ResourceNotFound","message":"no such hub"}}"#,
                "no such hub (404 ResourceNotFound)",
            ),
            (
                r#"{"error":"invalid_client","error_description":"wrong secret"}"#,
                "wrong secret (404 invalid_client)",
            ),
            ("<html>gateway</html>", "<html>gateway</html> (404)"),
            ("", "404"),
        ] {
            assert_eq!(refused(404, body).to_string(), said);
        }
    }
}
