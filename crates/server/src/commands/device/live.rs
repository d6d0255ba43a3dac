//! Twins, and methods of devices that are connected.

use std::time::Duration;

use serde_json::{Map, Value, json};
use server::client::ClientError;
use server::out;

use super::fault::Doing;
use super::hub::Hub;
use super::identity::{self, path, spoken};
use super::{At, InvokeArgs, SetArgs, TwinArgs, TwinChange, fault};
use crate::Failure;

/// What the way there and back may take beside the method.
const ON_THE_WAY: Duration = Duration::from_secs(15);

pub(super) async fn invoke(at: &At, args: &InvokeArgs) -> Result<(), Failure> {
    let id = identity::parse(&args.who.name, args.who.module.as_deref())?;
    let mut call = json!({
        "methodName": args.method,
        "responseTimeoutInSeconds": args.timeout,
        "connectTimeoutInSeconds": args.connect_timeout,
    });
    if let Some(payload) = &args.payload {
        call["payload"] = serde_json::from_str(payload).map_err(|error| {
            format!("--payload is not JSON ({error}): a text wants quotes, as in --payload '\"text\"'")
        })?;
    }
    let hub = Hub::find(at).await?;
    let limit = Duration::from_secs(args.timeout + args.connect_timeout) + ON_THE_WAY;
    let answer = match hub.call_within(limit, &format!("{}/methods", path("twins", &id)), &call).await {
        Ok(answer) => answer,
        Err(ClientError::Service(refusal)) if refusal.code == "GatewayTimeout" => {
            return Err(format!(
                "{} took the method {} but did not answer within {} s: see whether its client answers it, or give it more with \
                 --timeout SECONDS",
                spoken(&id), args.method, args.timeout
            )
            .into());
        }
        Err(error) => return Err(fault::explain(&hub, &id, Doing::Use, error).await),
    };
    if at.json {
        out::line(answer);
    } else {
        out::line(format_args!("status {}\n{:#}", answer["status"], answer["payload"]));
    }
    Ok(())
}

pub(super) async fn twin(at: &At, args: &TwinArgs) -> Result<(), Failure> {
    let id = identity::parse(&args.name, args.module.as_deref())?;
    let patch = match &args.change {
        None => None,
        Some(TwinChange::Set(set)) => Some(patch(set)?),
    };
    let hub = Hub::find(at).await?;
    let path = path("twins", &id);
    let twin = match &patch {
        None => hub.get(&path).await,
        Some(patch) => hub.call("PATCH", &path, &[], patch).await,
    };
    match twin {
        Ok(twin) if at.json => out::line(twin),
        Ok(twin) => out::line(format_args!("{twin:#}")),
        Err(error) => return Err(fault::explain(&hub, &id, Doing::Use, error).await),
    }
    Ok(())
}

fn patch(args: &SetArgs) -> Result<Value, Failure> {
    let values = values(&args.values)?;
    Ok(if args.tags { json!({"tags": values}) } else { json!({"properties": {"desired": values}}) })
}

/// One object of JSON, or `a.b=1` pairs made into one.
fn values(given: &[String]) -> Result<Value, Failure> {
    if let [only] = given
        && only.trim_start().starts_with('{')
    {
        return serde_json::from_str(only).map_err(|error| format!("{only} is not JSON: {error}").into());
    }
    let mut all = Map::new();
    for pair in given {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            format!("{pair} is neither KEY=VALUE nor the only argument and a JSON object: write temperature=21 or '{{\"temperature\":21}}'")
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        set(&mut all, key, value)
            .ok_or_else(|| format!("{key} is given twice, or beside a value of which it is a part"))?;
    }
    Ok(Value::Object(all))
}

/// `None` where something else stands there already.
fn set(object: &mut Map<String, Value>, key: &str, value: Value) -> Option<()> {
    match key.split_once('.') {
        None if object.contains_key(key) => None,
        None => {
            object.insert(key.to_owned(), value);
            Some(())
        }
        Some((first, rest)) => {
            let below = object.entry(first).or_insert_with(|| json!({}));
            set(below.as_object_mut()?, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> Result<Value, String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        values(&given).map_err(|failure| failure.to_string())
    }

    #[test]
    fn pairs_make_an_object_of_numbers_texts_and_nulls() {
        let read = read(&[
            "interval=30",
            "fan.speed=high",
            "fan.on=true",
            "old=null",
            "text=\"30\"",
            "empty=",
            "a=b=c",
        ]);
        assert_eq!(
            read.unwrap(),
            json!({"interval": 30, "fan": {"speed": "high", "on": true}, "old": null, "text": "30", "empty": "", "a": "b=c"})
        );
    }

    #[test]
    fn one_object_of_json_is_taken_as_it_is() {
        assert_eq!(read(&[" {\"a\": {\"b\": [1]}}"]).unwrap(), json!({"a": {"b": [1]}}));
        assert!(read(&["{\"a\": 1"]).unwrap_err().contains("is not JSON"));
    }

    #[test]
    fn what_is_neither_is_refused_with_a_remedy() {
        assert!(read(&["temperature"]).unwrap_err().contains("write temperature=21"));
        assert!(read(&["=1"]).unwrap_err().contains("KEY=VALUE"));
        assert!(read(&["a=1", "a=2"]).unwrap_err().contains("a is given twice"));
        assert!(read(&["a=1", "a.b=2"]).unwrap_err().contains("a.b is given twice"));
        assert!(read(&["a.b=1", "a=2"]).unwrap_err().contains("a is given twice"));
    }
}
