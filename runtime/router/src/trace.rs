//! Trace ids: `X-Amzn-Trace-Id` as an Application Load Balancer writes it, and W3C's `traceparent`.
//!
//! What a client brings is passed on. What is missing is begun, both from the same 128 bits, so that the
//! two name one trace.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer ones are not a load balancer's, and are begun anew.
const MAX_TRACE_ID: usize = 1024;

/// Sees to it that both headers are there. `has_trace_id` and `has_traceparent` tell whether there were any
/// when the headers were scanned.
pub(crate) fn apply(headers: &mut HeaderMap, has_trace_id: bool, has_traceparent: bool) {
    let ids = Ids::new();
    let trace_id = if has_trace_id { with_self(headers, &ids) } else { None };
    headers.insert(TRACE_ID, trace_id.unwrap_or_else(|| ids.root()));
    if !(has_traceparent && is_traceparent(headers)) {
        headers.insert(TRACEPARENT, ids.traceparent());
        if has_traceparent {
            // It belongs to a trace that could not be read.
            headers.remove(TRACESTATE);
        }
    }
}

/// The ids of one request, in hexadecimal digits.
struct Ids {
    /// Eight digits of the time in seconds, 24 random ones.
    trace: [u8; 32],
    span: [u8; 16],
}

impl Ids {
    fn new() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let [low, middle, high]: [u64; 3] = rand::random();
        let (mut trace, mut span) = ([0; 32], [0; 16]);
        write_hex(&mut trace[..8], seconds);
        write_hex(&mut trace[8..16], middle);
        write_hex(&mut trace[16..], low);
        // An id of zeros is none.
        write_hex(&mut span, high | 1);
        Self { trace, span }
    }

    /// `Root=1-<seconds, 8 hex digits>-<24 random hex digits>`.
    fn root(&self) -> HeaderValue {
        let mut id = *b"Root=1-00000000-000000000000000000000000";
        self.write(&mut id[7..]);
        HeaderValue::from_bytes(&id).expect("hex digits are printable")
    }

    /// Writes `<seconds>-<random>`.
    fn write(&self, id: &mut [u8]) {
        id[..8].copy_from_slice(&self.trace[..8]);
        id[9..33].copy_from_slice(&self.trace[8..]);
    }

    /// `00-<seconds><random>-<random>-01`. The flag asks for the trace to be recorded, as whoever takes
    /// part in one that was begun without it would leave themselves out.
    fn traceparent(&self) -> HeaderValue {
        let mut id = *b"00-00000000000000000000000000000000-0000000000000000-01";
        id[3..35].copy_from_slice(&self.trace);
        id[36..52].copy_from_slice(&self.span);
        HeaderValue::from_bytes(&id).expect("hex digits are printable")
    }
}

/// Adds our own id to those a client sent: `Self=<ours>;` in front, in place of an earlier hop's. `None`
/// if there is nothing to add it to.
fn with_self(headers: &HeaderMap, ids: &Ids) -> Option<HeaderValue> {
    let sent = headers.get(TRACE_ID)?.to_str().ok().filter(|sent| sent.len() <= MAX_TRACE_ID)?;
    if !sent.split(';').any(|field| field.trim().starts_with("Root=")) {
        return None;
    }
    let mut value = *b"Self=1-00000000-000000000000000000000000";
    ids.write(&mut value[7..]);
    let mut value = value.to_vec();
    for field in
        sent.split(';').map(str::trim).filter(|field| !field.is_empty() && !field.starts_with("Self="))
    {
        value.push(b';');
        value.extend_from_slice(field.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
}

/// Whether there is one `traceparent` and it can be read (W3C Trace Context, 3.2).
fn is_traceparent(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let is_hex = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let is_set = |part: &[u8]| is_hex(part) && part.iter().any(|byte| *byte != b'0');
    value.len() >= 55
        && value[2] == b'-' && value[35] == b'-' && value[52] == b'-'
        && is_hex(&value[..2]) && &value[..2] != b"ff"
        && is_set(&value[3..35]) && is_set(&value[36..52]) && is_hex(&value[53..55])
        // Later versions may have more behind it.
        && (value.len() == 55 || (&value[..2] != b"00" && value[55] == b'-'))
}

/// Fills `digits` with the low bits of `value`. The general formatter takes several times as long, and
/// this is done for every request.
fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let has = |name: HeaderName, headers: &HeaderMap| headers.contains_key(name);
        let (trace_id, traceparent) = (has(TRACE_ID, &headers), has(TRACEPARENT, &headers));
        apply(&mut headers, trace_id, traceparent);
        headers
    }

    const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn what_is_missing_is_begun_as_one_trace() {
        let headers = applied(&[]);
        let root = headers[TRACE_ID].to_str().unwrap().strip_prefix("Root=1-").unwrap().replace('-', "");
        let parent: Vec<&str> = headers[TRACEPARENT].to_str().unwrap().split('-').collect();
        assert_eq!((parent[0], parent[1], parent[2].len(), parent[3]), ("00", root.as_str(), 16, "01"));
        assert_ne!(headers[TRACE_ID], applied(&[])[TRACE_ID]);
        let mut digits = [0; 8];
        write_hex(&mut digits, 0x12_0000_abcd);
        assert_eq!(&digits, b"0000abcd");
    }

    #[test]
    fn what_is_there_is_passed_on() {
        let headers = applied(&[("x-amzn-trace-id", ROOT), ("traceparent", PARENT), ("tracestate", "a=1")]);
        let shown = headers[TRACE_ID].to_str().unwrap();
        assert!(shown.starts_with("Self=1-") && shown.ends_with(&format!(";{ROOT}")), "{shown}");
        assert_eq!(
            (&headers[TRACEPARENT], &headers[TRACESTATE]),
            (&PARENT.parse().unwrap(), &"a=1".parse().unwrap())
        );
        let again = applied(&[("x-amzn-trace-id", "Self=1-1-2;Root=1-a-b;Sampled=1")]);
        let shown = again[TRACE_ID].to_str().unwrap();
        assert!(shown.ends_with(";Root=1-a-b;Sampled=1") && shown.matches("Self=").count() == 1, "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew() {
        let headers =
            applied(&[("x-amzn-trace-id", "Mine=1"), ("traceparent", "nonsense"), ("tracestate", "a=1")]);
        assert!(headers[TRACE_ID].to_str().unwrap().starts_with("Root=1-"));
        assert!(!headers.contains_key(TRACESTATE));
        assert!(is_traceparent(&headers));
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(bad));
            assert!(!is_traceparent(&headers), "{bad}");
        }
    }
}
