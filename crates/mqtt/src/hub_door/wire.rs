//! The JSON that the hub's connection writes itself: the error behind a twin response (`iothub-device.md` §6.5).

use base::Timestamp;
use base::secret::random_hex;
use bytes::Bytes;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: u32,
    tracking_id: String,
    message: String,
    timestamp_utc: String,
}

pub(super) fn error_body(error: &hub::Error, now: Timestamp) -> Bytes {
    let body = ErrorBody {
        error_code: error.code(),
        tracking_id: format!("{}-G:0-TimeStamp:{}", random_hex(16), now.us_seconds()),
        message: error.to_string(),
        timestamp_utc: now.iso7(),
    };
    serde_json::to_vec(&body).expect("texts and numbers are JSON").into()
}
