//! W3C trace context: what the client sent, what it gets back and what events carry.

use crate::wire::Head;

/// One request's place in a trace.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    id: String,
    span: String,
}

impl Trace {
    /// Continues the client's trace, or begins one.
    pub(super) fn of(head: &Head) -> Self {
        let sent = head.header("traceparent").and_then(trace_id);
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let span = unique[..16].to_owned();
        let id = sent.map_or_else(|| head.request_id.simple().to_string(), str::to_owned);
        Self { id, span }
    }

    pub(super) fn response(&self) -> String {
        self.parent()
    }

    /// The `traceparent` of what this request causes.
    pub(super) fn parent(&self) -> String {
        format!("00-{}-{}-01", self.id, self.span)
    }

    /// As ASP.NET writes it into problem details.
    pub(super) fn problem(&self) -> String {
        format!("00-{}-{}-00", self.id, self.span)
    }
}

fn trace_id(traceparent: &str) -> Option<&str> {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [version, id, span, flags, ..] = parts.as_slice() else { return None };
    let is_valid = version.len() == 2 && id.len() == 32 && span.len() == 16 && flags.len() == 2;
    let is_valid = is_valid && [version, id, span, flags].into_iter().all(|part| is_hex(part));
    (is_valid && id.bytes().any(|b| b != b'0')).then_some(*id)
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    #[test]
    fn only_a_well_formed_trace_is_continued() {
        let id = "18f4e34b3e4a784aadf5913917537e7d";
        assert_eq!(trace_id(&format!("00-{id}-691a71e0a220d642-01")), Some(id));
        for bad in [
            "",
            "00",
            &format!("00-{id}-691a71e0a220d642"),
            &format!("00-{id}-xyz-01"),
            &format!("00-{}-691a71e0a220d642-01", "0".repeat(32)),
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
